"""An emulated device waits until something is due, not that long after it has done its work."""

import time

from brainforge_edge.core.clock import SystemClock
from brainforge_edge.emulators import device as loop
from brainforge_edge.emulators.device import EmulatedDevice, Port
from brainforge_edge.emulators.pty import DeviceFifo

WORK_S = 0.05
PERIOD_NS = 60_000_000


class Busy:
    """Makes the next frame while it waits, which takes most of the period."""

    def __init__(self, now_ns: int) -> None:
        self.fifo = DeviceFifo(1)
        self.due_ns = now_ns + PERIOD_NS

    def next_due_ns(self) -> int:
        time.sleep(WORK_S)
        return self.due_ns


class Unplugged:
    is_plugged = False


def wait(busy: object, port: object) -> None:
    assert isinstance(busy, Busy)
    device: EmulatedDevice = busy  # type: ignore[assignment]
    end: Port = port  # type: ignore[assignment]
    loop._wait(device, end, SystemClock())


def test_the_time_of_its_own_work_is_no_delay() -> None:
    late = []
    for _ in range(5):
        busy = Busy(time.monotonic_ns())
        wait(busy, Unplugged())
        late.append((time.monotonic_ns() - busy.due_ns) / 1e9)
    assert min(late) >= -0.001
    assert min(late) < WORK_S / 2
