"""Telling a device of a recording: once for each link and change, again when it did not take it."""

import threading
import time
from collections.abc import Callable

from brainforge_edge.acquisition.protection import AGAIN_NS, Protection
from brainforge_edge.core.errors import DeviceError
from brainforge_edge.emulators.bfp_device import BfpDevice
from brainforge_edge.emulators.bfp_kinds import Circumstances, helmet
from brainforge_edge.emulators.ledger import Ledger
from brainforge_edge.emulators.source import helmet_channels, synthetic


class Moment:
    """A clock that stands."""

    def __init__(self) -> None:
        self.now = 10**12

    def monotonic_ns(self) -> int:
        return self.now

    def utc_ns(self) -> int | None:
        return None

    def sleep(self, seconds: float) -> None:
        raise NotImplementedError


class Device:
    def __init__(self) -> None:
        self.told: list[bool] = []
        self.refuses = False

    def take(self, is_recorded: bool) -> None:
        self.told.append(is_recorded)
        if self.refuses:
            raise DeviceError("no_answer", "it is silent", why="it is", remedy="wait")


def settled(act: Callable[[], None]) -> None:
    act()
    for thread in threading.enumerate():
        if thread.name == "protect":
            thread.join(5)


def test_it_is_told_once_for_each_link_and_each_change() -> None:
    device = Device()
    under_test = Protection("dut", device.take, Moment())
    for connection, is_recorded in [
        (None, True), (0, False), (0, False), (0, True), (0, True), (None, True), (1, True),
        (1, False),
    ]:  # fmt: skip
        settled(lambda c=connection, r=is_recorded: under_test.advance(c, is_recorded=r))  # type: ignore[misc]
    assert device.told == [False, True, True, False]


def test_a_device_that_does_not_take_it_is_told_again_after_a_while() -> None:
    device, clock = Device(), Moment()
    device.refuses = True
    under_test = Protection("dut", device.take, clock)
    settled(lambda: under_test.advance(0, is_recorded=True))
    settled(lambda: under_test.advance(0, is_recorded=True))
    assert device.told == [True]
    settled(lambda: under_test.advance(0, is_recorded=False))  # another word does not wait
    assert device.told == [True, False]
    device.refuses = False
    clock.now += AGAIN_NS
    settled(lambda: under_test.advance(0, is_recorded=True))
    settled(lambda: under_test.advance(0, is_recorded=True))
    assert device.told == [True, False, True]


def test_a_device_that_answers_late_is_not_asked_twice_and_delays_nobody() -> None:
    free = threading.Event()
    asked: list[bool] = []

    def slow(is_recorded: bool) -> None:
        asked.append(is_recorded)
        free.wait(5)

    under_test = Protection("dut", slow, Moment())
    began = time.monotonic()
    for _ in range(3):
        under_test.advance(0, is_recorded=True)
    assert time.monotonic() - began < 2
    free.set()
    settled(lambda: None)
    assert asked == [True]


def test_a_device_whose_host_falls_silent_is_protected_no_longer() -> None:
    source = synthetic(helmet_channels(3), sfreq=1000.0, seed=1, noise=300.0)
    device: BfpDevice = helmet(source, Circumstances(Ledger(None), lambda n: b"\x5a" * n, 0))
    assert device.machine is not None
    device.plugged(0)
    device.receive(b"", 0)
    device.protect(1)
    for second in range(1, 10):  # the host asks for the time, say
        device.receive(b"", second * 10**9)
        device.produce(second * 10**9)
    assert device.is_protected == device.machine.is_protected == 1
    device.produce(13 * 10**9)
    assert device.is_protected == 1
    device.produce(15 * 10**9)
    assert device.is_protected == device.machine.is_protected == 0
