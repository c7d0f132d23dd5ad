"""Bytes over a descriptor: serial port or socket. Big reads, never byte by byte; errors in one sentence.

Runs in: acquire process. One thread reads (pull); any thread may write or close.
"""

import os
import select
import threading
import time
from collections.abc import Callable

from brainforge_edge.core.errors import DeviceError
from brainforge_edge.devices.base import FrameSink

READ_BYTES = 65_536
# A pseudo-terminal hands out at most this much at a time; a longer frame needs a second read.
_TTY_PIECE = 4_095
_WRITE_S = 1.0


class FdTransport:
    """`fd`, non-blocking, of an open port called `port`; `release` closes it. See `base.Transport`."""

    def __init__(
        self,
        port: str,
        fd: int,
        release: Callable[[], None],
        *,
        count_dropped: Callable[[], int] = lambda: 0,
    ) -> None:
        self._port = port
        self._fd = fd
        self._release = release
        self._count_dropped = count_dropped
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._is_closed = False
        self._use = threading.Lock()  # held by whoever uses the descriptors, so that close can wait
        self._write_lock = threading.Lock()
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)
        self._room = select.poll()
        self._room.register(self._fd, select.POLLOUT)

    @property
    def dropped_packets(self) -> int:
        with self._use:
            return 0 if self._is_closed else self._count_dropped()

    def read(self, timeout_s: float) -> bytes:
        with self._use:
            if self._is_closed:
                raise _closed(self._port)
            try:
                ready = self._poll.poll(max(0.0, timeout_s) * 1000.0)
                if not ready:
                    return b""
                if self._is_closed:
                    raise _closed(self._port)
                return self._take()
            except OSError as error:
                raise link_lost(self._port, error) from error

    def fill(self, sink: FrameSink, timeout_s: float) -> int:
        with self._use:
            if self._is_closed:
                raise _closed(self._port)
            try:
                n = sink.read(self._fd, self._wake, timeout_s)
            except OSError as error:
                raise link_lost(self._port, error) from error
            except EOFError as error:
                raise link_lost(self._port, None) from error
            if self._is_closed:
                raise _closed(self._port)
            return n

    def _take(self) -> bytes:
        piece = os.read(self._fd, READ_BYTES)
        if not piece:
            raise link_lost(self._port, None)
        if len(piece) < _TTY_PIECE:
            return piece
        pieces = [piece]
        size = len(piece)
        while len(piece) >= _TTY_PIECE and size < READ_BYTES:
            try:
                piece = os.read(self._fd, READ_BYTES)
            except BlockingIOError:
                break
            pieces.append(piece)
            size += len(piece)
        return b"".join(pieces)

    def write(self, data: bytes) -> None:
        with self._write_lock:
            view = memoryview(data)
            until = time.monotonic() + _WRITE_S
            while view:
                if self._is_closed:
                    raise _closed(self._port)
                try:
                    view = view[os.write(self._fd, view) :]
                except BlockingIOError:
                    left = until - time.monotonic()
                    if left <= 0 or not self._room.poll(left * 1000.0):
                        raise _takes_nothing(self._port) from None
                except OSError as error:
                    raise link_lost(self._port, error) from error

    def close(self) -> None:
        self._is_closed = True
        try:
            os.eventfd_write(self._wake, 1)
        except (OSError, ValueError):
            return  # closed before; a number of -1 is a ValueError
        with self._use, self._write_lock:
            if self._wake >= 0:
                self._release()
                os.close(self._wake)
                self._wake = -1


def errno_of(error: BaseException | None) -> int:
    """The number in an error or its causes, 0 if none: pyserial hides those of its own errors."""
    while error is not None:
        number = getattr(error, "errno", None)
        if number is None and error.args and isinstance(error.args[0], int):
            number = error.args[0]
        if isinstance(number, int):
            return number
        error = error.__cause__ or error.__context__
    return 0


def link_lost(port: str, error: OSError | None) -> DeviceError:
    number = errno_of(error)
    reason = os.strerror(number).lower() if number else "the other end closed it"
    return DeviceError(
        "link_lost",
        f"the link on {port} is lost",
        why=reason,
        remedy="Check the cable; the connection is made anew by itself",
        transient=True,
        port=port,
    )


def _takes_nothing(port: str) -> DeviceError:
    return DeviceError(
        "link_stuck",
        f"the device on {port} takes no commands",
        why=f"its input was full for {_WRITE_S:g} s",
        remedy="Switch the device off and on",
        transient=True,
        port=port,
    )


def _closed(port: str) -> DeviceError:
    return DeviceError(
        "closed",
        f"the link on {port} was closed",
        why="the recorder asked for it",
        remedy="Nothing needs to be done",
        port=port,
    )
