"""What is kept of a session: each change with its event, over kills, restarts and reboots."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec
import pytest

from brainforge_edge.core.errors import SessionError, StorageError
from brainforge_edge.core.events import EventType
from brainforge_edge.sessions.machine import LEASE_NS, Bedside, Cause, State
from brainforge_edge.sessions.protocol import Threshold
from brainforge_edge.sessions.store import CHECKPOINT_NS
from brainforge_edge.storage.node import migrations, open_node
from brainforge_edge.storage.sqlite import Database
from tests.unit.recorder_faulty_disk import Killed
from tests.unit.session_material import HandClock, S, plan, session
from tests.unit.session_store_material import Box, FullDatabase, left, left_behind, state_of

UTC = 1_800_000_000 * S


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = Box(tmp_path / "node", HandClock())
    yield made
    made.close()


def again(box: Box, **changes: Any) -> Box:
    """The next process: the first one ended without a word."""
    box.close()
    return Box(box.root, box.clock, **changes)


def test_a_whole_session_is_told_step_by_step(box: Box) -> None:
    box.records()
    box.goes_on(60)
    assert state_of(box) is State.SAVING
    box.store.finish({"lost": 0})
    assert box.store.bedside == Bedside(lease=box.store.bedside.lease)
    told = [
        (each.event_type.value, each.data.get("phase", each.data.get("cause")))
        for each in box.events()
    ]
    assert told == [
        ("session.started", "start_asked"),
        ("session.state_changed", "devices_ready"),
        ("session.state_changed", "flushed"),
        ("session.phase_changed", "one"),
        ("session.phase_changed", "two"),
        ("session.phase_changed", "three"),
        ("session.state_changed", "protocol_ended"),
        ("session.completed", "saved"),
    ]
    box.check()
    first = box.events()[0]
    assert {each.correlation_id for each in box.events()} == {first.event_id}
    causes = [each.causation_id for each in box.events()]
    assert causes == ["", *[each.event_id for each in box.events()][:-1]]
    assert first.data["devices"] == {"muse-1": "p1", "muse-2": "p2", "hat": "p1"}
    assert box.events()[-1].data["outcome"] == "protocol_ended"
    assert box.events()[-1].data["summary"] == {"lost": 0}
    kept = box.store.session("s-1")
    assert kept == session()


def test_a_lease_is_not_written(box: Box) -> None:
    box.records()
    before = box.database.query("SELECT * FROM bedside")
    for _ in range(3):
        box.goes_on(1)
    assert box.database.query("SELECT * FROM bedside") == before
    assert b'"lease":null' in before[0][4]
    box.goes_on(2)
    assert box.database.query("SELECT * FROM bedside") != before  # the checkpoint


def test_a_start_that_is_refused_changes_nothing(box: Box) -> None:
    box.records()
    before = (box.database.query("SELECT * FROM bedside"), box.events(), box.store.bedside)
    with pytest.raises(SessionError) as refused:
        box.store.start(session())
    assert refused.value.code == "session.already_running"
    assert (box.database.query("SELECT * FROM bedside"), box.events(), box.store.bedside) == before


@pytest.mark.parametrize("away_s", [0, 3, 17])
def test_a_restart_in_a_phase_goes_on_in_it_with_the_time_that_is_left(
    box: Box, away_s: int
) -> None:
    box.records()
    box.goes_on(13)
    assert left(box) == 17  # of phase two
    box.clock.sleep(away_s)
    box = again(box)
    assert state_of(box) is State.CONNECTING
    assert box.store.bedside.is_open
    assert left(box) == (17 - away_s or 30)
    box.store.renew()
    box.store.move(Cause.DEVICES_READY)
    box.store.move(Cause.FLUSHED)
    box.goes_on(47 - away_s)
    assert state_of(box) is State.SAVING
    assert box.store.bedside.ended_by is Cause.PROTOCOL_ENDED
    phases = [row.phase for row in box.store.steps("s-1") if row.phase]
    assert phases == ["one", "two", "three"]
    box.check()
    box.close()


def test_phases_that_passed_while_the_program_was_away_are_told_with_their_times(box: Box) -> None:
    box.records()
    began = box.clock.now_ns
    box.clock.sleep(45)
    box = again(box)
    box.store.tick()
    rows = [row for row in box.store.steps("s-1") if row.phase]
    assert [(row.phase, row.t_ns - began) for row in rows] == [
        ("one", 0), ("two", 10 * S), ("three", 30 * S),
    ]  # fmt: skip
    box.close()


def test_a_reboot_in_a_phase_goes_on_in_it_with_the_time_that_was_left(box: Box) -> None:
    box.clock.utc = UTC
    box.records()
    box.goes_on(13)
    for boot in ("boot-2", "boot-3"):
        box.clock.now_ns = 2 * S  # the clock starts anew
        assert box.clock.utc is not None
        box.clock.utc += 600 * S
        box = again(box, boot=boot)
        box.clock.sleep(8)
        box.store.renew()  # devices take their time
        assert box.store.position() is not None
        assert 17 <= left(box) <= 17 + CHECKPOINT_NS / S
    resumed = [each.data for each in box.events() if each.data.get("cause") == "resumed"]
    assert [each["reboot"] for each in resumed] == [True, True]
    assert 600 * S <= resumed[0]["away_ns"] <= 600 * S + CHECKPOINT_NS
    box.store.move(Cause.DEVICES_READY)
    box.store.move(Cause.FLUSHED)
    before = left(box)
    box.goes_on(5)
    assert left(box) == before - 5
    box.check()
    box.close()


def test_without_a_known_time_nobody_says_how_long_the_box_was_away(box: Box) -> None:
    box.records()
    box.clock.now_ns = S
    box = again(box, boot="boot-2")
    assert box.events()[-1].data["away_ns"] is None
    box.close()


def test_a_latch_outlasts_a_reboot(box: Box) -> None:
    box.store.emergency_stop("nurse")
    box = again(box, boot="boot-2")
    with pytest.raises(SessionError) as refused:
        box.store.start(session())
    assert refused.value.code == "session.emergency_stop"
    box.store.release_emergency_stop("doctor")
    box = again(box, boot="boot-2")
    box.records()
    types = [each.event_type for each in box.events()]
    assert types[0] is EventType.EMERGENCY_STOP
    assert EventType.EMERGENCY_RELEASED in types
    box.close()


def test_an_emergency_stop_overtakes_what_waits(box: Box) -> None:
    box.records()
    box.store.emergency_stop("nurse")
    assert state_of(box) is State.SAVING
    first, *others = box.outbox.unsent()
    assert first.event.event_type is EventType.EMERGENCY_STOP
    assert first.event.session_id == "s-1"
    box.outbox.mark_sent([first.id])
    box.outbox.mark_sent([first.id])
    assert [each.id for each in box.outbox.unsent()] == [each.id for each in others]
    assert box.outbox.count() == len(others)


def test_what_cannot_be_written_has_not_happened_but_an_emergency_stop_has(box: Box) -> None:
    box.records()
    box.goes_on(1)
    box.database.__class__ = FullDatabase
    FullDatabase.is_full = True
    before = box.store.bedside
    with pytest.raises(StorageError):
        box.store.move(Cause.STOP_ASKED)
    assert box.store.bedside == before
    for _ in range(2):
        with pytest.raises(StorageError):
            box.store.emergency_stop("nurse")
        assert state_of(box) is State.SAVING
        assert box.store.bedside.latch is not None
    FullDatabase.is_full = False
    box.store.tick()
    told = [each.event_type for each in box.events()]
    assert told.count(EventType.EMERGENCY_STOP) == 1
    box.check()
    assert [row.cause for row in box.store.steps("s-1")][-1] == "emergency_stop"
    box = again(box)
    assert box.store.bedside.latch is not None
    box.close()


def test_a_session_that_the_monitor_left_is_saved_and_told(box: Box) -> None:
    box.records()
    box.clock.sleep(LEASE_NS / S)
    assert not box.store.bedside.is_recording(box.clock.now_ns)
    box.store.tick()
    assert state_of(box) is State.SAVING
    box.store.finish({})
    assert state_of(box) is State.FAILED
    box = again(box)
    assert state_of(box) is State.FAILED
    box.store.move(Cause.ACKNOWLEDGED, by="nurse")
    assert state_of(box) is State.IDLE
    assert [each.data.get("outcome") for each in box.events() if "outcome" in each.data] == [
        "monitor_lapsed"
    ]
    box.check()
    box.close()


def test_what_was_given_up_unsaved_is_completed_as_that(box: Box) -> None:
    box.records()
    box.store.move(Cause.STOP_ASKED)
    box.store.move(Cause.SAVE_FAILED, why="no space")
    box.store.move(Cause.ACKNOWLEDGED, by="nurse")
    assert box.events()[-1].event_type is EventType.SESSION_COMPLETED
    assert box.events()[-1].data["outcome"] == "unsaved"
    box.check()


def test_devices_come_and_go_with_an_event(box: Box) -> None:
    box.records()
    n = len(box.events())
    for _ in range(2):
        box.store.device_lost("hat")
    box.store.device_back("hat")
    box.store.withdraw(("hat", "muse-1"))
    assert [(each.data["cause"], each.data["is_degraded"]) for each in box.events()[n:]] == [
        ("device_lost", True), ("device_back", False), ("devices_released", False),
    ]  # fmt: skip
    box = again(box)
    assert box.store.bedside.session is not None
    assert box.store.bedside.session.devices == {"muse-2": "p2"}
    box.close()


def test_a_row_that_cannot_be_read_is_named(box: Box) -> None:
    box.records()
    box.database.execute("UPDATE bedside SET kept = ?", (b"{",))
    with pytest.raises(StorageError) as refused:
        Box(box.root, box.clock)
    assert refused.value.code == "storage.session_unreadable"


def test_migrations_are_numbered_without_a_hole(tmp_path: Path) -> None:
    assert len(migrations()) == 4
    for _ in range(2):
        open_node(tmp_path).close()


def story(box: Box) -> Iterator[State]:
    """A session with all that can happen to it; after each step what was acknowledged."""
    store = box.store
    acts: list[Any] = [
        lambda: store.start(session()),
        lambda: store.move(Cause.DEVICES_READY),
        lambda: store.move(Cause.FLUSHED),
        lambda: box.goes_on(12),
        lambda: store.device_lost("hat"),
        lambda: store.emergency_stop("nurse"),
        lambda: store.finish({"lost": 0}),
        lambda: store.move(Cause.ACKNOWLEDGED),
        lambda: store.release_emergency_stop("doctor"),
    ]
    store.renew()
    for act in acts:
        act()
        yield store.bedside.state


def killed_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Dies at each statement in turn; what is found then has to fit. How many statements there were."""
    whole = Box(tmp_path / "whole", HandClock())
    states = [State.IDLE, *story(whole)]
    whole.close()
    execute = Database.execute
    at = count = 0

    def counted(self: Database, statement: str, values: Any = ()) -> int:
        nonlocal count
        count += 1
        if count == at:
            raise Killed
        return execute(self, statement, values)

    while True:
        at += 1
        box = Box(tmp_path / f"n{at}", HandClock())
        reached = [State.IDLE]
        count = 0
        try:
            with monkeypatch.context() as patched:
                patched.setattr(Database, "execute", counted)
                reached += story(box)
        except Killed:
            root = left_behind(box.root, tmp_path / f"left{at}")
        else:
            return at
        finally:
            box.close()
        found = Box(root, HandClock())
        try:
            found.check()
            may = set(states[len(reached) - 1 : len(reached) + 1])
            if {State.FLUSHING, State.RECORDING} & may:
                may.add(State.CONNECTING)  # resumed
            assert state_of(found) in may
        finally:
            found.close()


