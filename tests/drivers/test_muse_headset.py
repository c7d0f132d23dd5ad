"""The Muse driver against emulated headsets on an emulated radio, in this process."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from brainforge_edge.core.block import BlockFlag, GapBasis, SampleBlock
from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.errors import BrainforgeError, ConfigError, DeviceError
from brainforge_edge.devices import ble
from brainforge_edge.devices.base import DeviceCommand, Driver
from brainforge_edge.emulators import muse as emulated
from tests.drivers.bluetooth import ward
from tests.drivers.emulated import check_rows, check_times, n_rows, read_for, read_to_the_end


def of(blocks: list[SampleBlock], suffix: str) -> list[SampleBlock]:
    return [block for block in blocks if block.stream_id == f"dut-{suffix}"]


def read_until(driver: Driver, rows: int, suffix: str = "eeg") -> list[SampleBlock]:
    blocks: list[SampleBlock] = []
    until = time.monotonic() + 20
    while n_rows(of(blocks, suffix)) < rows:
        assert time.monotonic() < until
        blocks += driver.read(0.05)
    return blocks


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


def test_a_headset_that_ends_the_connection_is_connected_again(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        headset = place.add_muse()
        driver = place.muse_driver()
        driver.open()
        read_until(driver, 48)
        place.drop_link(headset)
        _, error = read_to_the_end(driver)
        driver.close()
        assert (error.code, error.transient) == ("device.link_lost", True)
        again = place.muse_driver()
        again.open()
        assert check_rows(of(read_until(again, 48), "eeg"), headset.source) == 0
        again.close()
    assert len(headset.ledger.runs) == 2


def test_four_headsets_stream_at_once(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        headsets = [place.add_muse(number) for number in range(1, 5)]
        drivers = [place.muse_driver(address=each.peripheral.address) for each in headsets]
        got: dict[int, list[SampleBlock]] = {}

        def work(number: int) -> None:
            drivers[number].open()
            got[number] = read_until(drivers[number], 300)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        for driver in drivers:
            driver.close()
    assert sorted(got) == [0, 1, 2, 3]
    for number, headset in enumerate(headsets):
        assert check_rows(of(got[number], "eeg"), headset.source) == 0


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


def test_two_headsets_of_one_name_are_refused(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        place.add_muse(1, name="Muse-1A2B")
        place.add_muse(2, name="Muse-1A2B")
        driver = place.muse_driver(address="", name="Muse-1A2B")
        with pytest.raises(DeviceError) as caught:
            driver.open()
        driver.close()
    assert caught.value.code == "device.ambiguous"
    assert "F0:0D:00:00:BF:01" in str(caught.value)
    assert "F0:0D:00:00:BF:02" in str(caught.value)


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


def test_a_headset_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        place.add_muse()
        driver = place.muse_driver(address="F0:0D:00:00:BF:77", find_s=0.5)
        with pytest.raises(DeviceError) as caught:
            driver.open()
        driver.close()
    assert (caught.value.code, caught.value.transient) == ("device.not_found", True)


def test_without_an_adapter_one_sentence_says_so(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        place.add_muse()
        place.air.is_absent = True
        driver = place.muse_driver()
        with pytest.raises(DeviceError) as caught:
            driver.open()
        driver.close()
    assert (caught.value.code, caught.value.transient) == ("device.no_adapter", True)
    assert len(str(caught.value).splitlines()) == 1


def test_a_service_that_is_stuck_forgets_the_device_and_is_asked_again(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        headset = place.add_muse()
        place.air.in_progress = 1
        driver = place.muse_driver()
        driver.open()
        assert place.air.forgotten == [headset.peripheral.address]
        assert check_rows(of(read_until(driver, 24), "eeg"), headset.source) == 0
        driver.close()
        place.air.in_progress = 3
        driver = place.muse_driver()
        with pytest.raises(DeviceError) as caught:
            driver.open()
        driver.close()
    assert caught.value.code == "device.adapter_busy"


def test_what_a_killed_process_left_connected_is_disconnected_first(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        headset = place.add_muse()
        killed = place.muse_driver(address="")
        killed.open()
        killed._link._claim.release()  # type: ignore[attr-defined]  # as the kernel does for a process that dies
        driver = place.muse_driver(address="")
        driver.open()
        assert check_rows(of(read_until(driver, 24), "eeg"), headset.source) == 0
        driver.close()
        killed.close()


def test_a_headset_that_another_device_uses_is_left_alone(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        headset = place.add_muse()
        user = place.muse_driver()
        user.open()
        other = place.muse_driver(address="", find_s=0.5)
        with pytest.raises(DeviceError) as caught:
            other.open()
        other.close()
        assert check_rows(of(read_until(user, 240), "eeg"), headset.source) == 0
        user.close()
    assert caught.value.code == "device.not_found"


def test_close_ends_an_open_that_still_searches(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        driver = place.muse_driver(find_s=30.0)
        caught: list[BrainforgeError] = []

        def work() -> None:
            try:
                driver.open()
            except BrainforgeError as error:
                caught.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        threading.Event().wait(0.3)
        driver.close()
        driver.close()
        thread.join(5)
        assert not thread.is_alive()
    assert caught[0].code == "device.closed"


def test_close_halts_the_headset_and_disconnects(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        headset = place.add_muse()
        driver = place.muse_driver()
        driver.open()
        read_until(driver, 24)
        driver.close()
        until = time.monotonic() + 5
        while headset.peripheral.is_connected:
            assert time.monotonic() < until
            threading.Event().wait(0.01)
        assert headset.commands[-1] == "h"
        with pytest.raises(DeviceError) as caught:
            driver.read(0.1)
    assert caught.value.code == "device.closed"


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


def test_a_headset_that_does_not_answer_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brainforge_edge.devices.muse._REPLY_S", 0.1)
    with ward(tmp_path) as place:
        place.add_muse().switches.is_mute = True
        driver = place.muse_driver()
        with pytest.raises(DeviceError) as caught:
            driver.open()
        driver.close()
    assert caught.value.code == "device.no_answer"


def test_a_reader_that_is_too_slow_costs_counted_packets(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        headset = place.add_muse()
        link = ble.BleLink(
            place.muse_driver()._target,
            clock=SystemClock(),
            queue_packets=8,
            backend=place.air.backend,
        )
        link.open((emulated.CONTROL,))
        for each in emulated.EEG[:4]:
            link.subscribe(each)
        link.write(emulated.CONTROL, b"\x02d\n")
        threading.Event().wait(0.6)
        assert len(link.read(0.1)) == 8
        assert link.dropped > 8
        link.close()
        assert headset.peripheral is not None


def test_a_scan_lists_what_is_on_the_air(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        place.add_muse(1)
        place.add_muse(2)
        found = ble.scan(0.5, run=tmp_path, backend=place.air.backend)
    assert {each.name for each in found} == {"Muse-BF01", "Muse-BF02"}
    assert {each.address for each in found} == {"F0:0D:00:00:BF:01", "F0:0D:00:00:BF:02"}
    assert found[0].services == ("0000fe8d-0000-1000-8000-00805f9b34fb",)
    assert found[0].adapter == "air0"


@pytest.mark.parametrize("seconds", [0.0, 61.0])
def test_a_keep_alive_of_more_than_a_minute_is_refused(tmp_path: Path, seconds: float) -> None:
    with ward(tmp_path) as place, pytest.raises(ConfigError):
        place.muse_driver(keep_alive_s=seconds)
