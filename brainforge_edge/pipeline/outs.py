"""Where live messages go. Runs in: pipeline worker, the threads of its streams."""

import socket
from contextlib import suppress


class Outs:
    """The uplink, and the page's screen where one is served: neither waits for the other."""

    def __init__(self, uplink: socket.socket, screen_fd: int) -> None:
        self._uplink = uplink
        self._screen = socket.socket(fileno=screen_fd) if screen_fd >= 0 else None

    def send(self, payload: bytes, flags: int) -> int:
        """To both; BlockingIOError or ConnectionError for the uplink's alone."""
        if self._screen is not None:
            with suppress(BlockingIOError, ConnectionError):  # the next one is fresher
                self._screen.send(payload, flags)
        return self._uplink.send(payload, flags)
