"""The writer's side of a ring. Runs in: acquire process; pull thread pushes, record and sync threads move cursors."""

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.block import GAP_BASIS_CODES, GAP_CAUSE_CODES, SampleBlock
from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.stream import StreamInfo
from brainforge_edge.kernels.ring import (
    DURABLE,
    EPOCH,
    HEAD,
    RECORDING,
    RESERVE,
    WRITTEN,
    Ring,
)
from brainforge_edge.rings.layout import NO_ROW, Cursors, Layout, Run, named_runs, parse, plan

__all__ = ["Run", "SampleRing"]

Allocate = Callable[[int, int, int], None]


class SampleRing(Cursors):
    """Rows of one stream in shared memory: head ≥ written ≥ durable, counted in rows since creation."""

    def __init__(self, ring: Ring, layout: Layout, *, fd: int, is_attached: bool) -> None:
        super().__init__(ring)
        self._fd = fd
        self._dtype = np.dtype(layout.info.dtype.memory)
        self.info = layout.info
        self.capacity = layout.capacity
        self.guard = layout.capacity // 8
        self.is_attached = is_attached  # an earlier writer's rows and cursors are in it

    @classmethod
    def create(
        cls,
        path: Path,
        info: StreamInfo,
        *,
        seconds: float = 64.0,
        allocate: Allocate = os.posix_fallocate,
    ) -> "SampleRing":
        """Attach to the ring at `path` if it has this StreamInfo and size, else put a new one there.

        The new file is complete before it gets the name, so readers of the old one keep their
        mapping. StorageError: no room (never a SIGBUS later), no permission, or another writer.
        """
        wanted = plan(info, seconds=seconds)
        try:
            return _attached(path, wanted) or _created(path, wanted, allocate)
        except BlockingIOError as error:
            raise StorageError(
                "ring_busy",
                f"The ring {path} cannot be opened for writing",
                why="another acquire process writes to it",
                remedy="Stop the other process, or give this one another run directory",
                path=path,
            ) from error
        except OSError as error:
            full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
            raise StorageError(
                "ring_no_space" if full else "ring_failed",
                f"The ring {path} of {wanted.file_bytes >> 20} MiB cannot be made",
                why="the memory file system is full" if full else str(error.strerror or error),
                remedy="Free memory or enlarge the file system of the run directory"
                if full
                else "Check that the run directory exists and may be written",
                transient=full,
                path=path,
                errno=error.errno,
            ) from error

    @property
    def recording_row(self) -> int | None:
        """First row of the open recording; None when none is open."""
        row = self._ring.cursor(RECORDING)
        return None if row == NO_ROW else row

    @recording_row.setter
    def recording_row(self, row: int | None) -> None:
        self._ring.advance(RECORDING, NO_ROW if row is None else row)

    def room(self) -> int:
        """Rows that fit without overwriting unwritten ones of the open recording; else the capacity."""
        return self._ring.room(self.guard)

    def push(self, block: SampleBlock) -> int:
        """Append a block; the new head. Never blocks, overwrites the oldest."""
        gap = block.gap
        if gap is None:
            return self._ring.push(
                block.data, block.incarnation, block.seq, block.t_first_ns, block.flags, 0, 0, 0, 0
            )
        return self._ring.push(
            block.data,
            block.incarnation,
            block.seq,
            block.t_first_ns,
            block.flags,
            GAP_BASIS_CODES[gap.basis],
            GAP_CAUSE_CODES[gap.cause],
            gap.n,
            gap.plus_minus,
        )

    def set_written(self, row: int) -> None:
        """Rows before `row` are in the journal's file; readers may see them."""
        if not self._ring.lift(WRITTEN, row, HEAD):
            msg = f"written moves from {self.written} to at most head {self.head}, not to {row}"
            raise ValueError(msg)

    def set_durable(self, row: int) -> None:
        """Rows before `row` survive a power cut."""
        if not self._ring.lift(DURABLE, row, WRITTEN):
            msg = (
                f"durable moves from {self.durable} to at most written {self.written}, not to {row}"
            )
            raise ValueError(msg)

    def wake(self) -> None:
        """Let every waiter return now, in all processes: for a shutdown."""
        for which in (HEAD, WRITTEN, DURABLE):
            self._ring.wake(which)

    def runs(self, first: int, end: int) -> list[Run]:
        """Rows first <= row < end, split wherever seq does not simply go on. StorageError if overwritten."""
        found = self._ring.read(first, end - first)
        if found is None:
            raise self._gone(first)
        return named_runs(found)

    def packed(self, first: int, n: int, out: memoryview | bytearray, at: int = 0) -> int:
        """Rows as packed little-endian native width into `out[at:]`; bytes written. StorageError if overwritten."""
        size = self._ring.packed(first, n, out, at)
        if size < 0:
            raise self._gone(first)
        return size

    def entry(
        self, first: int, end: int, out: memoryview, *, stream: int, seed: int, offset: int
    ) -> tuple[int, int] | None:
        """Rows first <= row < end as a whole journal entry in `out`; (incarnation, seq after them).

        None if they are more than one run, begin after a gap, or were overwritten.
        """
        return self._ring.entry(first, end - first, out, stream=stream, seed=seed, offset=offset)

    def rows(self, first: int, n: int) -> NDArray[Any]:
        """Copy (n, n_channels) in the memory type. StorageError if overwritten."""
        out = np.empty((n, self.info.n_channels), self._dtype)
        if not self._ring.copy(first, n, out):
            raise self._gone(first)
        return out

    def close(self) -> None:
        """Let waiters go and give up the writer's lock; the rows stay for the next writer."""
        if self._fd >= 0:
            self.wake()
            fcntl.flock(
                self._fd, fcntl.LOCK_UN
            )  # the mapping keeps the open file, and its lock, alive
            os.close(self._fd)
            self._fd = -1

    def _gone(self, first: int) -> StorageError:
        oldest = max(0, self._ring.cursor(RESERVE) - self.capacity)
        return StorageError(
            "ring_overrun",
            f"Row {first} of {self.info.stream_id} is no longer in the ring",
            why=f"newer rows took its place, the oldest is {oldest}",
            remedy="Start again from the oldest row and name the gap",
            first=first,
            oldest=oldest,
        )


def _attached(path: Path, wanted: Layout) -> SampleRing | None:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if parse(fd) != wanted:
            os.close(fd)
            return None
        ring = wanted.map(fd, writable=True)
    except OSError:
        os.close(fd)
        raise
    ring.advance(EPOCH, ring.cursor(EPOCH) + 1)
    return SampleRing(ring, wanted, fd=fd, is_attached=True)


def _created(path: Path, wanted: Layout, allocate: Allocate) -> SampleRing:
    fresh = path.with_name(path.name + ".new")
    fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        allocate(fd, 0, wanted.file_bytes)
        os.pwrite(fd, wanted.header(), 0)
        ring = wanted.map(fd, writable=True)
        ring.advance(RECORDING, NO_ROW)
        ring.advance(EPOCH, 1)
        fresh.replace(path)
    except OSError:
        os.close(fd)
        fresh.unlink(missing_ok=True)
        raise
    return SampleRing(ring, wanted, fd=fd, is_attached=False)
