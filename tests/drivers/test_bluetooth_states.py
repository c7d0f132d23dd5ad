"""What the link of each Bluetooth kind is said to be, while a device stalls, goes and comes back."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from brainforge_edge.acquisition.linkstate import LinkState
from brainforge_edge.core.events import EventType
from brainforge_edge.devices.base import Driver
from tests.drivers.bluetooth import Ward, ward
from tests.drivers.pulling import States, pulled, rows, wait_for

STREAMING, DEGRADED, LOST = LinkState.STREAMING, LinkState.DEGRADED, LinkState.LOST
OBSERVED_S = 0.2  # how late a state may be seen: READ_S and a busy machine


class Kind(NamedTuple):
    add: Callable[[Ward], Any]
    driver: Callable[[Ward], Driver]
    stall: Callable[[Any, str], None]
    stream_id: str = "dut-eeg"


KINDS = {
    "muse": Kind(
        Ward.add_muse,
        Ward.muse_driver,
        lambda device, how: setattr(device.switches, how, True),
    ),
    "athena": Kind(
        Ward.add_athena,
        lambda place: place.muse_driver(address="F0:0D:00:00:A7:01"),
        lambda device, how: setattr(device, how, True),
    ),
    "ganglion": Kind(
        Ward.add_ganglion,
        Ward.ganglion_driver,
        lambda device, how: setattr(device.switches, how, True),
    ),
    "polar": Kind(
        Ward.add_polar,
        Ward.polar_driver,
        lambda device, how: setattr(device.switches, how, True),
        "dut-ecg",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_device_that_stops_silently_goes_on_without_a_new_connection(
    tmp_path: Path, kind: str
) -> None:
    add, driver, stall, stream_id = KINDS[kind]
    with ward(tmp_path) as place:
        device = add(place)
        with pulled(tmp_path, lambda: driver(place)) as (pull, streams), States(pull) as states:
            wait_for(lambda: rows(streams, stream_id) >= 100 and states.seen[-1][0] is STREAMING)
            began = time.monotonic()
            stall(device, "is_stalled")
            wait_for(lambda: pull.state is DEGRADED)
            had = rows(streams, stream_id)
            wait_for(lambda: rows(streams, stream_id) >= had + 100)
            wait_for(lambda: pull.status.get("restarts") == 1)
            notices = list(pull.notices)
            assert pull.reconnects == 0
    assert states.when(DEGRADED, began) < 1.0
    assert states.after(began)[:2] == [DEGRADED, STREAMING]
    assert LOST not in states.after(began)
    told = [data for event, _, data in notices if event is EventType.DEVICE_STATE_CHANGED]
    assert [data["state"] for data in told] == ["restarted"]
    assert {data["basis"] for event, _, data in notices if event is EventType.STREAM_GAP} == {
        "clock"
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_device_that_stays_silent_is_degraded_then_lost_then_back(
    tmp_path: Path, kind: str
) -> None:
    add, driver, stall, stream_id = KINDS[kind]
    with ward(tmp_path) as place:
        device = add(place)
        with pulled(tmp_path, lambda: driver(place)) as (pull, streams), States(pull) as states:
            wait_for(lambda: rows(streams, stream_id) >= 100 and states.seen[-1][0] is STREAMING)
            began = time.monotonic()
            stall(device, "is_silent")
            wait_for(lambda: pull.state is LOST)
            assert pull.last_error is not None
            assert pull.last_error.code == "device.silent"
            getattr(device, "switches", device).is_silent = False
            returned = time.monotonic()
            wait_for(lambda: pull.state is STREAMING)
    assert states.when(DEGRADED, began) < 1.0
    assert 1.8 < states.when(LOST, began) < 2.0 + 2 * OBSERVED_S
    assert states.when(STREAMING, returned) < 10.0
    assert states.after(began)[:2] == [DEGRADED, LOST]
    assert states.after(returned)[-1] is STREAMING
    assert states.after(began).count(LOST) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_device_that_is_switched_off_is_lost_and_back_when_it_returns(
    tmp_path: Path, kind: str
) -> None:
    add, driver, _, stream_id = KINDS[kind]
    with ward(tmp_path) as place:
        device = add(place)
        with pulled(tmp_path, lambda: driver(place)) as (pull, streams), States(pull) as states:
            wait_for(lambda: rows(streams, stream_id) >= 100 and states.seen[-1][0] is STREAMING)
            began = time.monotonic()
            place.switch_off(device)
            wait_for(lambda: pull.state is LOST)
            threading.Event().wait(1.0)  # it is away for a while
            returned = time.monotonic()
            place.switch_on(device)
            had = rows(streams, stream_id)
            wait_for(lambda: rows(streams, stream_id) >= had + 100)
    assert states.when(LOST, began) < 2.0
    assert states.when(STREAMING, returned) < 10.0
    assert states.after(began).count(LOST) == 1
    assert states.after(returned)[-1] is STREAMING
