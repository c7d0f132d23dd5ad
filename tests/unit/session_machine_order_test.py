"""No order of events gets a session around its table, its monitor or its latch: restarts and reboots among them."""

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from brainforge_edge.core.errors import SessionError
from brainforge_edge.sessions import machine
from brainforge_edge.sessions.card import Mode
from brainforge_edge.sessions.machine import (
    BEGUN,
    FAULTS,
    LEASE_NS,
    OWN,
    RESUME_NS,
    TRANSITIONS,
    Bedside,
    Cause,
    Moved,
    State,
    device_back,
    device_lost,
    emergency_released,
    emergency_stopped,
    moved,
    released,
    renewed,
    resumed,
    watched,
)
from tests.unit.session_material import WORN, S, session

T0 = 1000 * S
ASKED = [cause for cause in Cause if cause not in OWN]
TO_RECORDING = (Cause.START_ASKED, Cause.DEVICES_READY, Cause.FLUSHED)


def refusal(call: Callable[[], object]) -> str:
    """Code of the error, "" if there was none."""
    try:
        call()
    except SessionError as refused:
        return refused.code
    return ""


class AnyOrder(RuleBasedStateMachine):
    """Every input in any order, at any time; restarts and reboots among them."""

    def __init__(self) -> None:
        super().__init__()
        self.now = T0
        self.bedside = Bedside()
        self.was_open = False
        self.latched = False
        self.released_by_name = False

    def take(self, step: Moved) -> None:
        at = self.bedside.state
        for each in step.steps:
            allowed = TRANSITIONS[each.cause][each.before]
            is_fault = each.cause is Cause.SAVED and step.bedside.ended_by in FAULTS
            assert each.before is at
            assert each.after is (State.FAILED if is_fault else allowed)
            at = each.after
        assert at is step.bedside.state
        # Rows are never left: what is open ends by being saved, or by a person who was told.
        if self.bedside.is_open and not step.bedside.is_open:
            assert {each.cause for each in step.steps} & {Cause.SAVED, Cause.ACKNOWLEDGED}
        self.bedside = step.bedside

    @rule(ns=st.sampled_from([1, S, LEASE_NS - 1, LEASE_NS, RESUME_NS]))
    def time_passes(self, ns: int) -> None:
        self.now += ns
        self.take(watched(self.bedside, self.now))

    @rule(cause=st.sampled_from(ASKED), mode=st.sampled_from(list(Mode)))
    def asked(self, cause: Cause, mode: Mode) -> None:
        start = session(mode=mode) if cause is Cause.START_ASKED else None
        refusal(lambda: self.take(moved(self.bedside, cause, self.now, session=start)))

    @rule(mode=st.sampled_from(list(Mode)), has_monitor=st.booleans())
    def runs(self, mode: Mode, *, has_monitor: bool) -> None:
        """Else random orders would seldom come this far."""
        if has_monitor:
            self.take(renewed(self.bedside, self.now))
        for cause in TO_RECORDING:
            self.asked(cause, mode)

    @rule()
    def monitor_speaks(self) -> None:
        self.take(renewed(self.bedside, self.now))

    @rule()
    def emergency(self) -> None:
        self.take(emergency_stopped(self.bedside, self.now, "nurse"))
        self.latched = True

    @rule()
    def release(self) -> None:
        code = refusal(lambda: emergency_released(self.bedside, "doctor"))
        assert code in {"", "session.not_latched", "session.still_saving"}
        if not code:
            self.bedside = emergency_released(self.bedside, "doctor")
            self.latched = False

    @rule(device=st.sampled_from(list(WORN)), is_lost=st.booleans())
    def device(self, device: str, *, is_lost: bool) -> None:
        change = device_lost if is_lost else device_back
        code = refusal(lambda: change(self.bedside, device))
        assert code in {"", "session.unknown_device"}
        if not code:
            self.bedside = change(self.bedside, device)

    @rule(device=st.sampled_from(list(WORN)))
    def withdrawal(self, device: str) -> None:
        code = refusal(lambda: self.take(released(self.bedside, (device,), self.now)))
        assert code in {"", "session.unknown_device"}

    @rule(seconds=st.integers(0, 40), is_same_boot=st.booleans())
    def restart(self, seconds: int, *, is_same_boot: bool) -> None:
        seen = self.now
        elapsed = self.bedside.elapsed_at(seen)
        self.now = self.now + seconds * S if is_same_boot else T0 + seconds * S
        stored = msgspec.json.decode(
            msgspec.json.encode(msgspec.structs.replace(self.bedside, lease=None)), type=Bedside
        )
        self.take(resumed(stored, self.now, seen_ns=seen, is_same_boot=is_same_boot))
        ran = seconds * S if is_same_boot and self.bedside.running_ns is not None else 0
        assert self.bedside.elapsed_at(self.now) == elapsed + ran

    @invariant()
    def recording_is_watched(self) -> None:
        if self.bedside.state is State.RECORDING:
            assert self.bedside.is_watched(self.now)

    @invariant()
    def a_latch_is_opened_by_a_release_alone(self) -> None:
        assert (self.bedside.latch is not None) is self.latched
        assert not (self.latched and self.bedside.state in BEGUN)

    @invariant()
    def nothing_is_open_at_rest_and_feedback_ends_with_the_session(self) -> None:
        state = self.bedside.state
        if state is State.IDLE:
            assert self.bedside == Bedside(latch=self.bedside.latch, lease=self.bedside.lease)
        if state not in {State.FLUSHING, State.RECORDING}:
            assert self.bedside.feedback_from_ns is None
        if state not in BEGUN:
            assert self.bedside.running_ns is None
        if self.bedside.session is not None and self.bedside.session.mode is Mode.FEEDBACK:
            assert not self.bedside.is_open

    @invariant()
    def what_is_recorded_without_a_monitor_is_counted(self) -> None:
        if self.bedside.is_open and self.bedside.state is not State.FAILED:
            is_counted = self.bedside.unsupervised_since_ns is not None
            assert is_counted is not self.bedside.is_watched(self.now)


AnyOrder.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestAnyOrder = AnyOrder.TestCase


@pytest.mark.parametrize("mutant", ["unwatched", "unlatched", "dropped"])
def test_a_machine_with_a_hole_is_caught(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if mutant == "unwatched":
        monkeypatch.setattr(machine, "_refuse_unwatched", lambda *_: None)
    elif mutant == "unlatched":
        monkeypatch.setattr(machine, "_refuse_latched", lambda *_: None)
    else:
        ending = machine._ending
        monkeypatch.setattr(machine, "_ending", lambda *a: {**ending(*a), "is_open": False})
    with pytest.raises((AssertionError, BaseExceptionGroup)):
        TestAnyOrder("runTest").runTest()
