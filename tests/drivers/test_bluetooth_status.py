"""What Bluetooth devices tell of themselves, as it reaches the heartbeat, and of what people are told."""

from pathlib import Path

import numpy as np
import pytest

from brainforge_edge.core.events import EventType
from brainforge_edge.devices.base import ReportsStatus, TellsNews
from brainforge_edge.devices.ble_health import BleHealth
from brainforge_edge.emulators.ganglion import ganglion_source
from brainforge_edge.emulators.muse import muse_source
from brainforge_edge.emulators.source import LoopSource
from tests.drivers.bluetooth import ward
from tests.drivers.pulling import pulled, rows, wait_for

ATHENA = "F0:0D:00:00:A7:01"
RADIO = {"rssi_dbm", "adapter", "address", "mtu", "arrivals_ms", "loss_percent", "channels"}


def worn(kind: str, *, railed: int | None = None) -> LoopSource:
    """Electrodes that are in place, 20 µV each; one of them at the rail if asked for."""
    is_muse = kind == "muse"
    like = muse_source() if is_muse else ganglion_source()
    random = np.random.default_rng(1)
    data = random.normal(2048 if is_muse else 0, 40 if is_muse else 10_000, (800, 4))
    if railed is not None:
        data[:, railed] = 4095 if is_muse else 2**23 - 1
    return LoopSource(np.rint(data), sfreq=like.sfreq, channels=like.channels)


def test_a_muse_tells_battery_temperature_radio_and_loss(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        headset = place.add_muse()
        headset.switches.lost = {(20, channel) for channel in range(4)}
        with pulled(tmp_path, place.muse_driver) as (pull, streams):
            wait_for(lambda: rows(streams) >= 256 * 3)
            wait_for(lambda: pull.status.get("loss_percent", 0.0) > 0)
            driver, status = pull._driver, pull.status
    assert isinstance(driver, ReportsStatus)
    assert isinstance(driver, TellsNews)
    assert status.keys() >= RADIO | {"battery_percent", "temperature_c", "fuel_gauge_mv", "sn"}
    assert status["battery_percent"] == pytest.approx(87, abs=0.1)
    assert status["temperature_c"] == 31
    assert status["mtu"] == 247
    assert (status["address"], status["adapter"]) == ("F0:0D:00:00:BF:01", "air0")
    assert status["rssi_dbm"] < 0
    assert set(status["arrivals_ms"]) == {"dut-eeg", "dut-acc", "dut-gyro"}
    assert 0 <= status["arrivals_ms"]["dut-eeg"]["p50"] <= status["arrivals_ms"]["dut-eeg"]["p99"]
    assert 0 < status["loss_percent"] < 5


def test_an_athena_tells_battery_and_radio(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        place.add_athena()
        with pulled(tmp_path, lambda: place.muse_driver(address=ATHENA)) as (pull, streams):
            wait_for(lambda: rows(streams) >= 256)
            wait_for(lambda: bool(pull.status.get("arrivals_ms")))
            status = pull.status
    assert status.keys() >= RADIO | {"battery_percent"}
    assert status["loss_percent"] == 0


def test_a_ganglion_tells_of_its_radio(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        place.add_ganglion()
        with pulled(tmp_path, place.ganglion_driver) as (pull, streams):
            wait_for(lambda: rows(streams) >= 200)
            wait_for(lambda: bool(pull.status.get("arrivals_ms")))
            status = pull.status
    assert status.keys() >= RADIO
    assert set(status["arrivals_ms"]) == {"dut-eeg", "dut-acc"}


def test_a_battery_that_is_low_is_told_once_until_it_is_charged() -> None:
    health = BleHealth()
    for percent in (40, 16, 14.9, 15.5, 14, 19, 3):
        health.note({"battery_percent": percent})
    (low,) = health.take_notices()
    assert low.event_type is EventType.QUALITY_ALERT
    assert (low.data["what"], low.data["change"], low.data["percent"]) == (
        "battery_low",
        "began",
        "15",
    )
    assert "charge" in low.data["why"]
    health.note({"battery_percent": 60})
    (charged,) = health.take_notices()
    assert charged.data["change"] == "ended"
    assert health.status["battery_percent"] == 60


def test_a_headset_with_a_low_battery_is_told_of_through_the_pull(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        headset = place.add_muse(source=worn("muse"))
        headset.switches.battery_percent = 9.0
        with pulled(tmp_path, place.muse_driver) as (pull, streams):
            wait_for(lambda: rows(streams) >= 256 * 2)
            told = [data for event, _, data in pull.notices if event is EventType.QUALITY_ALERT]
    assert [(data["what"], data["percent"]) for data in told] == [("battery_low", "9")]


@pytest.mark.parametrize("kind", ["muse", "ganglion"])
def test_an_electrode_at_the_rail_is_told_with_its_name_and_a_reason(
    tmp_path: Path, kind: str
) -> None:
    with ward(tmp_path) as place:
        add = place.add_muse if kind == "muse" else place.add_ganglion
        add(source=worn(kind, railed=2))
        driver = place.muse_driver if kind == "muse" else place.ganglion_driver
        with pulled(tmp_path, driver) as (pull, streams):
            wait_for(lambda: rows(streams) >= 256 * 2)
            wait_for(lambda: bool(pull.status.get("channels")))
            told = [notice for notice in pull.notices if notice[0] is EventType.QUALITY_ALERT]
            channels = pull.status["channels"]
    assert channels == {"dut-eeg": {"rail": 1}}
    ((_, stream_id, data),) = told
    assert stream_id == "dut-eeg"
    assert (data["what"], data["change"]) == ("rail", "began")
    assert data["channels"] == ("AF8" if kind == "muse" else "EEG3")
    assert "electrode" in data["why"]
