"""Rings that take long to be made: the link is read on, and nothing that came is lost."""

import threading
import time
from typing import Any, cast

import numpy as np
import pytest

from brainforge_edge.acquisition import adoption
from brainforge_edge.acquisition.adoption import adopt_and_read
from brainforge_edge.core.block import SampleBlock
from brainforge_edge.core.errors import DeviceError, StorageError
from brainforge_edge.devices.base import Driver
from tests.faults.rig import FRAME, rows, stream_info

INFOS = (stream_info(4),)


class Talking:
    """A driver that has a block at each read, up to `n`; then the link is lost."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.read_by: set[str] = set()
        self.given = 0

    def read(self, timeout_s: float) -> list[SampleBlock]:
        self.read_by.add(threading.current_thread().name)
        if self.given == self.n:
            raise DeviceError("link_lost", "gone", why="the cable", remedy="Plug it in")
        time.sleep(min(timeout_s, 0.001))
        data = rows(self.given * FRAME, FRAME, 4)
        self.given += 1
        return [SampleBlock("bench-mag", 1, (self.given - 1) * FRAME, time.monotonic_ns(), data)]

    def proof(self, _stream_id: str) -> str:
        return f"run-{self.given // 10}"


def as_driver(found: Talking) -> Driver:
    return cast(Driver, found)


def test_what_comes_while_the_rings_are_made_is_held_with_its_proof() -> None:
    driver = Talking(10_000)

    def slowly(_infos: Any) -> dict[str, Any]:
        while driver.given < 50:
            time.sleep(0.001)
        return {}

    adopted = adopt_and_read(slowly, INFOS, as_driver(driver))
    assert adopted.failure is None
    assert len(adopted.held) >= 50
    joined = np.concatenate([block.data for block, _ in adopted.held])
    np.testing.assert_array_equal(joined, rows(0, len(joined), 4))
    assert [proof for _, proof in adopted.held[8:11]] == ["run-0", "run-1", "run-1"]
    assert driver.read_by == {threading.current_thread().name}


def test_a_link_that_is_lost_meanwhile_is_told_after_what_came() -> None:
    driver = Talking(5)
    ended = threading.Event()

    def slowly(_infos: Any) -> dict[str, Any]:
        while driver.given < 5:
            time.sleep(0.001)
        time.sleep(0.05)
        ended.set()
        return {}

    adopted = adopt_and_read(slowly, INFOS, as_driver(driver))
    assert ended.is_set()
    assert len(adopted.held) == 5
    assert adopted.failure is not None
    assert adopted.failure.code == "device.link_lost"


def test_rings_for_which_there_is_no_room_are_an_error_as_they_were() -> None:
    def refuse(_infos: Any) -> dict[str, Any]:
        raise StorageError("ring_no_space", "no", why="full", remedy="Free memory")

    with pytest.raises(StorageError) as caught:
        adopt_and_read(refuse, INFOS, as_driver(Talking(10_000)))
    assert caught.value.code == "storage.ring_no_space"


def test_what_is_held_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adoption, "MOST_BYTES", 3 * FRAME * 4 * 4)
    driver = Talking(10_000)

    def slowly(_infos: Any) -> dict[str, Any]:
        time.sleep(0.3)
        return {}

    assert len(adopt_and_read(slowly, INFOS, as_driver(driver)).held) == 3