def test_a_kill_at_any_statement_leaves_a_state_with_its_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert killed_everywhere(tmp_path, monkeypatch) > 40


def test_a_change_that_is_no_transaction_would_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Database, "transaction", lambda _: nullcontext())
    with pytest.raises(AssertionError):
        killed_everywhere(tmp_path, monkeypatch)


def test_a_threshold_is_kept_and_each_change_is_told(box: Box) -> None:
    rule = Threshold(
        feature="relaxation", percentile=50, window_s=60, every_s=10, step=0.5, start=1, least=0,
        most=5,
    )  # fmt: skip
    assert box.store.adapt([]) is None
    protocol = msgspec.structs.replace(plan(), threshold=rule)
    box.store.renew()
    box.store.start(session(protocol=protocol))
    assert box.store.adapt([3.0] * 20) == 1
    box.store.move(Cause.DEVICES_READY)
    box.store.move(Cause.FLUSHED)
    assert [box.store.adapt([3.0] * 20) for _ in range(2)] == [1.5, 2.0]
    assert box.store.adapt([]) == 2.0
    told = [each.data for each in box.events() if each.event_type is EventType.THRESHOLD_CHANGED]
    assert [each["threshold"] for each in told] == [1.5, 2.0]
    box = again(box)
    assert box.store.bedside.threshold == 2.0
    box.close()
