"""The Ganglion driver against an emulated board on an emulated radio."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brainforge_edge.core.block import SampleBlock
from brainforge_edge.core.errors import ConfigError, DeviceError
from brainforge_edge.devices.base import DeviceCommand
from brainforge_edge.devices.ganglion import GanglionDriver
from brainforge_edge.emulators.ganglion import Ganglion
from tests.drivers.bluetooth import of, ward
from tests.drivers.emulated import n_rows, read_to_the_end


def read_until(driver: GanglionDriver, rows: int) -> list[SampleBlock]:
    blocks: list[SampleBlock] = []
    until = time.monotonic() + 20
    while n_rows(of(blocks, "eeg")) < rows:
        assert time.monotonic() < until
        blocks += driver.read(0.05)
    return blocks


def lost_of(blocks: list[SampleBlock], board: Ganglion) -> int:
    expected, lost = 0, 0
    for block in of(blocks, "eeg"):
        hole = block.seq - expected
        assert hole == (block.gap.n if block.gap is not None else 0)
        lost += hole
        for at, row in enumerate(block.data):
            np.testing.assert_array_equal(row, board.known[block.seq + at])
        expected = block.seq + len(block.data)
    return lost


@pytest.mark.parametrize("firmware", ["2.0.1", "3.0.2"])
@pytest.mark.parametrize("is_wide", [False, True])
def test_a_board_of_either_firmware_is_read_whole(
    tmp_path: Path, firmware: str, is_wide: bool
) -> None:
    with ward(tmp_path) as place:
        board = place.add_ganglion(firmware, is_wide=is_wide)
        driver = place.ganglion_driver()
        info, _ = driver.open()
        blocks = read_until(driver, 230)
        driver.close()
    assert (info.stream_id, info.n_channels, info.sfreq) == ("dut-eeg", 4, 200.0)
    assert info.channels[0].scale == pytest.approx(1.8699e-9, rel=1e-3)
    assert driver.info is not None
    assert driver.info.firmware_version == firmware
    assert lost_of(blocks, board) == 0
    assert board.commands[:2] == ["n", "b"]


def test_a_lost_difference_costs_the_samples_up_to_the_next_whole_one(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        board = place.add_ganglion("2.0.1", lost={90})
        driver = place.ganglion_driver()
        driver.open()
        blocks = read_until(driver, 210)
        driver.close()
    assert lost_of(blocks, board) == 201 - 179
    assert driver.counters.degraded_rows == 2 * 10
    assert driver.counters.lost_frames == 1


def test_impedance_is_measured_instead_of_samples_until_it_is_switched_off(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        board = place.add_ganglion()
        driver = place.ganglion_driver(silent_s=0.5)
        driver.open()
        read_until(driver, 40)
        with pytest.raises(DeviceError) as caught:
            driver.command(DeviceCommand(name="impedance", arguments={"on": True}, recording="r"))
        assert caught.value.code == "device.protected"
        driver.command(DeviceCommand(name="impedance", arguments={"on": True}))
        until = time.monotonic() + 10
        while "impedance_ohm" not in driver.status or time.monotonic() < until - 9:
            assert time.monotonic() < until
            driver.read(0.05)
        driver.command(DeviceCommand(name="impedance", arguments={"on": False}))
        after = read_until(driver, 40)
        driver.close()
    assert driver.status["impedance_ohm"]["3"] == 800
    assert board.commands[:6] == ["n", "b", "s", "z", "Z", "b"]
    assert n_rows(after) >= 40


def test_a_silent_board_is_lost(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        board = place.add_ganglion()
        driver = place.ganglion_driver(silent_s=0.4)
        driver.open()
        read_until(driver, 20)
        board.switches.is_silent = True
        _, error = read_to_the_end(driver)
        driver.close()
    assert (error.code, error.transient) == ("device.silent", True)


def test_a_firmware_that_is_not_known_must_be_told(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        place.add_ganglion("1.0")
        driver = place.ganglion_driver()
        with pytest.raises(DeviceError) as caught:
            driver.open()
        driver.close()
        told = place.ganglion_driver(firmware="3")
        told.open()
        told.close()
    assert caught.value.code == "device.unknown_firmware"


def test_a_wrong_number_of_names_is_refused(tmp_path: Path) -> None:
    with ward(tmp_path) as place, pytest.raises(ConfigError):
        place.ganglion_driver(ch_names=["Fp1", "Fp2"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"sekonds": 3}, "'sekonds', only seconds, on"), ({"on": "yes"}, "on must be true or false")],
)
def test_a_wrong_argument_is_refused(tmp_path: Path, arguments: dict[str, Any], words: str) -> None:
    with ward(tmp_path) as place, pytest.raises(DeviceError) as caught:
        place.ganglion_driver().command(DeviceCommand(name="impedance", arguments=arguments))
    assert caught.value.code == "device.bad_argument"
    assert words in caught.value.why


def test_an_unknown_command_is_refused(tmp_path: Path) -> None:
    with ward(tmp_path) as place, pytest.raises(DeviceError) as caught:
        place.ganglion_driver().command(DeviceCommand(name="dance"))
    assert caught.value.code == "device.unknown_command"
