"""What a summary says at the end: how long everything took, and each loss by its name."""

from pathlib import Path
from typing import Any

import pytest

from brainforge_edge.sessions.machine import LEASE_NS, Cause
from brainforge_edge.sessions.preflight import Channels
from brainforge_edge.sessions.summary import StreamAccount, Summary, summary_of
from tests.unit.session_material import WORN, HandClock, S, session
from tests.unit.session_store_material import Box

WHOLE = tuple(
    StreamAccount(stream_id=f"{device}-eeg", device=device, sfreq=256.0, n_samples=15_360)
    for device in WORN
)


def summary(box: Box, *, boot: str = "boot-1", streams: Any = WHOLE, **changes: Any) -> Summary:
    usual: dict[str, Any] = {
        "now_ns": box.clock.now_ns, "boot_id": boot, "markers": 3,
        "channels": dict.fromkeys(WORN, Channels(4, 4)),
    }  # fmt: skip
    return summary_of(
        session(), box.store.bedside, box.store.steps("s-1"), streams, **(usual | changes)
    )


def test_a_session_without_faults_lost_nothing(tmp_path: Path) -> None:
    box = Box(tmp_path, HandClock())
    box.records()
    box.goes_on(60)
    box.clock.sleep(2)
    told = summary(box)
    assert told.is_whole
    assert told.outcome == "protocol_ended"
    assert [(each.name, each.planned_s, each.lasted_s) for each in told.phases] == [
        ("one", 10, 10), ("two", 20, 20), ("three", 30, 30),
    ]  # fmt: skip
    assert told.states == {"recording": 60.0, "saving": 2.0}
    assert (told.restarts, told.reboots, told.unsupervised_s, told.markers) == (0, 0, 0, 3)
    assert [(each.lost, each.lost_s) for each in told.streams] == [(0, 0.0)] * 3
    assert told.poor == ()
    box.close()


def test_a_phase_that_was_stopped_shows_how_long_it_lasted(tmp_path: Path) -> None:
    box = Box(tmp_path, HandClock())
    box.records()
    box.goes_on(14)
    box.store.move(Cause.STOP_ASKED)
    told = summary(box)
    assert [(each.name, each.lasted_s) for each in told.phases] == [("one", 10), ("two", 4)]
    assert told.outcome == "stop_asked"
    box.close()


def test_restarts_reboots_and_time_without_a_monitor_are_told(tmp_path: Path) -> None:
    box = Box(tmp_path, HandClock())
    box.records()
    box.goes_on(14)
    box.close()
    box.clock.now_ns = 5 * S
    box = Box(tmp_path, box.clock, boot="boot-2")
    box.clock.sleep(4)
    box.store.renew()
    box.store.move(Cause.DEVICES_READY)
    box.store.move(Cause.FLUSHED)
    box.goes_on(20)
    box.clock.sleep(LEASE_NS / S + 1)
    box.store.tick()
    told = summary(box, boot="boot-2")
    assert (told.restarts, told.reboots) == (1, 1)
    assert told.unsupervised_s == 4 + 1
    assert told.states["connecting"] == 4.0
    assert sum(each.lasted_s for each in told.phases) <= 60
    box.close()


@pytest.mark.parametrize(
    ("streams", "lost"),
    [
        (WHOLE[1:], ["muse-1: nothing was recorded"]),
        (
            (StreamAccount(stream_id="a", device="muse-1", n_samples=0), *WHOLE[1:]),
            ["muse-1: nothing was recorded"],
        ),
        (
            (StreamAccount(stream_id="a", device="muse-1", n_samples=None), *WHOLE[1:]),
            ["a: could not be read, so what is lost is not known"],
        ),
        (
            (
                StreamAccount(
                    stream_id="a", device="muse-1", sfreq=256.0, n_samples=9,
                    gaps=((12, 0), (244, 3)),
                ),
                *WHOLE[1:],
            ),
            ["a: 256 ± 3 samples in 2 gaps"],
        ),
    ],
)  # fmt: skip
def test_each_loss_has_a_name(tmp_path: Path, streams: Any, lost: list[str]) -> None:
    box = Box(tmp_path, HandClock())
    box.records()
    box.store.move(Cause.STOP_ASKED)
    told = summary(box, streams=streams, channels={"hat": Channels(1, 4)})
    assert not told.is_whole
    assert list(told.lost) == lost
    assert told.poor == ("hat",)
    box.close()
