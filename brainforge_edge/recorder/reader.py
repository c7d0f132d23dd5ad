"""Reading segments, past damage too. Runs in: any process; opens its own descriptor.

After bytes that are not a whole chunk the search goes on at the very next offset, never at the place
that a damaged header announces: a header in the wrong place must not hide the chunks behind it.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from brainforge_edge.core.stream import Codec
from brainforge_edge.recorder.chunk import (
    HEADER_BYTES,
    MAGIC,
    Chunk,
    ChunkDamaged,
    Head,
    read_head,
    unpack,
)
from brainforge_edge.recorder.segment import Descriptor, read_descriptor
from brainforge_edge.storage.files import Disk, SystemDisk

_WINDOW = 1024 * 1024
_ZEROS = bytes(_WINDOW)
UNUSED = "unused"  # zeros to the end of the file: space reserved and never written


class Located(NamedTuple):
    """A header that is whole; the body may not be."""

    offset: int
    head: Head

    @property
    def end(self) -> int:
        return self.offset + self.head.total_bytes


class Whole(NamedTuple):
    """A chunk whose CRC matches; `data` are its bytes as they lie on the disk and travel."""

    offset: int
    head: Head
    data: bytes

    @property
    def end(self) -> int:
        return self.offset + len(self.data)

    def chunk(self) -> Chunk:
        """Body and extension; raises ChunkDamaged if a writer of another kind made them."""
        return unpack(self.data)


class Damage(NamedTuple):
    """Bytes offset <= b < end that are no whole chunk of this segment."""

    offset: int
    end: int
    reason: str  # of the first failure in them; UNUSED for reserved space
    head: Head | None  # what they claim to be, if their first header is whole


class Survey(NamedTuple):
    """Every byte of a segment, without its rows."""

    path: Path
    file_bytes: int
    pieces: list[Located | Damage]  # what is located here is whole


class SegmentInfo(NamedTuple):
    """A segment by its own account."""

    path: Path
    segment_id: bytes | None  # what most of its headers say; None if there is none
    descriptor: Descriptor | None  # None if its chunk is damaged
    file_bytes: int


def iter_heads(
    path: Path, start: int = 0, end: int | None = None, *, disk: Disk | None = None
) -> Iterator[Located]:
    """Headers from offset `start` on (bodies unread), resynchronising where one is damaged."""
    disk = disk or SystemDisk()
    fd = disk.open(path, "read")
    try:
        stop = disk.size(fd) if end is None else end
        at = start
        while at < stop:
            try:
                head = read_head(disk.pread(fd, min(HEADER_BYTES, stop - at), at))
            except ChunkDamaged:
                at = _next_magic(disk, fd, at + 1, stop)
                continue
            yield Located(at, head)
            at += head.total_bytes
    finally:
        disk.close(fd)


def scan(
    path: Path,
    start: int = 0,
    end: int | None = None,
    *,
    segment_id: bytes | None = None,
    disk: Disk | None = None,
) -> Iterator[Whole | Damage]:
    """Every byte from `start` on, as whole chunks and damage, in the order of the file.

    With a `segment_id` a chunk of another segment is damage, and so is a second one with a number
    that was seen (a stale or misdirected sector).
    """
    disk = disk or SystemDisk()
    fd = disk.open(path, "read")
    seen: set[int] = set()
    bad: tuple[int, str, Head | None] | None = None
    try:
        stop = disk.size(fd) if end is None else end
        at = start
        while at < stop:
            try:
                whole = _read_whole(disk, fd, at, stop)
                _check_place(whole.head, segment_id, seen)
            except ChunkDamaged as error:
                nonzero = at
                if bad is None:
                    nonzero = _first_nonzero(disk, fd, at, stop)
                    if nonzero == stop:
                        yield Damage(at, stop, UNUSED, None)
                        return
                    bad = (at, error.reason, _head_at(disk, fd, at, stop))
                at = _next_magic(disk, fd, max(at + 1, nonzero), stop)
                continue
            if bad is not None:
                yield Damage(bad[0], at, bad[1], bad[2])
                bad = None
            seen.add(whole.head.number)
            yield whole
            at = whole.end
        if bad is not None:
            yield Damage(bad[0], stop, bad[1], bad[2])
    finally:
        disk.close(fd)


def iter_chunks(
    path: Path,
    start: int = 0,
    end: int | None = None,
    *,
    damaged: list[Damage] | None = None,
    disk: Disk | None = None,
) -> Iterator[Whole]:
    """Whole chunks of a segment from offset `start` on, descriptor included; damage goes to `damaged`."""
    disk = disk or SystemDisk()
    segment_id = _voted_id(path, disk) if start == 0 and end is None else None
    for piece in scan(path, start, end, segment_id=segment_id, disk=disk):
        if isinstance(piece, Whole):
            yield piece
        elif damaged is not None:
            damaged.append(piece)


def survey(path: Path, *, disk: Disk) -> Survey:
    """What `scan` finds with the segment's own id; in a segment without damage every byte is read once."""
    first, size = read_first(path, disk=disk)
    segment_id = first.head.segment_id if first is not None else _voted_id(path, disk)
    pieces = _pieces(path, segment_id, disk)
    is_whole = all(not isinstance(piece, Damage) or piece.reason == UNUSED for piece in pieces)
    if first is not None and not is_whole and segment_id != (voted := _voted_id(path, disk)):
        pieces = _pieces(path, voted, disk)
    return Survey(path, size, pieces)


