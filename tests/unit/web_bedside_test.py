"""Feedback for viewers: which channels count, and when a session shows any."""

from typing import Any

import pytest

from brainforge_edge.web.bedside import of_device, shows_feedback


def _window(window_s: int, ratios: list[float | None], trouble: str = "") -> dict[str, Any]:
    return {"window_s": window_s, "trouble": [trouble] * 4, "ratios": {"alpha/beta": ratios}}


def _reply(*windows: dict[str, Any], quality: list[str]) -> dict[str, Any]:
    return {"age_ms": 31.5, "features": {"quality": quality, "windows": list(windows)}}


def test_channels_with_good_contact_count_and_a_window_that_is_not_full_is_null() -> None:
    reply = _reply(
        _window(1, [1.0, 3.0, 900.0, 2.0]),
        _window(4, [None] * 4, "start"),
        quality=["good", "good", "flat", "good"],
    )
    assert of_device(reply) == {
        "relaxation": {"1s": 2.0, "4s": None},
        "missing": {"4s": "start"},
        "quality": {"data_age_ms": 31.5, "signal_quality": 0.75},
    }


def test_no_channel_with_contact_is_no_ratio() -> None:
    said = of_device(_reply(_window(1, [1.0, 2.0]), quality=["rail", "flat"]))
    assert said["relaxation"] == {"1s": None}
    assert said["missing"] == {"1s": "contact"}
    assert said["quality"]["signal_quality"] == 0.0


@pytest.mark.parametrize("reply", [None, {"age_ms": 5.0}, {"age_ms": 5.0, "features": None}])
def test_a_device_without_features_says_so(reply: dict[str, Any] | None) -> None:
    said = of_device(reply)
    assert said["relaxation"] == {}
    assert said["quality"] == {"data_age_ms": None, "signal_quality": None}


SHOWN: dict[str, Any] = {
    "state": "recording",
    "emergency_stop": False,
    "session": {"mode": "dual"},
    "phase": {"feedback": True},
}


@pytest.mark.parametrize(
    "change",
    [
        {"state": "saving"},
        {"state": "flushing"},
        {"emergency_stop": True},
        {"session": None},
        {"session": {"mode": "record"}},
        {"phase": None},
        {"phase": {"feedback": False}},
    ],
)
def test_feedback_is_shown_by_state_mode_and_phase(change: dict[str, Any]) -> None:
    assert shows_feedback(SHOWN)
    assert shows_feedback({**SHOWN, "session": {"mode": "feedback"}})
    assert not shows_feedback({**SHOWN, **change})
    assert not shows_feedback({})
