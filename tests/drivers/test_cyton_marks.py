"""Markers that go through the board come back with the sample; what the samples and the link tell."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brainforge_edge.core.block import BlockFlag, SampleBlock
from brainforge_edge.core.errors import DeviceError
from brainforge_edge.core.stream import Dtype, StreamInfo
from brainforge_edge.devices.base import DeviceCommand, LinkCounters
from brainforge_edge.devices.openbci_health import Health, latency_timer_ms
from brainforge_edge.emulators.source import cyton_channels
from tests.drivers.emulated import driver_for, emulated, of_stream, read_for


@pytest.mark.parametrize("time_stamps", [True, False])
def test_a_mark_comes_back_with_the_sample_at_which_the_board_had_it(
    tmp_path: Path, time_stamps: bool
) -> None:
    with emulated(tmp_path, "cyton", channels=8) as board:
        driver = driver_for("openbci", board.link, markers=True, time_stamps=time_stamps)
        infos = driver.open()
        blocks = read_for(driver, 0.5)
        asked = [blocks[-1].t_first_ns]
        for text in ("eyes closed", "eyes closed", "eyes open"):
            driver.command(DeviceCommand(name="mark", arguments={"description": text}))
            blocks += read_for(driver, 0.1)
            asked.append(blocks[-1].t_first_ns)
        marks = driver.markers()  # type: ignore[attr-defined]
        driver.close()
    assert [info.stream_id for info in infos] == ["dut-eeg"]  # no room for the accelerometer
    assert [mark.description for mark in marks] == [
        "dut: eyes closed",
        "dut: eyes closed",
        "dut: eyes open",
    ]
    for mark, before, after in zip(marks, asked, asked[1:], strict=False):
        assert before - 40_000_000 < mark.t_ns < after + 40_000_000
    assert all(block.gap is None for block in blocks)


def test_a_board_without_marker_mode_cannot_mark(tmp_path: Path) -> None:
    with emulated(tmp_path, "cyton", channels=8) as board:
        driver = driver_for("openbci", board.link)
        driver.open()
        with pytest.raises(DeviceError) as caught:
            driver.command(DeviceCommand(name="mark", arguments={"description": "x"}))
        driver.close()
    assert caught.value.code == "device.unsupported"


def health(*, watched: list[int] | None = None, latency_ms: int | None = None) -> Health:
    info = StreamInfo("e-eeg", "e", 250.0, Dtype.I24, cyton_channels(8))
    columns = list(range(8)) if watched is None else watched
    return Health(info, columns, LinkCounters(), latency_ms=latency_ms, facts={})


def second(**columns: Any) -> SampleBlock:
    rows = np.random.default_rng(3).integers(-1000, 1000, (250, 8)).astype(np.int32)
    for name, values in columns.items():
        rows[:, int(name[1:])] = values
    return SampleBlock("e-eeg", 0, 0, 0, rows, BlockFlag(0), None)


def told(under_test: Health) -> list[tuple[str, str, str]]:
    return [(n.data["what"], n.data["change"], n.data["channels"]) for n in under_test.take()]


def test_a_channel_at_the_rail_or_flat_is_told_once() -> None:
    under_test = health()
    under_test.see([second()])
    assert told(under_test) == []
    for _ in range(3):
        under_test.see([second(c1=2**23 - 1, c4=-17)])
    assert told(under_test) == [("rail", "began", "EEG2"), ("flat", "began", "EEG5")]


def test_a_channel_that_is_switched_off_is_not_called_flat() -> None:
    under_test = health(watched=[0, 1])
    under_test.see([second(c4=0)])
    assert told(under_test) == []


def test_a_slow_latency_timer_is_told_with_its_remedy(tmp_path: Path) -> None:
    device = tmp_path / "sys" / "ttyUSB3" / "device"
    device.mkdir(parents=True)
    (device / "latency_timer").write_text("16\n")
    port = tmp_path / "ttyUSB3"
    port.touch()
    link = tmp_path / "by-id"
    link.symlink_to(port)
    assert latency_timer_ms(str(link), tmp_path / "sys") == 16
    assert latency_timer_ms(str(tmp_path / "ttyACM0"), tmp_path / "sys") is None
    (notice,) = health(latency_ms=16).take()
    assert (notice.data["what"], notice.data["ms"]) == ("latency_timer", "16")
    assert "udev" in notice.data["remedy"]
    assert health(latency_ms=1).take() == []


def test_link_figures_stand_in_the_status(tmp_path: Path) -> None:
    with emulated(tmp_path, "cyton", channels=8) as board:
        driver = driver_for("openbci", board.link)
        driver.open()
        threading.Event().wait(0.1)
        n = sum(len(b.data) for b in of_stream(read_for(driver, 2.3), "dut-eeg"))
        status = driver.status  # type: ignore[attr-defined]
        driver.close()
    assert 250 < status["packets"] <= n
    assert status["lost_packets"] == 0
    assert status["jitter_ms"] < 100
    assert "latency_timer_ms" not in status  # a pseudo-terminal has none
