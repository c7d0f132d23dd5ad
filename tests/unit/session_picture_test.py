"""What a nurse reads of a session in a terminal."""

from typing import Any

import pytest

from brainforge_edge.cli.session.picture import check_lines, clock_time, lines

IDLE: dict[str, Any] = {
    "state": "idle", "session": None, "phase": None, "is_recording": False, "is_degraded": False,
    "is_watched": True, "emergency_stop": False, "left_s": 0.0, "seats": {}, "lost_devices": [],
    "unsupervised_s": 0.0, "ended_by": None, "latch": None, "last": None,
}  # fmt: skip
CARD = {
    "protocol": "plan", "mode": "dual", "by": "nurse", "recording": "ses-1",
    "devices": {"hat": "p1", "cap": "p2"},
}  # fmt: skip
PHASE = {"name": "look", "left_s": 61.4, "next": "relax", "instruction": {"text": "Look."}}
SUMMARY = {"streams": [{"n_samples": 5}, {"n_samples": None}], "markers": 2, "lost": []}


def shown(**changes: Any) -> str:
    return "\n".join(lines({**IDLE, **changes}))


def test_a_session_that_records_says_so_with_phase_and_time_left() -> None:
    said = shown(state="recording", session=CARD, phase=PHASE, is_recording=True, left_s=3725.0)
    assert said == (
        "session RECORDING  REC\n"
        "protocol plan, mode dual, 1:02:05 left, started by nurse\n"
        "recording ses-1\n"
        "phase look: 1:01 left, then relax\n"
        "  Look.\n"
        "  cap: p2\n"
        "  hat: p1"
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"session": {**CARD, "mode": "feedback", "recording": ""}}, "NOT RECORDING"),
        ({"is_degraded": True, "session": CARD, "lost_devices": ["cap"]}, "cap: p2  MISSING"),
        ({"is_degraded": True}, "session IDLE  DEGRADED"),
        ({"is_watched": False}, "session IDLE  NO MONITOR"),
        ({"state": "failed", "ended_by": "monitor_lapsed"}, "session FAILED after monitor_lapsed"),
        (
            {"latch": {"by": "a\x1b[2J", "for_s": 9.0}},
            "EMERGENCY STOP, pressed by a\\x1b[2J 9 s ago",
        ),
        ({"unsupervised_s": 2.25}, "2.2 s were recorded without the safety monitor"),
        ({"seats": {"hat": "p1"}}, "  hat: p1"),
        (
            {"last": {"session_id": "s", "outcome": "stop_asked", "summary": SUMMARY}},
            "2 streams, 5 samples, 2 markers\n  nothing was lost",
        ),
        (
            {"last": {"session_id": "s", "outcome": "unsaved", "summary": None}},
            "last session s: unsaved\n  it was not saved as a whole",
        ),
    ],
)
def test_what_a_person_has_to_know_is_said(changes: dict[str, Any], words: str) -> None:
    assert words in shown(**changes)


def test_checks_say_what_to_do_and_whether_it_matters() -> None:
    checks = [
        {"name": "disk", "outcome": "passed", "reason": {"text": "Room."}, "remedy": None, "is_needed": True},
        {"name": "link", "outcome": "failed", "reason": {"text": "Silent."}, "remedy": {"text": "Wait."}, "is_needed": False},
    ]  # fmt: skip
    assert list(check_lines({"checks": checks, "may_start": True})) == [
        "+ disk: Room.",
        "! link: Silent.  (a session may start all the same)",
        "    Wait.",
        "the session may start",
    ]


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3600, "1:00:00"), (-1, "0:00")])  # fmt: skip
def test_times_are_read_as_on_a_clock(seconds: float, text: str) -> None:
    assert clock_time(seconds) == text
