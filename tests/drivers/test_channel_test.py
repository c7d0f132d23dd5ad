"""A device tests its own channels: reply, notice and marker, and the samples meanwhile."""

from pathlib import Path

import pytest

from brainforge_edge.core.errors import DeviceError
from brainforge_edge.devices.bfp import bits_of
from brainforge_edge.devices.bfp_health import Health
from tests.drivers.emulated import check_rows, commanded, driver_for, emulated
from tests.drivers.test_opm_startup import CHANNELS, SOURCE, Heard


def test_a_helmet_whose_channels_are_well_passes_and_its_stretch_is_marked(tmp_path: Path) -> None:
    with emulated(tmp_path, "opm", channels=CHANNELS) as device:
        heard = Heard(device.link)
        values = heard.command("channel_test")
        heard.until(lambda: len(heard.markers) == 2)
        heard.close()
    assert values == {"tests": 7, "passed": True, "n_failed": 0, "failed": []}
    result = next(m for m in heard.markers if m.description == "channel_test passed")
    stretch = next(m for m in heard.markers if m.description == "BAD_test_signal")
    assert 0.2 < stretch.duration_s < 1.0
    assert abs(result.t_ns - (stretch.t_ns + stretch.duration_s * 1e9)) < 100_000_000
    assert ("channel_test", "passed", "0") in heard.alerts()
    assert check_rows(heard.blocks, SOURCE, 0) == 0  # samples flow on, and are what they are


def test_channels_that_fail_are_named_in_reply_notice_and_marker(tmp_path: Path) -> None:
    with emulated(tmp_path, "opm", channels=CHANNELS, inject=["laser@0+30"]) as device:
        heard = Heard(device.link)
        values = heard.command("channel_test", tests=2)
        heard.until(lambda: any(m.description.startswith("channel_test") for m in heard.markers))
        heard.close()
    assert values == {"tests": 2, "passed": False, "n_failed": 1, "failed": ["OPM001"]}
    assert ("channel_test", "failed", "1") in heard.alerts()
    (said,) = [m.description for m in heard.markers if m.description.startswith("channel_test")]
    assert said == f"channel_test failed: 1 of {CHANNELS} (OPM001)"


def test_it_is_refused_while_a_recording_is_open_unless_forced(tmp_path: Path) -> None:
    with emulated(tmp_path, "opm", channels=CHANNELS) as device:
        heard = Heard(device.link)
        with pytest.raises(DeviceError) as caught:
            heard.command("channel_test", recording="night-1")
        assert caught.value.code == "device.protected"
        assert heard.command("channel_test", recording="night-1", force=True)["passed"]
        heard.close()


@pytest.mark.parametrize("tests", [0, 2**31, "all"])
def test_a_mask_that_is_none_is_named(tmp_path: Path, tests: object) -> None:
    with emulated(tmp_path, "accel_hat") as device:
        driver = driver_for("accel_hat", device.link)
        driver.open()
        with pytest.raises(DeviceError) as caught:
            commanded(driver, "channel_test", tests=tests)
        driver.close()
    assert caught.value.code == "device.bad_argument"


def test_a_test_that_is_not_told_of_in_time_is_no_answer(tmp_path: Path) -> None:
    with emulated(tmp_path, "accel_hat") as device:
        driver = driver_for("accel_hat", device.link)
        driver.open()
        with pytest.raises(DeviceError) as caught:
            commanded(driver, "channel_test", wait_s=0.05)
        assert commanded(driver, "channel_test")[0]["passed"]
        driver.close()
    assert caught.value.code == "device.no_answer"


def test_a_result_that_is_cut_short_is_left_out() -> None:
    health = Health({}, has_states=False)
    assert health.take_test(b"\7\0\0") == health.take_test(b"\7\0\0\0") == ""
    assert health.take() == []
    assert bits_of(b"", 8) == []
