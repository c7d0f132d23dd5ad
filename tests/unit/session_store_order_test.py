"""A store in any order of requests, full disks, restarts and reboots: what is kept is what the machine decided."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from brainforge_edge.core.errors import SessionError, StorageError
from brainforge_edge.core.events import EventType
from brainforge_edge.sessions.machine import (
    BEGUN,
    LEASE_NS,
    OWN,
    RESUME_NS,
    Bedside,
    Cause,
    State,
    resumed,
)
from tests.unit.session_material import WORN, HandClock, S, session
from tests.unit.session_store_material import Box, FullDatabase

MOVES = [each for each in Cause if each not in {*OWN, Cause.START_ASKED, Cause.SAVED}]


class AnyOrder(RuleBasedStateMachine):
    """One box, its disk and its clock."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.boot = 1
        self.names = 0
        self.box = Box(self.folder, HandClock(), boot="boot-1")

    def teardown(self) -> None:
        FullDatabase.is_full = False
        self.box.close()
        shutil.rmtree(self.folder)

    def attempt(self, call: Callable[[], None]) -> None:
        before = self.box.store.bedside.state
        try:
            call()
        except StorageError:
            assert FullDatabase.is_full
        except SessionError:
            # The time may have ended something first; the request itself did nothing.
            assert self.box.store.bedside.state in {before, State.SAVING}

    @rule(ns=st.sampled_from([1, S, 11 * S, LEASE_NS, RESUME_NS, 61 * S]))
    def time_passes(self, ns: int) -> None:
        self.box.clock.now_ns += ns
        self.attempt(self.box.store.tick)

    @rule()
    def monitor_speaks(self) -> None:
        self.attempt(self.box.store.renew)

    @rule()
    def begins(self) -> None:
        self.names += 1
        started = msgspec.structs.replace(session(), session_id=f"s-{self.names}")
        store = self.box.store
        self.attempt(store.renew)
        self.attempt(lambda: store.start(started))
        for cause in (Cause.DEVICES_READY, Cause.FLUSHED):
            self.attempt(lambda cause=cause: store.move(cause))  # type: ignore[misc]

    @rule(cause=st.sampled_from(MOVES))
    def asked(self, cause: Cause) -> None:
        self.attempt(lambda: self.box.store.move(cause))

    @rule(n=st.integers(1, 3))
    def is_given_up(self, n: int) -> None:
        """Else random orders would seldom come this far."""
        store = self.box.store
        for cause in (Cause.STOP_ASKED, Cause.SAVE_FAILED, Cause.ACKNOWLEDGED)[:n]:
            self.attempt(lambda cause=cause: store.move(cause))  # type: ignore[misc]

    @rule()
    def saved(self) -> None:
        self.attempt(lambda: self.box.store.finish({"lost": 0}))

    @rule()
    def emergency(self) -> None:
        self.attempt(lambda: self.box.store.emergency_stop("nurse"))
        assert self.box.store.bedside.latch is not None
        assert self.box.store.bedside.state not in BEGUN

    @rule()
    def release(self) -> None:
        self.attempt(lambda: self.box.store.release_emergency_stop("doctor"))

    @rule(device=st.sampled_from(list(WORN)), what=st.sampled_from(["lost", "back", "gone"]))
    def device(self, device: str, what: str) -> None:
        store = self.box.store
        if what == "gone":
            self.attempt(lambda: store.withdraw((device,)))
        else:
            change = store.device_lost if what == "lost" else store.device_back
            self.attempt(lambda: change(device))

    @rule(is_full=st.booleans())
    def disk(self, *, is_full: bool) -> None:
        self.box.database.__class__ = FullDatabase
        FullDatabase.is_full = is_full

    @rule(seconds=st.integers(0, 40), is_reboot=st.booleans())
    def restart(self, seconds: int, *, is_reboot: bool) -> None:
        FullDatabase.is_full = False
        self.attempt(self.box.store.tick)  # what an emergency stop owes is written
        row = self.box.database.one("SELECT seen_ns FROM bedside")
        before = self.box.store.bedside
        clock = self.box.clock
        self.box.close()
        if is_reboot:
            self.boot += 1
            clock.now_ns = S
        clock.now_ns += seconds * S
        self.box = Box(self.folder, clock, boot=f"boot-{self.boot}")
        if row is None:
            assert self.box.store.bedside == Bedside()
            return
        wanted = resumed(before, clock.now_ns, seen_ns=row[0], is_same_boot=not is_reboot)
        found = self.box.store.bedside
        # What only the lease changed since the last write is told anew.
        known = {"unsupervised_ns": 0, "unsupervised_since_ns": None}
        assert msgspec.structs.replace(found, **known) == msgspec.structs.replace(
            wanted.bedside, **known
        )

    @invariant()
    def rows_have_their_events(self) -> None:
        self.box.check()

    @invariant()
    def the_last_row_tells_the_state(self) -> None:
        session = self.box.store.bedside.session
        if session is None or self.box.store._owed:
            return
        states = [row.state for row in self.box.store.steps(session.session_id) if not row.phase]
        assert states[-1] == self.box.store.bedside.state.value

    @invariant()
    def every_session_is_completed_once(self) -> None:
        done = self.box.database.query(
            "SELECT session_id, outcome FROM session ORDER BY session_id"
        )
        told = [
            each.session_id
            for each in self.box.events()
            if each.event_type is EventType.SESSION_COMPLETED
        ]
        running = self.box.store.bedside
        open_now = {running.session.session_id} if running.session is not None else set()
        assert sorted(told) == sorted(name for name, outcome in done if outcome is not None)
        assert {name for name, outcome in done if outcome is None} <= open_now


AnyOrder.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestAnyOrder = AnyOrder.TestCase