def _pieces(path: Path, segment_id: bytes | None, disk: Disk) -> list[Located | Damage]:
    found = scan(path, segment_id=segment_id, disk=disk)
    return [each if isinstance(each, Damage) else Located(each.offset, each.head) for each in found]


def read_segment(path: Path, *, disk: Disk | None = None) -> SegmentInfo:
    """What a segment says it is; reads the headers and the descriptor only."""
    disk = disk or SystemDisk()
    segment_id = _voted_id(path, disk)
    descriptor = None
    fd = disk.open(path, "read")
    try:
        size = disk.size(fd)
        try:
            whole = _read_whole(disk, fd, 0, size)
            if whole.head.codec == Codec.DESCRIPTOR and whole.head.segment_id == segment_id:
                descriptor = read_descriptor(whole.chunk().body)
        except ChunkDamaged:
            descriptor = None
    finally:
        disk.close(fd)
    return SegmentInfo(path, segment_id, descriptor, size)


def read_first(path: Path, *, disk: Disk | None = None) -> tuple[Whole | None, int]:
    """The chunk at offset 0 if it is whole, and the file's size: two reads, whatever the size."""
    disk = disk or SystemDisk()
    fd = disk.open(path, "read")
    try:
        size = disk.size(fd)
        try:
            return _read_whole(disk, fd, 0, size), size
        except ChunkDamaged:
            return None, size
    finally:
        disk.close(fd)


def _voted_id(path: Path, disk: Disk) -> bytes | None:
    """The id that most headers carry: one header in the wrong place must not outvote the rest."""
    votes = Counter(located.head.segment_id for located in iter_heads(path, disk=disk))
    return votes.most_common(1)[0][0] if votes else None


def _read_whole(disk: Disk, fd: int, at: int, stop: int) -> Whole:
    head = read_head(disk.pread(fd, min(HEADER_BYTES, stop - at), at))
    data = disk.pread(fd, min(head.total_bytes, stop - at), at)
    unpack(data)
    return Whole(at, head, data)


def _check_place(head: Head, segment_id: bytes | None, seen: set[int]) -> None:
    if segment_id is None:
        return
    if head.segment_id != segment_id:
        raise ChunkDamaged("misplaced", "it belongs to another segment")
    if head.number in seen:
        raise ChunkDamaged("misplaced", f"chunk {head.number} was already read at another offset")


def _head_at(disk: Disk, fd: int, at: int, stop: int) -> Head | None:
    try:
        return read_head(disk.pread(fd, min(HEADER_BYTES, stop - at), at))
    except ChunkDamaged:
        return None


def _next_magic(disk: Disk, fd: int, at: int, stop: int) -> int:
    while at < stop:
        window = disk.pread(fd, min(_WINDOW, stop - at), at)
        found = window.find(MAGIC)
        if found >= 0:
            return at + found
        if at + len(window) >= stop or not window:
            break
        at += len(window) - len(MAGIC) + 1
    return stop


def _first_nonzero(disk: Disk, fd: int, at: int, stop: int) -> int:
    """No byte from `at` to before this offset is another than zero; `stop` if none is at all."""
    n = HEADER_BYTES  # of most damage they tell
    while at < stop:
        window = disk.pread(fd, min(n, stop - at), at)
        if window != (_ZEROS if len(window) == _WINDOW else bytes(len(window))):
            return at
        if not window:
            break
        at += len(window)
        n = _WINDOW
    return stop
