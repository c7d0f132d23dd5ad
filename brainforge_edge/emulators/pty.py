"""A pseudo-terminal as a serial port, and the device's own memory before it.

A pty holds about 16 kB and then blocks; it never loses. So the device has a FIFO of stated size,
writes without blocking, and counts what does not fit.
Runs in: emulator process, its only thread.
"""

import array
import contextlib
import fcntl
import os
import termios
import tty
from collections import deque
from itertools import islice
from pathlib import Path
from typing import Protocol

from brainforge_edge.emulators.room import refused

_TOGETHER = 512  # bytes: one USB packet of an adapter


class PtyPort:
    """The device's end of a serial port that appears at `link`."""

    def __init__(self, link: Path) -> None:
        self.link = link
        self._master = -1
        self._slave = -1

    @property
    def is_plugged(self) -> bool:
        return self._master >= 0

    def fileno(self) -> int:
        return self._master

    def plug(self) -> None:
        """Make the port appear. The slave stays open here, else the master reports EIO between
        readers."""
        if self.is_plugged:
            return
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave, termios.TCSANOW)
        os.set_blocking(self._master, False)
        part = self.link.with_name(self.link.name + ".part")
        try:
            part.unlink(missing_ok=True)
            part.symlink_to(os.ttyname(self._slave))
            part.replace(self.link)
        except OSError as error:
            self._close()
            raise refused(self.link, str(error.strerror).lower()) from error

    def unplug(self) -> None:
        """Make the port vanish, with everything that nobody has read."""
        if not self.is_plugged:
            return
        with contextlib.suppress(FileNotFoundError):
            self.link.unlink()
        self._close()

    def _close(self) -> None:
        os.close(self._master)
        os.close(self._slave)
        self._master = self._slave = -1

    def read(self) -> bytes:
        """What the host has written; empty if nothing."""
        try:
            return os.read(self._master, 65_536)
        except BlockingIOError:
            return b""

    def write(self, data: bytes | memoryview) -> int:
        """Bytes taken, 0 when the port is full."""
        try:
            return os.write(self._master, data)
        except BlockingIOError:
            return 0

    def unread(self) -> int:
        """Bytes that the host has not read yet, as far as the terminal knows."""
        waiting = array.array("i", [0])
        fcntl.ioctl(self._slave, termios.FIONREAD, waiting)
        return waiting[0]


class Writable(Protocol):
    def write(self, data: bytes | memoryview) -> int:
        """Bytes taken, 0 when there is no room."""
        ...


class DeviceFifo:
    """Frames that wait for the link: at most `size` bytes, whole frames only."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.level = 0
        self.high_water = 0
        self._frames: deque[tuple[bytes, int, int, int]] = deque()  # bytes, stream, first row, rows
        self._sent = 0  # bytes of the first frame that are on the way

    def __bool__(self) -> bool:
        return bool(self._frames)

    def put(self, frame: bytes, *, first: int = 0, rows: int = 0, stream: int = 0) -> bool:
        """False if a frame of samples does not fit. Control frames (no rows) always do."""
        if rows and self.level + len(frame) > self.size:
            return False
        self._frames.append((frame, stream, first, rows))
        self.level += len(frame)
        self.high_water = max(self.high_water, self.level)
        return True

    def clear(self) -> list[tuple[int, int, int]]:
        """Forget all; [(stream, first row, rows)] of the frames of samples that were in it."""
        spans = [(stream, first, rows) for _, stream, first, rows in self._frames if rows]
        self._frames.clear()
        self.level = self._sent = 0
        return spans

    def send(self, port: Writable) -> None:
        """Write as much as the port takes; small frames together, as an adapter hands them over."""
        while self._frames:
            pieces = [memoryview(self._frames[0][0])[self._sent :]]
            size = len(pieces[0])
            for frame, _, _, _ in islice(self._frames, 1, None):
                size += len(frame)
                if size > _TOGETHER:
                    break
                pieces.append(memoryview(frame))
            left = b"".join(pieces) if len(pieces) > 1 else pieces[0]
            taken = port.write(left)
            self._take_off(taken)
            if taken < len(left):
                return

    def _take_off(self, taken: int) -> None:
        self._sent += taken
        while self._frames and self._sent >= len(self._frames[0][0]):
            done = len(self._frames.popleft()[0])
            self._sent -= done
            self.level -= done
