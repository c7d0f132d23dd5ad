"""Where a stream's live messages go. Runs in: pipeline worker, the threads of its streams."""

import socket
from contextlib import suppress


class Outs:
    """The uplink, the page's screen, or both: neither waits for the other."""

    def __init__(self, uplink: socket.socket | None, screen: socket.socket | None) -> None:
        self._uplink = uplink
        self._screen = screen

    def send(self, payload: bytes, flags: int) -> None:
        """BlockingIOError or ConnectionError for the uplink's alone."""
        if self._screen is not None:
            with suppress(BlockingIOError, ConnectionError):  # the next one is fresher
                self._screen.send(payload, flags)
        if self._uplink is not None:
            self._uplink.send(payload, flags)
