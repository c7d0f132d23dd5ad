"""What the optical helmet and the hat tell of themselves, and their own registers."""

from pathlib import Path

import msgspec
import pytest

from brainforge_edge.core.errors import DeviceError
from brainforge_edge.core.stream import ChannelDetail, Dtype
from brainforge_edge.devices.base import ReportsStatus
from tests.drivers.emulated import commanded, driver_for, emulated, read_for


def test_an_optical_helmet_names_wavelength_and_optodes_of_each_channel(tmp_path: Path) -> None:
    with emulated(tmp_path, "fnirs") as device:
        driver = driver_for("fnirs", device.link)
        flow, flux = driver.open()
        driver.close()
    assert (flow.dtype, flux.dtype) == (Dtype.F32, Dtype.F32)
    assert {channel.type for channel in flow.channels} == {"fnirs_cw_amplitude"}
    details = [channel.detail for channel in flow.channels]
    assert all(isinstance(detail, ChannelDetail) for detail in details)
    assert {d.wavelength_nm for d in details if d} == {760.0, 850.0}
    first, second = flow.channels[:2]
    assert (first.name, second.name) == ("S1_D1 760", "S1_D1 850")
    assert isinstance(first.detail, ChannelDetail)
    assert (first.detail.source, first.detail.detector) == ("S1", "D1")
    assert first.detail.source_m is not None
    assert first.detail.detector_m is not None


def test_optical_levels_come_from_settings_and_commands(tmp_path: Path) -> None:
    with emulated(tmp_path, "fnirs", channels=16) as device:
        driver = driver_for("fnirs", device.link, led_power=40)
        driver.open()
        assert isinstance(driver, ReportsStatus)
        assert driver.status["led_power"] == [40, 40]
        assert driver.status["detector_gain"] == [16, 16, 16]
        values, _ = commanded(driver, "set_detector_gain", values=[1, 2, 3])
        assert values == {"detector_gain": [1, 2, 3]}
        values, _ = commanded(driver, "set_led_power", value=7)
        assert values == {"led_power": [7, 7]}
        assert driver.status["led_power"] == [7, 7]
        for wrong in ({"values": [1]}, {"value": 256}, {"value": "bright"}, {}):
            with pytest.raises(DeviceError) as caught:
                commanded(driver, "set_led_power", **wrong)
            assert caught.value.code == "device.bad_argument"
        driver.close()


def test_bits_are_not_sent_as_floating_point_numbers(tmp_path: Path) -> None:
    with emulated(tmp_path, "fnirs", channels=8) as device:
        driver = driver_for("fnirs", device.link)
        driver.open()
        with pytest.raises(DeviceError, match="floating-point"):
            commanded(driver, "self_test", signal="prbs31")
        driver.close()


@pytest.mark.parametrize("signal", ["zeros", "ramp", "square", "prbs31"])
def test_a_hat_sends_each_test_signal_bit_for_bit(tmp_path: Path, signal: str) -> None:
    with emulated(tmp_path, "accel_hat") as device:
        driver = driver_for("accel_hat", device.link)
        infos = driver.open()
        values, _ = commanded(driver, "self_test", signal=signal, seconds=0.2)
        read_for(driver, 0.1)
        driver.close()
    assert values["passed"], values
    assert values["streams"].keys() == {info.stream_id for info in infos}
    assert all(found["samples"] >= 200 for found in values["streams"].values())


def test_a_hat_gives_metres_per_second_squared_for_each_sensor(tmp_path: Path) -> None:
    with emulated(tmp_path, "accel_hat", channels=9) as device:
        driver = driver_for("accel_hat", device.link)
        infos = driver.open()
        driver.close()
    assert [info.stream_id for info in infos] == ["dut-acc1", "dut-acc2", "dut-acc3"]
    assert {channel.unit for info in infos for channel in info.channels} == {"m/s^2"}
    assert infos[1].ch_names == ["ACC2X", "ACC2Y", "ACC2Z"]
    assert infos[0].channels[0].detail is msgspec.UNSET


def test_a_level_with_an_argument_that_is_none_is_not_set(tmp_path: Path) -> None:
    with emulated(tmp_path, "fnirs") as device:
        driver = driver_for("fnirs", device.link, led_power=40)
        driver.open()
        with pytest.raises(DeviceError) as caught:
            commanded(driver, "set_led_power", value=7, source=1)
        driver.close()
    assert caught.value.code == "device.bad_argument"
    assert "'source', only value, values" in caught.value.why


@pytest.mark.parametrize(("there", "expected"), [("fnirs", "opm"), ("accel_hat", "fnirs")])
def test_each_kind_refuses_the_others_by_identity(
    tmp_path: Path, there: str, expected: str
) -> None:
    with emulated(tmp_path, there) as device:
        driver = driver_for(expected, device.link)
        with pytest.raises(DeviceError) as caught:
            driver.open()
        driver.close()
    assert caught.value.code == "device.wrong_device"


def test_a_command_that_no_driver_knows_is_unsupported(tmp_path: Path) -> None:
    with emulated(tmp_path, "accel_hat") as device:
        driver = driver_for("accel_hat", device.link)
        driver.open()
        for name, code in (("dance", "unknown_command"), ("impedance", "unsupported")):
            with pytest.raises(DeviceError) as caught:
                commanded(driver, name)
            assert caught.value.code == f"device.{code}"
        driver.close()
