"""The Muse driver against an emulated Athena on an emulated radio."""

import time
from pathlib import Path

import numpy as np
import pytest

from brainforge_edge.core.block import SampleBlock
from brainforge_edge.core.errors import ConfigError
from brainforge_edge.emulators.athena import motion_row, optics_row
from tests.drivers.bluetooth import ward
from tests.drivers.emulated import check_rows, n_rows

ADDRESS = "F0:0D:00:00:A7:01"


def of(blocks: list[SampleBlock], suffix: str) -> list[SampleBlock]:
    return [block for block in blocks if block.stream_id == f"dut-{suffix}"]


def test_an_athena_is_told_by_its_characteristic_and_equals_what_it_measures(
    tmp_path: Path,
) -> None:
    with ward(tmp_path) as place:
        headset = place.add_athena()
        headset.lost = {12, 13, 14}
        driver = place.muse_driver(address=ADDRESS)
        infos = driver.open()
        blocks: list[SampleBlock] = []
        until = time.monotonic() + 20
        while n_rows(of(blocks, "eeg")) < 512:
            assert time.monotonic() < until
            blocks += driver.read(0.05)
        driver.close()
    assert headset.commands[:8] == ["v6", "s", "h", "p1041", "s", "dc001", "dc001", "L1"]
    assert {info.stream_id: info.n_channels for info in infos} == {
        "dut-eeg": 8,
        "dut-optics": 16,
        "dut-acc": 3,
        "dut-gyro": 3,
        "dut-raw": 64,
    }
    assert driver.info is not None
    assert driver.info.who_am_i == "Muse Athena"
    assert driver.status["battery_percent"] == pytest.approx(20_000 / 256)
    assert check_rows(of(blocks, "eeg"), headset.source, 0) == driver_gap(blocks) > 0
    for block in of(blocks, "optics"):
        np.testing.assert_array_equal(block.data[0], optics_row(block.seq))
    for block in of(blocks, "gyro"):
        np.testing.assert_array_equal(block.data[0], motion_row(block.seq)[3:])


def driver_gap(blocks: list[SampleBlock]) -> int:
    return sum(block.gap.n for block in of(blocks, "eeg") if block.gap is not None)


def test_a_preset_that_cannot_be_decoded_is_refused(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        place.add_athena()
        driver = place.muse_driver(address=ADDRESS, preset="p99")
        with pytest.raises(ConfigError):
            driver.open()
        driver.close()
