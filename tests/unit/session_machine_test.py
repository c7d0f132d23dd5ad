"""What a session may do next: the table, the monitor's lease, the latch."""

from itertools import product

import msgspec
import pytest

from brainforge_edge.core.errors import SessionError
from brainforge_edge.sessions.machine import (
    BEGUN,
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
from tests.unit.session_material import S, session

T0 = 1000 * S
ASKED = [cause for cause in Cause if cause not in OWN]


def after(*causes: Cause, now_ns: int = T0, mode: str = "dual") -> Bedside:
    bedside = renewed(Bedside(), now_ns).bedside
    for cause in causes:
        start = session(mode=mode) if cause is Cause.START_ASKED else None
        bedside = moved(bedside, cause, now_ns, session=start).bedside
    return bedside


TO_RECORDING = (Cause.START_ASKED, Cause.DEVICES_READY, Cause.FLUSHED)


def in_state(state: State) -> Bedside:
    causes = {
        State.IDLE: (),
        State.CONNECTING: TO_RECORDING[:1],
        State.FLUSHING: TO_RECORDING[:2],
        State.RECORDING: TO_RECORDING,
        State.SAVING: (*TO_RECORDING, Cause.STOP_ASKED),
        State.FAILED: (*TO_RECORDING, Cause.STOP_ASKED, Cause.SAVE_FAILED),
    }
    bedside = after(*causes[state])
    assert bedside.state is state
    return bedside


def test_a_session_goes_through_its_states_and_ends_idle() -> None:
    bedside = after()
    seen = []
    for cause in (*TO_RECORDING, Cause.PROTOCOL_ENDED, Cause.SAVED):
        start = session() if cause is Cause.START_ASKED else None
        step = moved(bedside, cause, T0, session=start)
        bedside = step.bedside
        seen += [(each.cause, each.after) for each in step.steps]
    assert [each for _, each in seen] == [
        State.CONNECTING, State.FLUSHING, State.RECORDING, State.SAVING, State.IDLE,
    ]  # fmt: skip
    assert bedside == Bedside(lease=bedside.lease)


@pytest.mark.parametrize(("cause", "state"), list(product(ASKED, State)))
def test_a_step_that_is_not_in_the_table_is_refused_and_changes_nothing(
    cause: Cause, state: State
) -> None:
    bedside = in_state(state)
    before = msgspec.json.encode(bedside)
    start = session() if cause is Cause.START_ASKED else None
    target = TRANSITIONS[cause].get(state)
    if target is not None:
        assert moved(bedside, cause, T0, session=start).bedside.state is target
    else:
        with pytest.raises(SessionError) as refused:
            moved(bedside, cause, T0, session=start)
        assert refused.value.why
        assert refused.value.remedy
    assert msgspec.json.encode(bedside) == before


@pytest.mark.parametrize(
    ("state", "cause", "code"),
    [
        (State.CONNECTING, Cause.START_ASKED, "session.already_running"),
        (State.RECORDING, Cause.START_ASKED, "session.already_running"),
        (State.SAVING, Cause.START_ASKED, "session.still_saving"),
        (State.FAILED, Cause.START_ASKED, "session.not_acknowledged"),
        (State.IDLE, Cause.STOP_ASKED, "session.not_running"),
        (State.SAVING, Cause.STOP_ASKED, "session.still_saving"),
        (State.RECORDING, Cause.ACKNOWLEDGED, "session.not_failed"),
    ],
)
def test_a_refusal_is_named(state: State, cause: Cause, code: str) -> None:
    start = session() if cause is Cause.START_ASKED else None
    with pytest.raises(SessionError) as refused:
        moved(in_state(state), cause, T0, session=start)
    assert refused.value.code == code


def test_what_has_a_function_of_its_own_is_not_asked_for() -> None:
    for cause in OWN:
        with pytest.raises(ValueError):
            moved(in_state(State.RECORDING), cause, T0)


def test_flushing_moves_the_feedback_cursor_and_nothing_else() -> None:
    before = after(Cause.START_ASKED)
    flushing = moved(before, Cause.DEVICES_READY, T0 + S).bedside
    assert flushing.feedback_from_ns == T0 + S
    assert msgspec.structs.replace(flushing, state=before.state, feedback_from_ns=None) == before
    # Rows of before the cursor are still there to be adopted.
    assert flushing.preroll_ns(T0 + S, 60 * S) == S


@pytest.mark.parametrize(
    ("mode", "is_open", "has_feedback"),
    [("record", True, False), ("feedback", False, True), ("dual", True, True)],
)
def test_a_mode_says_what_is_recorded_and_what_is_shown(
    mode: str, *, is_open: bool, has_feedback: bool
) -> None:
    bedside = after(*TO_RECORDING, mode=mode)
    assert bedside.is_open is is_open
    assert bedside.is_recording(T0) is is_open
    assert (bedside.feedback_from_ns is not None) is has_feedback
    assert bedside.session is not None
    assert bool(bedside.session.recording) is is_open


def test_without_a_monitor_no_recording_begins() -> None:
    bedside = after(Cause.START_ASKED, Cause.DEVICES_READY)
    with pytest.raises(SessionError) as refused:
        moved(bedside, Cause.FLUSHED, T0 + LEASE_NS)
    assert refused.value.code == "session.no_monitor"
    assert refused.value.transient
    again = renewed(bedside, T0 + LEASE_NS).bedside
    assert moved(again, Cause.FLUSHED, T0 + LEASE_NS).bedside.state is State.RECORDING


def test_preroll_reaches_back_no_further_than_the_monitor() -> None:
    bedside = Bedside()
    assert bedside.preroll_ns(T0, 60 * S) == 0
    bedside = renewed(bedside, T0).bedside
    for second in range(1, 101):
        bedside = renewed(bedside, T0 + second * S).bedside
    assert bedside.preroll_ns(T0 + 10 * S, 60 * S) == 10 * S
    assert bedside.preroll_ns(T0 + 100 * S, 60 * S) == 60 * S
    assert bedside.preroll_ns(T0 + 100 * S + LEASE_NS, 60 * S) == 0


def test_a_lapsed_lease_saves_the_session_and_the_recorder_writes_until_it_is_saved() -> None:
    bedside = after(*TO_RECORDING)
    lapse = T0 + LEASE_NS
    assert not watched(bedside, lapse - 1).steps
    assert not bedside.is_recording(lapse)  # already before anyone looked
    step = watched(bedside, lapse + S)
    assert [(each.cause, each.after) for each in step.steps] == [
        (Cause.MONITOR_LAPSED, State.SAVING)
    ]
    bedside = step.bedside
    assert bedside.is_open
    assert bedside.feedback_from_ns is None
    assert bedside.is_degraded
    bedside = moved(bedside, Cause.SAVED, lapse + 5 * S).bedside
    assert (bedside.state, bedside.is_open) == (State.FAILED, False)
    assert bedside.unsupervised_ns == 5 * S  # from the end of the lease, not from when it was seen
    assert moved(bedside, Cause.ACKNOWLEDGED, lapse + 6 * S).bedside.state is State.IDLE


def test_a_word_of_the_monitor_that_comes_too_late_does_not_mend_the_lease() -> None:
    bedside = after(*TO_RECORDING)
    step = renewed(bedside, T0 + LEASE_NS)
    assert step.bedside.state is State.SAVING
    assert step.bedside.lease is not None
    assert step.bedside.lease.since_ns == T0 + LEASE_NS


@pytest.mark.parametrize("state", State)
def test_an_emergency_stop_latches_in_every_state(state: State) -> None:
    step = emergency_stopped(in_state(state), T0 + 1, "nurse")
    bedside = step.bedside
    assert bedside.latch is not None
    assert bedside.feedback_from_ns is None
    assert bedside.state is (State.SAVING if state in BEGUN else state)
    assert bedside.is_open is in_state(state).is_open
    assert emergency_stopped(bedside, T0 + 2, "other") == Moved(bedside)
    if bedside.state is State.SAVING:
        with pytest.raises(SessionError) as refused:
            emergency_released(bedside, "doctor")
        assert refused.value.code == "session.still_saving"
        bedside = moved(bedside, Cause.SAVED, T0 + 3).bedside
    if bedside.state is State.FAILED:
        bedside = moved(bedside, Cause.ACKNOWLEDGED, T0 + 4).bedside
    with pytest.raises(SessionError) as refused:
        moved(bedside, Cause.START_ASKED, T0 + 5, session=session())
    assert refused.value.code == "session.emergency_stop"
    assert emergency_released(bedside, "doctor").latch is None


def test_releasing_is_done_by_someone_and_only_what_is_latched() -> None:
    latched = emergency_stopped(after(), T0, "nurse").bedside
    for bedside, by, code in (
        (after(), "doctor", "session.not_latched"),
        (latched, " ", "session.bad_person"),
    ):
        with pytest.raises(SessionError) as refused:
            emergency_released(bedside, by)
        assert refused.value.code == code


def test_a_lost_device_degrades_the_session_and_the_others_go_on() -> None:
    bedside = device_lost(after(*TO_RECORDING), "hat")
    assert (bedside.state, bedside.is_degraded, bedside.lost) == (State.RECORDING, True, ("hat",))
    assert not device_back(bedside, "hat").is_degraded
    for other in (bedside, after()):
        with pytest.raises(SessionError) as refused:
            device_lost(other, "helmet")
        assert refused.value.code == "session.unknown_device"


def test_withdrawn_devices_leave_and_the_last_one_ends_the_session() -> None:
    bedside = released(device_lost(after(*TO_RECORDING), "hat"), ("muse-1", "hat"), T0).bedside
    assert (bedside.state, bedside.is_degraded) == (State.RECORDING, False)
    assert bedside.session is not None
    assert bedside.session.devices == {"muse-2": "p2"}
    step = released(bedside, ("muse-2",), T0)
    assert [each.cause for each in step.steps] == [Cause.CONSENT_WITHDRAWN]
    assert step.bedside.is_open
    assert moved(step.bedside, Cause.SAVED, T0).bedside.state is State.IDLE


def test_what_could_not_be_saved_is_saved_again_or_acknowledged() -> None:
    failed = in_state(State.FAILED)
    assert failed.is_open
    again = moved(failed, Cause.SAVE_ASKED, T0).bedside
    assert again.ended_by is Cause.STOP_ASKED
    assert moved(again, Cause.SAVED, T0).bedside.state is State.IDLE
    lapsed = watched(after(*TO_RECORDING), T0 + LEASE_NS).bedside
    with pytest.raises(SessionError) as refused:
        moved(moved(lapsed, Cause.SAVED, T0 + LEASE_NS).bedside, Cause.SAVE_ASKED, T0 + LEASE_NS)
    assert refused.value.code == "session.nothing_to_save"


def test_a_restart_connects_again_and_the_protocol_went_on() -> None:
    bedside = after(*TO_RECORDING)
    step = resumed(bedside, T0 + 9 * S, seen_ns=T0 + 4 * S, is_same_boot=True)
    assert [(each.cause, each.after) for each in step.steps] == [(Cause.RESUMED, State.CONNECTING)]
    back = step.bedside
    assert back.is_open
    assert back.elapsed_at(T0 + 9 * S) == 9 * S
    back = renewed(back, T0 + 10 * S).bedside
    assert back.unsupervised_ns == 6 * S
    back = moved(back, Cause.DEVICES_READY, T0 + 10 * S).bedside
    back = moved(back, Cause.FLUSHED, T0 + 11 * S).bedside
    assert (back.state, back.elapsed_at(T0 + 11 * S)) == (State.RECORDING, 11 * S)


def test_over_a_reboot_the_protocol_stands_still_until_it_records_again() -> None:
    bedside = after(*TO_RECORDING)
    back = resumed(bedside, 7 * S, seen_ns=T0 + 4 * S, is_same_boot=False).bedside
    assert back.elapsed_at(20 * S) == 4 * S
    back = renewed(back, 20 * S).bedside
    back = moved(back, Cause.DEVICES_READY, 20 * S).bedside
    back = moved(back, Cause.FLUSHED, 21 * S).bedside
    assert back.elapsed_at(22 * S) == 5 * S


def test_a_monitor_that_does_not_come_back_after_a_restart_ends_the_session() -> None:
    back = resumed(after(*TO_RECORDING), T0 + S, seen_ns=T0, is_same_boot=True).bedside
    assert not watched(back, T0 + S + RESUME_NS - 1).steps
    step = watched(back, T0 + S + RESUME_NS)
    assert [each.cause for each in step.steps] == [Cause.MONITOR_LAPSED]
    assert step.bedside.is_open
