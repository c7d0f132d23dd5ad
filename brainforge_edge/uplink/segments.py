"""One segment as the uplink sees it: heads on demand, what is done, where the cursor stands.

Runs in: uplink process, pump thread. Never holds more than one head in memory.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from brainforge_edge.core.ranges import Intervals
from brainforge_edge.core.wire import Range
from brainforge_edge.recorder.chunk import (
    HEADER_BYTES,
    MAGIC,
    ChunkDamaged,
    Head,
    read_head,
    unpack,
)
from brainforge_edge.storage.files import Disk
from brainforge_edge.uplink.cursor import Ref, SegmentCursor

_SCAN_BYTES = 256 * 1024


class Found(NamedTuple):
    """A chunk at `offset`, or, where `head` is None, bytes up to `end` that are none."""

    offset: int
    end: int
    head: Head | None


@dataclass(slots=True, eq=False)
class Track:
    """A segment with something left to send, or that still grows."""

    ref: Ref
    path: Path
    limit: int = 0  # bytes that may be sent: announced, or the whole of a closed segment
    cursor: int = 0
    walked: int = 0  # the backfill lane has looked at everything before
    n_chunks: int = 0  # before `limit`
    n_done: int = 0
    segment_id: bytes = b""
    stream_number: int = 0
    product: int = 0
    since: float = 0.0  # when its oldest unsent chunk was found, monotonic seconds
    checked: tuple[int, int] = (-1, -1)  # size and mtime when it was last looked through
    done: Intervals = field(default_factory=Intervals)  # bytes receipted or in quarantine
    receipted: dict[int, Intervals] = field(default_factory=dict)  # incarnation → samples

    @property
    def is_finished(self) -> bool:
        """Everything that may be sent was receipted."""
        return self.cursor >= self.limit

    def mark_done(self, found: Found, *, receipted: bool) -> None:
        """A chunk needs no more sending; the cursor follows."""
        if self.done.covers(found.offset, found.end):
            return
        self.done.add(found.offset, found.end)
        self.n_done += 1
        if receipted and found.head is not None and found.head.n_samples:
            samples = self.receipted.setdefault(found.head.incarnation, Intervals())
            samples.add(found.head.seq, found.head.end)
        for first, end in self.done:
            if first > self.cursor:
                break
            self.cursor = max(self.cursor, end)

    def move_back(self) -> None:
        """The aggregator no longer has what it receipted: look at all of it again."""
        self.cursor = self.walked = self.n_done = 0
        self.done = Intervals()
        self.receipted = {}

    def saved(self) -> SegmentCursor:
        return SegmentCursor(
            ref=self.ref,
            segment_id=self.segment_id,
            stream_number=self.stream_number,
            product=self.product,
            cursor=self.cursor,
            chunks=self.n_done,
            receipted=tuple(
                Range(incarnation, first, end)
                for incarnation, samples in sorted(self.receipted.items())
                for first, end in samples
            ),
        )


def look(disk: Disk, fd: int, offset: int, limit: int, *, is_to_be_sent: bool = False) -> Found:
    """What lies at `offset`: a chunk, or a damaged stretch up to the next header or the limit.

    A header in the wrong place is whole too, and would hide the chunks before the end that it
    announces. To find what there is, a header is believed if that of the next chunk follows; what is
    to be sent is read to its end, for another chunk may lie inside a damaged one.
    """
    try:
        head = read_head(disk.pread(fd, HEADER_BYTES, offset))
        end = offset + head.total_bytes
        is_believed = not is_to_be_sent and _follows(disk, fd, end, limit, head)
        if end <= limit and (is_believed or _is_whole(disk, fd, offset, head)):
            return Found(offset, end, head)
    except ChunkDamaged:
        pass
    return Found(offset, _next_chunk(disk, fd, offset + 1, limit), None)


def _follows(disk: Disk, fd: int, end: int, limit: int, head: Head) -> bool:
    """Whether the header at `end` is that of the chunk behind the one that `head` announces."""
    try:
        behind = read_head(disk.pread(fd, min(HEADER_BYTES, limit - end), end))
    except ChunkDamaged:
        return False
    return (behind.segment_id, behind.number) == (head.segment_id, head.number + 1)


def _is_whole(disk: Disk, fd: int, offset: int, head: Head) -> bool:
    try:
        unpack(disk.pread(fd, head.total_bytes, offset))
    except ChunkDamaged:
        return False
    return True


def _next_chunk(disk: Disk, fd: int, at: int, limit: int) -> int:
    """Offset of the next header that is whole, else `limit`."""
    while at < limit:
        block = disk.pread(fd, min(_SCAN_BYTES, limit - at), at)
        if len(block) < len(MAGIC):
            break
        hit = block.find(MAGIC)
        if hit < 0:
            at += len(block) - len(MAGIC) + 1
            continue
        at += hit
        try:
            if at + read_head(disk.pread(fd, HEADER_BYTES, at)).total_bytes <= limit:
                return at
        except ChunkDamaged:
            pass
        at += 1
    return limit


def is_blank(disk: Disk, fd: int, offset: int, end: int) -> bool:
    """Whether nothing but zeros lies from `offset` to the end of the file: reserved, never written space."""
    window = HEADER_BYTES  # seldom more has to be read
    while offset < end:
        raw = disk.pread(fd, min(window, end - offset), offset)
        if not raw or raw.count(0) != len(raw):
            return not raw
        offset += len(raw)
        window = _SCAN_BYTES
    return True
