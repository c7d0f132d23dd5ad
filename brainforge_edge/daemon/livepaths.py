"""Datagram socketpairs on which the pipeline hands out live messages. Runs in: supervisor."""

import socket
from typing import Final

SEND_BUFFER: Final = 1024 * 1024


class LivePaths:
    """Option → descriptor, for each worker's command line. Both ends stay open here, so that either may be restarted."""

    def __init__(self, *, has_screen: bool) -> None:
        self._live = _pair()
        self._screen = _pair() if has_screen else None
        self.pipeline = {"--live-fd": self._live[0].fileno()}
        self.uplink = {"--live-fd": self._live[1].fileno()}
        self.web: dict[str, int] = {}
        if self._screen is not None:
            self.pipeline["--screen-fd"] = self._screen[0].fileno()
            self.web["--screen-fd"] = self._screen[1].fileno()

    def close(self) -> None:
        for end in (*self._live, *(self._screen or ())):
            end.close()


def _pair() -> tuple[socket.socket, socket.socket]:
    """The pipeline's end and the reader's."""
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for end in pair:
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    return pair
