"""Finding, connecting, losing and leaving a device, seen through the Muse driver."""

import threading
import time
from pathlib import Path

import pytest

from brainforge_edge.core.block import SampleBlock
from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.errors import BrainforgeError, DeviceError
from brainforge_edge.devices import ble
from brainforge_edge.emulators import muse as emulated
from tests.drivers.bluetooth import of, read_until, ward
from tests.drivers.emulated import check_rows, read_to_the_end


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


def test_the_service_is_told_also_of_a_connection_that_the_headset_ended(tmp_path: Path) -> None:
    # Else BlueZ carries the dead client's subscriptions over, and the next one hears nothing.
    with ward(tmp_path) as place:
        headset = place.add_muse()
        driver = place.muse_driver()
        driver.open()
        place.drop_link(headset)
        read_to_the_end(driver)
        assert place.air.left == []
        driver.close()
        assert place.air.left == [headset.peripheral.address]


def test_a_farewell_that_fails_does_not_keep_the_headset_connected(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        headset = place.add_muse()
        driver = place.muse_driver()
        driver.open()
        place.air.takes_writes = False
        driver.close()
        until = time.monotonic() + 5
        while headset.peripheral.is_connected:
            assert time.monotonic() < until
            threading.Event().wait(0.01)
    assert headset.commands[-1] != "h"


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_headset_is_told_to_halt_until_it_answers(tmp_path: Path, lost: int) -> None:
    with ward(tmp_path) as place:
        headset = place.add_muse()
        driver = place.muse_driver()
        driver.open()
        read_until(driver, 48)
        place.air.loses_writes = lost
        driver.close()
    assert headset.commands[-2:] == ["d", "h"]


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


def test_a_reader_that_is_too_slow_costs_counted_packets(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        place.add_muse()
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
        packets = link.read(0.1)
        link.close()
    assert len(packets) == 8
    assert link.dropped > 8


def test_a_scan_lists_what_is_on_the_air(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        place.add_muse(1)
        place.add_muse(2)
        found = ble.scan(0.5, run=tmp_path, backend=place.air.backend)
    assert {each.name for each in found} == {"Muse-BF01", "Muse-BF02"}
    assert {each.address for each in found} == {"F0:0D:00:00:BF:01", "F0:0D:00:00:BF:02"}
    assert found[0].services == ("0000fe8d-0000-1000-8000-00805f9b34fb",)
    assert found[0].adapter == "air0"
