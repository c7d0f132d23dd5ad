"""Notifications from the thread that hears them to the one that reads them. Bounded.

Runs in: acquire process; `put` in thread "ble", `take` in the pull thread, the rest in any.
"""

import threading
from collections import deque

from brainforge_edge.core.errors import DeviceError
from brainforge_edge.devices.gatt import Packet


class PacketQueue:
    """What does not fit is left out and counted in `dropped`. Ends with the first error it is given."""

    def __init__(self, most: int) -> None:
        self.dropped = 0
        self._most = most
        self._packets: deque[Packet] = deque()
        self._news = threading.Condition()
        self._failure: DeviceError | None = None
        self._closed: DeviceError | None = None

    def put(self, packet: Packet) -> None:
        with self._news:
            if len(self._packets) >= self._most:
                self.dropped += 1
                return
            self._packets.append(packet)
            self._news.notify_all()

    def fail(self, error: DeviceError) -> None:
        """`take` raises it once everything that came before is taken."""
        with self._news:
            self._failure = self._failure or error
            self._news.notify_all()

    def close(self, error: DeviceError) -> None:
        """`take` raises it from now on."""
        with self._news:
            self._closed = error
            self._news.notify_all()

    def take(self, timeout_s: float) -> list[Packet]:
        """All that have come, oldest first, empty on time-out."""
        with self._news:
            if not (self._packets or self._failure or self._closed):
                self._news.wait(timeout_s)
            if self._closed is not None:
                raise self._closed
            if self._packets:
                packets = list(self._packets)
                self._packets.clear()
                return packets
            if self._failure is not None:
                raise self._failure
            return []
