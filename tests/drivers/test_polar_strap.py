"""The Polar H10 driver against an emulated strap on an emulated radio."""

from pathlib import Path

import numpy as np
import pytest

from brainforge_edge.core.errors import DeviceError
from brainforge_edge.emulators.polar import acc_rows
from tests.drivers.bluetooth import of, read_until, ward
from tests.drivers.emulated import check_rows, check_times, read_for


def test_a_strap_is_read_whole_and_tells_heart_rate_contact_and_battery(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        strap = place.add_polar()
        driver = place.polar_driver(address="")
        infos = driver.open()
        blocks = read_until(driver, 73 * 8, "ecg")
        driver.close()
    assert [(info.stream_id, info.sfreq) for info in infos] == [("dut-ecg", 130), ("dut-acc", 200)]
    assert infos[0].channels[0].type == "ecg"
    assert driver.info is not None
    assert driver.info.serial_number == "BF010203"
    ecg = of(blocks, "ecg")
    assert check_rows(ecg, strap.source, 0) == 0
    check_times(ecg[2:], 130.065)
    for block in of(blocks, "acc"):
        np.testing.assert_array_equal(block.data, acc_rows(block.seq, len(block.data)))
    status = driver.status
    assert status["battery_percent"] == 77
    assert 60 <= status["heart_rate_bpm"] < 80
    assert (status["has_contact"], status["rr_ms"], status["mtu"]) == (True, 1000, 247)


def test_lost_notifications_are_named_and_others_kept(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        strap = place.add_polar(lost={(0, 3), (0, 4)})
        driver = place.polar_driver(acc_hz=0)
        assert len(driver.open()) == 1
        blocks = of(read_until(driver, 73 * 6, "ecg"), "ecg")
        driver.close()
    assert check_rows(blocks, strap.source, 0) == 2 * 73
    assert strap.ledger.as_dict(is_final=True)["dropped"][0] == [219, 146]
    assert [command[:2] for command in strap.commands] == [b"\x02\x00"]


def test_a_connection_with_too_small_packets_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        strap = place.add_polar()
        strap.peripheral.limit_mtu(100)
        driver = place.polar_driver()
        with pytest.raises(DeviceError) as caught:
            driver.open()
        driver.close()
    assert caught.value.code == "device.mtu_too_small"
    assert "232" in caught.value.why
    assert "100" in caught.value.why
    assert "ExchangeMTU" in caught.value.remedy


def test_a_strap_that_is_not_worn_says_so(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        place.add_polar(is_worn=False)
        driver = place.polar_driver()
        with pytest.raises(DeviceError) as caught:
            driver.open()
        driver.close()
    assert (caught.value.code, caught.value.transient) == ("device.refused", True)
    assert "not worn" in caught.value.why


def test_a_strap_that_stalls_is_started_again_on_the_same_connection(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        strap = place.add_polar()
        driver = place.polar_driver()
        driver.open()
        read_until(driver, 73 * 3, "ecg")
        strap.switches.is_stalled = True
        blocks = of(read_for(driver, 5.0), "ecg")
        driver.close()
    assert blocks[-1].incarnation == 1
    assert driver.status["restarts"] == 1
    assert strap.commands[2:] == [
        b"\x03\x00",
        b"\x03\x02",
        strap.commands[0],
        strap.commands[1],
    ]
