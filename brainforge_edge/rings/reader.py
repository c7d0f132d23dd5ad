"""A reader's side of a ring, mapped read-only. Runs in: pipeline process and tools that look at live rows."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.errors import StorageError
from brainforge_edge.kernels.ring import RESERVE, WRITTEN
from brainforge_edge.rings.layout import Cursors, Run, named_runs, parse

__all__ = ["RingReader", "Rows"]

_TRIES = 8


class Rows(NamedTuple):
    """A copy of consecutive rows."""

    data: NDArray[Any]  # (n, n_channels), memory type
    runs: list[Run]
    first_row: int
    lost: int  # rows overwritten before this reader came to them, just before first_row


class RingReader(Cursors):
    """Follows `written`: a reader never sees a row that the recorder has not.

    `position` is the next row to read, first the newest; `overruns` counts the jumps of a reader
    that was too slow.
    """

    def __init__(self, path: Path) -> None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise _unreadable(path, str(error.strerror), errno=error.errno) from error
        try:
            layout = parse(fd)
            if layout is None:
                raise _unreadable(path, "it is not a ring of this version")
            super().__init__(layout.map(fd, writable=False))
            self._inode = os.fstat(fd).st_ino
        except (OSError, ValueError) as error:  # a header that contradicts itself
            raise _unreadable(path, str(error)) from error
        finally:
            os.close(fd)
        self._path = path
        self._dtype = np.dtype(layout.info.dtype.memory)
        self.info = layout.info
        self.capacity = layout.capacity
        self.position = self.written
        self.overruns = 0
        self._lost = 0

    @property
    def is_replaced(self) -> bool:
        """Another ring (or none) has the name now: this one will not move again."""
        try:
            return self._path.stat().st_ino != self._inode
        except FileNotFoundError:
            return True

    def wait(self, timeout_s: float, n: int = 1) -> int:
        """Rows available, as soon as there are `n` or the writer has moved, or after `timeout_s`.
        Releases the GIL."""
        beyond = self.position + n - 1
        return max(0, self._ring.wait(WRITTEN, beyond, timeout_s) - self.position)

    def read(self, most: int) -> Rows | None:
        """Copy of rows from `position`, at most `most`, none beyond `written`; None when there are none."""
        while True:
            n = min(most, self.written - self.position)
            if n <= 0:
                return None
            # A long backlog would be half gone before its copy ends.
            rows = self._copied(self.position, min(n, self.capacity // 2))
            if rows is not None:
                self.position += len(rows.data)
                lost, self._lost = self._lost, 0
                return rows._replace(lost=lost)
            self._jump()

    def _jump(self) -> None:
        written = self.written
        oldest = self._ring.cursor(RESERVE) - self.capacity
        # To the middle: from the oldest row the writer would overtake the copy again.
        target = min(written, max(self.position + 1, written - self.capacity // 2, oldest))
        self._lost += target - self.position
        self.position = target
        self.overruns += 1

    def snapshot(self, n: int, *, out: NDArray[Any] | None = None) -> Rows:
        """The newest rows that are written, at most `n`. StorageError if the writer laps each try.

        `out` (n, n_channels) takes the rows without a new allocation when exactly n exist.
        """
        for attempt in range(_TRIES):
            written = self.written
            # The oldest rows may be overwritten during the copy: each try keeps further away.
            oldest = self._ring.cursor(RESERVE) - self.capacity + attempt * self.capacity // _TRIES
            count = min(n, written - max(0, oldest))
            if count <= 0:
                return Rows(np.empty((0, self.info.n_channels), self._dtype), [], written, 0)
            rows = self._copied(written - count, count, out)
            if rows is not None:
                return rows
        raise StorageError(
            "ring_overrun",
            f"No whole snapshot of {n} rows of {self.info.stream_id} could be taken",
            why="the writer overwrote them during each copy",
            remedy="Ask for fewer rows",
            transient=True,
        )

    def _copied(self, first: int, n: int, out: NDArray[Any] | None = None) -> Rows | None:
        if out is None or len(out) != n:
            out = np.empty((n, self.info.n_channels), self._dtype)
        found = self._ring.read(first, n, out)
        return None if found is None else Rows(out, named_runs(found), first, 0)


def _unreadable(path: Path, why: str, **facts: object) -> StorageError:
    return StorageError(
        "ring_unreadable",
        f"The ring {path} cannot be read",
        why=why,
        remedy="Check that the device's acquire process runs",
        transient=True,
        path=path,
        **facts,
    )
