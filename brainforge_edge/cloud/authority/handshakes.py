"""Counts connections from the moment they are accepted, until their handshake of TLS is done. Runs in: the process that serves the authority, its asyncio loop.

uvicorn hears of a connection with TLS when its handshake is over, and asyncio gives one a minute: by
then who says nothing has taken all descriptors. So the listening socket itself keeps the account.
Nothing is closed here, only shut down: asyncio then finds the end of a stream, and closes it.
"""

import asyncio
import errno
import socket
from contextlib import suppress
from typing import Any, Final

HANDSHAKE_S: Final = 5.0
MOST_HANDSHAKES: Final = 64
# As long as this no newcomer takes a handshake's place: of many boxes at once none is hung up on.
_LEAST_S: Final = 0.25


class CountedSocket(socket.socket):
    """Listens; of more handshakes than there is room for the oldest is hung up on."""

    def __init__(self, listening: socket.socket, *, handshake_s: float = HANDSHAKE_S) -> None:
        """Takes `listening` over. `handshake_s`: how long a handshake may take."""
        super().__init__(listening.family, listening.type, listening.proto, listening.detach())
        self._handshake_s = handshake_s
        self._begun: dict[int, _Handshake] = {}  # by descriptor; the oldest first

    def accept(self) -> tuple[socket.socket, Any]:
        """BlockingIOError also while all places are taken by those who have just come: asyncio asks again."""
        loop = asyncio.get_running_loop()
        for fd, one in list(self._begun.items()):
            if one.is_closed:
                self.done(fd)
        if len(self._begun) >= MOST_HANDSHAKES:
            oldest = next(iter(self._begun.values()))
            if loop.time() - oldest.since >= _LEAST_S:
                oldest.hang_up()
            raise BlockingIOError(errno.EAGAIN, "too many handshakes")
        taken, address = super().accept()
        self._begun[taken.fileno()] = _Handshake(taken, loop, self._handshake_s)
        return taken, address

    def done(self, fd: int) -> None:
        """Its handshake: from here on the connection is uvicorn's to count."""
        one = self._begun.pop(fd, None)
        if one is not None:
            one.end.cancel()


class _Handshake:
    def __init__(
        self, taken: socket.socket, loop: asyncio.AbstractEventLoop, most_s: float
    ) -> None:
        self._taken = taken
        self.since = loop.time()
        self.end = loop.call_later(most_s, self.hang_up)

    @property
    def is_closed(self) -> bool:
        return self._taken.fileno() < 0

    def hang_up(self) -> None:
        with suppress(OSError):  # gone already
            self._taken.shutdown(socket.SHUT_RDWR)
