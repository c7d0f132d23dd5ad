"""The Muse driver against emulated headsets on an emulated radio, in this process."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brainforge_edge.core.block import BlockFlag, GapBasis
from brainforge_edge.core.errors import ConfigError, DeviceError
from brainforge_edge.devices.base import DeviceCommand
from brainforge_edge.emulators import muse as emulated
from tests.drivers.bluetooth import of, read_until, ward
from tests.drivers.emulated import check_rows, check_times, read_for, read_to_the_end


def test_a_headset_is_found_and_every_stream_equals_what_it_measures(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        headset = place.add_muse()
        driver = place.muse_driver(address="", ppg=("ambient", "infrared"))
        infos = driver.open()
        blocks = read_until(driver, 512)
        assert headset.commands[:5] == ["v1", "h", "p50", "s", "d"]
        driver.close()
        source = headset.source
    assert [info.stream_id.removeprefix("dut-") for info in infos] == [
        "eeg",
        "acc",
        "gyro",
        "ppg-ambient",
        "ppg-infrared",
    ]
    assert driver.info is not None
    assert (driver.info.firmware_version, driver.info.serial_number) == (
        "1.2.13",
        "2043-ABCD-BF01",
    )
    eeg = of(blocks, "eeg")
    assert check_rows(eeg, source) == 0
    assert eeg[0].flags & BlockFlag.FIRST
    assert eeg[0].data.dtype == np.int16
    check_times(eeg[2:], 256.0)
    for suffix in ("acc", "gyro"):
        for block in of(blocks, suffix):
            np.testing.assert_array_equal(block.data, emulated.motion_rows(block.seq // 3))
    for colour, suffix in enumerate(("ppg-ambient", "ppg-infrared")):
        for block in of(blocks, suffix):
            expected = emulated.ppg_rows(block.seq // 6, colour)
            np.testing.assert_array_equal(block.data[:, 0], expected)
    assert {block.stream_id for block in blocks} == {info.stream_id for info in infos}


def test_lost_notifications_are_counted_exactly(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        headset = place.add_muse()
        headset.switches.lost = {(10, 0), (11, 0), (20, 3), (30, 0), (30, 1), (30, 2), (30, 3)}
        driver = place.muse_driver()
        driver.open()
        blocks = of(read_until(driver, 480), "eeg")
        driver.close()
    assert check_rows(blocks, headset.source) == 4 * 12
    gaps = [block.gap for block in blocks if block.gap is not None]
    assert [(gap.n, gap.plus_minus, gap.basis) for gap in gaps] == [
        (24, 0, GapBasis.UNWRAPPED),
        (12, 0, GapBasis.UNWRAPPED),
        (12, 0, GapBasis.UNWRAPPED),
    ]
    assert driver.counters.broken_rows == 3 * 12
    assert driver.counters.lost_samples == 4 * 12
    dropped = headset.ledger.as_dict(is_final=True)["dropped"]
    assert dropped[:3] == [[120, 24], [240, 12], [360, 12]]


def test_a_counter_that_goes_round_on_the_air_is_no_gap(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        headset = place.add_muse()
        first = 65_536 - 8
        headset.switches.first_index = first
        driver = place.muse_driver()
        driver.open()
        blocks = of(read_until(driver, 24 * 12), "eeg")
        driver.close()
    assert blocks[0].seq == first * 12
    assert all(block.gap is None for block in blocks)
    for block in blocks:
        expected = headset.source.rows(block.seq - first * 12, len(block.data))
        np.testing.assert_array_equal(block.data, expected)


def test_a_headset_that_goes_silent_is_lost_though_connected(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        headset = place.add_muse()
        driver = place.muse_driver(silent_s=0.5)
        driver.open()
        read_until(driver, 48)
        headset.switches.is_silent = True
        _, error = read_to_the_end(driver)
        assert headset.peripheral.is_connected
        driver.close()
    assert (error.code, error.transient) == ("device.silent", True)


def test_one_silent_electrode_is_silence(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        headset = place.add_muse()
        driver = place.muse_driver(silent_s=0.5)
        driver.open()
        headset.switches.lost = {(number, 2) for number in range(20, 1000)}
        _, error = read_to_the_end(driver)
        driver.close()
    assert error.code == "device.silent"
    assert "0005" in error.why


def test_a_device_without_electrodes_is_refused(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        place.add_muse(without=emulated.EEG)
        driver = place.muse_driver()
        with pytest.raises(DeviceError) as caught:
            driver.open()
        driver.close()
    assert caught.value.code == "device.wrong_device"


def test_the_other_generation_is_refused(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        place.add_muse()
        driver = place.muse_driver(generation="athena")
        with pytest.raises(DeviceError) as caught:
            driver.open()
        driver.close()
    assert caught.value.code == "device.wrong_device"
    assert "classic" in caught.value.why


def test_a_headset_is_kept_alive_and_tells_its_battery(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        headset = place.add_muse()
        headset.switches.battery_percent = 9.0
        driver = place.muse_driver(keep_alive_s=0.2)
        driver.open()
        read_for(driver, 1.5)
        assert headset.commands.count("k") >= 3
        assert driver.status["battery_percent"] == pytest.approx(9.0, abs=0.1)
        driver.close()


def test_a_command_is_answered_while_it_streams(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        headset = place.add_muse()
        driver = place.muse_driver()
        driver.open()
        replies = []
        asking = threading.Thread(
            target=lambda: replies.append(
                driver.command(DeviceCommand(name="control", arguments={"text": "s"}))
            )
        )
        asking.start()
        blocks = read_until(driver, 256)
        asking.join(5)
        driver.close()
    assert replies[0].values["hn"] == "Muse-BF01"
    assert check_rows(of(blocks, "eeg"), headset.source) == 0


@pytest.mark.parametrize("arguments", [{}, {"text": 3}, {"text": "é"}, {"text": "s", "foo": 1}])
def test_a_wrong_argument_is_refused(tmp_path: Path, arguments: dict[str, Any]) -> None:
    with ward(tmp_path) as place, pytest.raises(DeviceError) as caught:
        place.muse_driver().command(DeviceCommand(name="control", arguments=arguments))
    assert caught.value.code == "device.bad_argument"
    assert "text" in caught.value.why


def test_a_headset_that_does_not_answer_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brainforge_edge.devices.muse_control._REPLY_S", 0.1)
    with ward(tmp_path) as place:
        place.add_muse().switches.is_mute = True
        driver = place.muse_driver()
        with pytest.raises(DeviceError) as caught:
            driver.open()
        driver.close()
    assert caught.value.code == "device.no_answer"


@pytest.mark.parametrize("seconds", [0.0, 61.0])
def test_a_keep_alive_of_more_than_a_minute_is_refused(tmp_path: Path, seconds: float) -> None:
    with ward(tmp_path) as place, pytest.raises(ConfigError):
        place.muse_driver(keep_alive_s=seconds)
