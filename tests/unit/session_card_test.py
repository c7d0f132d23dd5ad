"""What a session cannot be asked for, and what is looked at before it starts."""

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brainforge_edge.core.errors import ExitStatus, SessionError
from brainforge_edge.sessions.preflight import (
    Channels,
    Check,
    Facts,
    Outcome,
    preflight,
    refuse_unfit,
)
from tests.unit.session_material import WORN, session

GOOD: dict[str, Any] = {
    "devices": WORN,
    "consents": {"p1": True, "p2": True},
    "links": dict.fromkeys(WORN, "streaming"),
    "channels": dict.fromkeys(WORN, Channels(4, 4)),
    "free_bytes": 10**10,
    "bytes_s": 1e6,
    "duration_s": 540.0,
    "disk_refuses": False,
    "utc_known": True,
    "is_watched": True,
}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"duration_s": 0}, "bad_duration"),
        ({"duration_s": -1}, "bad_duration"),
        ({"duration_s": 1e9}, "bad_duration"),
        ({"duration_s": 10**400}, "bad_duration"),
        ({"duration_s": -(10**400)}, "bad_duration"),
        ({"duration_s": math.nan}, "bad_duration"),
        ({"duration_s": math.inf}, "bad_duration"),
        ({"duration_s": True}, "bad_duration"),
        ({"duration_s": "60"}, "bad_duration"),
        ({"duration_s": 61}, "bad_duration"),
        ({"devices": {}}, "no_devices"),
        ({"devices": {"toaster": "p1"}}, "unknown_device"),
        ({"devices": {"hat": "Alice Smith"}}, "bad_participant"),
        ({"devices": {"hat": ""}}, "bad_participant"),
        ({"mode": "loud"}, "bad_mode"),
        ({"by": " "}, "bad_person"),
        ({"by": "a\nb"}, "bad_person"),
        ({"by": "x" * 100}, "bad_person"),
    ],
)
def test_a_wrong_wish_is_named(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(SessionError) as refused:
        session(**changes)
    assert refused.value.code == f"session.{code}"
    assert refused.value.exit_status is ExitStatus.SESSION
    assert refused.value.what == "no session was started"
    assert refused.value.why
    assert refused.value.remedy


def test_a_session_may_be_shorter_than_its_protocol() -> None:
    assert session(duration_s=25).schedule.end_ns == 25_000_000_000


def outcomes(checks: tuple[Check, ...]) -> set[Outcome]:
    return {each.outcome for each in checks}


def test_a_box_that_is_fit_passes_every_check() -> None:
    checks = preflight(Facts(**GOOD))
    assert outcomes(checks) == {Outcome.PASSED}
    assert {each.name for each in checks} == {
        "consent", "link", "quality", "disk", "clock", "monitor", "latch",
    }  # fmt: skip
    refuse_unfit(checks)


@pytest.mark.parametrize(
    ("changes", "name", "outcome", "code"),
    [
        ({"consents": {"p1": True}}, "consent", Outcome.FAILED, "no_consent"),
        ({"consents": {"p1": True, "p2": False}}, "consent", Outcome.FAILED, "no_consent"),
        ({"links": {}}, "device", Outcome.FAILED, "unknown_device"),
        ({"links": dict.fromkeys(WORN, "searching")}, "link", Outcome.FAILED, ""),
        ({"links": dict.fromkeys(WORN, "degraded")}, "link", Outcome.FAILED, ""),
        ({"channels": {}}, "quality", Outcome.UNKNOWN, ""),
        ({"channels": dict.fromkeys(WORN, Channels(3, 4))}, "quality", Outcome.FAILED, ""),
        ({"channels": dict.fromkeys(WORN, Channels(0, 0))}, "quality", Outcome.UNKNOWN, ""),
        ({"disk_refuses": None}, "disk", Outcome.UNKNOWN, "not_fit"),
        ({"disk_refuses": True}, "disk", Outcome.FAILED, "not_fit"),
        ({"free_bytes": 0}, "disk", Outcome.FAILED, "not_fit"),
        ({"free_bytes": 10**8}, "disk", Outcome.FAILED, "not_fit"),
        ({"utc_known": False}, "clock", Outcome.FAILED, ""),
        ({"utc_known": None}, "clock", Outcome.UNKNOWN, ""),
        ({"is_watched": False}, "monitor", Outcome.FAILED, "not_fit"),
        ({"latched_by": "nurse"}, "latch", Outcome.FAILED, "emergency_stop"),
    ],
)
def test_each_check_says_what_is_wrong_and_what_to_do(
    changes: dict[str, Any], name: str, outcome: Outcome, code: str
) -> None:
    checks = preflight(Facts(**(GOOD | changes)))
    failed = [each for each in checks if each.outcome is not Outcome.PASSED]
    assert {each.name for each in failed} == {name}
    assert {each.outcome for each in failed} == {outcome}
    for each in failed:
        assert each.reason.key.startswith(f"preflight.{name}.")
        assert each.reason.text.endswith(".")
        assert each.remedy is not None
    if code:
        with pytest.raises(SessionError) as refused:
            refuse_unfit(checks)
        assert refused.value.code == f"session.{code}"
    else:
        refuse_unfit(checks)


def test_a_session_that_records_nothing_needs_no_disk() -> None:
    facts = Facts(**(GOOD | {"records": False, "disk_refuses": True}))
    assert "disk" not in {each.name for each in preflight(facts)}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from([{}, {"p1": True}, {"p1": True, "p2": False}, {"p1": True, "p2": True}]),
    st.sampled_from([None, True, False]),
    st.booleans(),
    st.sampled_from(["", "nurse"]),
)
def test_nothing_starts_without_consent_disk_monitor_and_an_open_latch(
    consents: dict[str, bool], disk_refuses: bool | None, is_watched: bool, latched_by: str
) -> None:
    facts = Facts(
        **(GOOD | {"consents": consents, "disk_refuses": disk_refuses,
                   "is_watched": is_watched, "latched_by": latched_by})
    )  # fmt: skip
    is_fit = len(consents) == 2 and all(consents.values())
    is_fit = is_fit and disk_refuses is False and is_watched and not latched_by
    checks = preflight(facts)
    needed = [each for each in checks if each.is_needed and each.outcome is not Outcome.PASSED]
    assert (not needed) is is_fit
