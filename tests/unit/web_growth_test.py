"""When a box is recording for a person: never a word too early, never a second too long."""

from typing import Any

import pytest

from brainforge_edge.web.growth import GROWN_S, Growth, Verdict


def _status(
    durable: dict[str, int],
    *,
    recording: str | None = "rec",
    open_at: tuple[str, ...] = ("helmet", "cap"),
    sfreq: float = 1000.0,
    fault: bool = False,
) -> dict[str, Any]:
    """Devices `helmet` and `cap`, each with the streams that are named after it."""
    return {
        "recording": recording,
        "workers": [
            {"name": "agent"},
            *(
                {
                    "name": f"acquire:{device}",
                    "recording": {
                        "name": recording if device in open_at else "",
                        "fault": {"code": "storage.io"} if fault else None,
                    },
                }
                for device in ("helmet", "cap")
            ),
        ],
        "streams": [
            {
                "stream_id": name,
                "device": name.partition("-")[0],
                "durable": n,
                "sfreq": 1.0 if name.endswith("slow") else sfreq,
            }
            for name, n in durable.items()
        ],
    }


def test_no_recording_is_idle() -> None:
    growth = Growth()
    assert growth.judge(_status({"helmet-a": 5}, recording=None), 0.0).verdict is Verdict.IDLE
    assert growth.judge(_status({"helmet-a": 9}, recording=None), 0.4).verdict is Verdict.IDLE


def test_open_is_not_recording_before_something_grew() -> None:
    growth = Growth()
    said = growth.judge(_status({"helmet-a": 5, "cap-a": 5}), 0.0)
    assert said.verdict is Verdict.STARTING
    assert growth.judge(_status({"helmet-a": 6, "cap-a": 6}), 0.4).verdict is Verdict.RECORDING


def test_what_grew_before_the_recording_proves_nothing() -> None:
    growth = Growth()
    growth.judge(_status({"helmet-a": 5, "cap-a": 5}, recording=None), 0.0)
    said = growth.judge(_status({"helmet-a": 900, "cap-a": 900}), 0.4)
    assert said.verdict is Verdict.STARTING


def test_nothing_new_for_too_long_is_stalled() -> None:
    growth = Growth()
    for i in range(5):
        said = growth.judge(_status({"helmet-a": i, "cap-a": i}), i * 0.4)
    assert said.verdict is Verdict.RECORDING
    assert growth.judge(_status({"helmet-a": 4, "cap-a": 4}), 1.6 + GROWN_S).verdict is (
        Verdict.RECORDING
    )
    said = growth.judge(_status({"helmet-a": 4, "cap-a": 4}), 1.7 + GROWN_S)
    assert said.verdict is Verdict.STALLED
    assert said.devices == {"helmet": False, "cap": False}


def test_one_device_of_two_is_partly() -> None:
    growth = Growth()
    growth.judge(_status({"helmet-a": 5}), 0.0)
    said = growth.judge(_status({"helmet-a": 6}), 0.4)
    assert said.verdict is Verdict.PARTLY
    assert said.devices == {"helmet": True, "cap": False}


def test_a_device_that_the_recording_is_not_for_does_not_count() -> None:
    growth = Growth()
    for i in range(2):
        said = growth.judge(
            {**_status({"helmet-a": i, "cap-a": 5}), "recording_devices": ["helmet"]}, i * 0.4
        )
    assert said.verdict is Verdict.RECORDING
    assert said.devices == {"helmet": True}


@pytest.mark.parametrize("meant", [["cap"], [], ["elsewhere"], ["elsewhere", "cap"]])
def test_what_it_is_for_and_does_not_come_is_never_recording(meant: list[str]) -> None:
    """Nobody left, or a device without a process: that another one grows does not cover for it."""
    growth = Growth()
    for i in range(9):
        said = growth.judge(
            {**_status({"helmet-a": i, "cap-a": 5}), "recording_devices": meant}, i * 0.4
        )
        assert said.verdict in {Verdict.STARTING, Verdict.STALLED}
    assert said.devices == dict.fromkeys(meant, False)


def test_a_device_of_the_session_that_is_lost_is_partly() -> None:
    growth = Growth()
    for i in range(2):
        said = growth.judge(
            {**_status({"helmet-a": i, "cap-a": 5}), "recording_devices": ["cap", "helmet"]},
            i * 0.4,
        )
    assert said.verdict is Verdict.PARTLY


def test_a_worker_without_the_recording_or_with_a_fault_is_not_recording() -> None:
    for wrong in ({"open_at": ("cap",)}, {"fault": True}):
        growth = Growth()
        growth.judge(_status({"helmet-a": 5, "cap-a": 5}), 0.0)
        said = growth.judge(_status({"helmet-a": 6, "cap-a": 6}, **wrong), 0.4)
        assert said.devices["helmet"] is False


def test_a_ring_that_begins_anew_has_not_grown() -> None:
    growth = Growth()
    growth.judge(_status({"helmet-a": 500, "cap-a": 5}), 0.0)
    assert growth.judge(_status({"helmet-a": 3, "cap-a": 6}), 0.4).verdict is Verdict.PARTLY
    assert growth.judge(_status({"helmet-a": 9, "cap-a": 7}), 0.8).verdict is Verdict.RECORDING


def test_a_slow_stream_does_not_cover_for_a_fast_one_and_has_its_own_time() -> None:
    growth = Growth()
    for i in range(10):
        said = growth.judge(_status({"helmet-a": 7, "helmet-slow": i, "cap-a": i}), i * 1.0)
    assert said.devices == {"helmet": False, "cap": True}
    growth = Growth()
    growth.judge(_status({"helmet-a": 1, "cap-a": 1}, sfreq=0.5), 0.0)
    growth.judge(_status({"helmet-a": 2, "cap-a": 2}, sfreq=0.5), 0.4)
    said = growth.judge(_status({"helmet-a": 2, "cap-a": 2}, sfreq=0.5), 5.0)
    assert said.verdict is Verdict.RECORDING
