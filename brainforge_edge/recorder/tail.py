"""Ends of segments that were not closed. Runs in: recovery (acquire process, main thread), repair."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from brainforge_edge.core.stream import Codec
from brainforge_edge.recorder.chunk import FOOTER_BYTES, ChunkFlag
from brainforge_edge.recorder.ranges import Ranges
from brainforge_edge.recorder.reader import (
    UNUSED,
    Damage,
    Located,
    Survey,
    iter_heads,
    read_first,
    survey,
)
from brainforge_edge.recorder.segment import reserved_bytes, segment_files
from brainforge_edge.storage.files import Disk


@dataclass(frozen=True, slots=True)
class Cut:
    """Bytes end..was of a segment were no whole chunk. `end` 0: none was, the file is removed."""

    path: Path
    end: int
    was: int


def last_place(folder: Path, disk: Disk) -> tuple[int, int] | None:
    """(incarnation, seq) behind the last row of a stream's recovered segments; reads headers only.

    What recovery wrote may be from before the rows of the file that was left: both are looked at.
    """
    places: list[tuple[int, int]] = []
    for path in reversed(segment_files(folder, disk)):
        heads = [f.head for f in iter_heads(path, disk=disk) if f.head.codec < Codec.DESCRIPTOR]
        places += [(head.incarnation, head.end) for head in heads]
        if not all(head.flags & ChunkFlag.RECOVERED for head in heads):
            break
    return max(places, default=None)


def torn_from(segment: Survey, journal: Mapping[int, Ranges]) -> int | None:
    """Where a segment that was not closed has its first damage, if the journal holds all rows of the chunks behind.

    Of the chunks of one sync a power cut leaves any and loses any. Those behind a hole are made
    again from the journal, which releases no row before it is synced here. None: no damage, or
    chunks lie behind it that nothing else holds.
    """
    hole = None
    for piece in segment.pieces if journal else ():
        if isinstance(piece, Damage):
            hole = piece.offset if hole is None else hole
        elif hole is not None:
            rows = journal.get(piece.head.incarnation, Ranges())
            if piece.head.codec >= Codec.DESCRIPTOR or any(
                rows.missing(piece.head.seq, piece.head.end)
            ):
                return None
    return hole


def cut_tails(
    folder: Path,
    disk: Disk,
    *,
    held: Mapping[int, Ranges] | None,
    journal: Mapping[int, Ranges] | None = None,
    surveys: Mapping[Path, Survey] | None = None,
    is_thorough: bool = False,
) -> list[Cut]:
    """Cut every segment of a stream after its last whole chunk, or where `torn_from` says, and sync it.

    Those that were closed stay as they are; the newest, and those in `surveys`, are synced.

    `held`: rows that whole chunks hold, by incarnation. A last chunk that is there in full length,
    but fails its CRC and holds rows that nothing else holds, is no torn write: it stays, so that
    `verify` can name it. A segment shorter than what was reserved was closed and is believed unless
    `is_thorough`. `surveys`: of segments that were read already.
    """
    cuts = []
    paths = segment_files(folder, disk)
    for path in paths:
        is_closed = was_closed(path, disk)
        if is_closed and (path == paths[-1] or path in (surveys or {})):
            _sync(path, disk)  # whoever closed it may have died between the cut and its sync
        if is_closed and not is_thorough:
            continue
        segment = (surveys or {}).get(path) or survey(path, disk=disk)
        torn = None if is_closed else torn_from(segment, journal or {})
        end, size = _used_end(segment, disk, held or {}, torn), segment.file_bytes
        if end == size and is_closed:
            continue
        if end == 0 and size:
            disk.unlink(path)
            disk.fsync_folder(folder)
        else:
            fd = disk.open(path, "write")
            try:
                _write_again(segment, fd, disk, end, journal or {})
                if end < size:
                    disk.truncate(fd, end)
                disk.fdatasync(fd)  # whoever appended may have died before his sync
            finally:
                disk.close(fd)
        if end < size:
            cuts.append(Cut(path, end, size))
    return cuts


def _sync(path: Path, disk: Disk) -> None:
    fd = disk.open(path, "write")
    try:
        disk.fdatasync(fd)
    finally:
        disk.close(fd)


def _write_again(
    segment: Survey, fd: int, disk: Disk, end: int, journal: Mapping[int, Ranges]
) -> None:
    """Chunks whose rows the journal still holds, where they lie and as they are.

    Perhaps their sync failed: the kernel shows such pages and never writes them, whoever syncs next.
    """
    for piece in segment.pieces if journal else ():
        if piece.offset >= end:
            return
        if isinstance(piece, Located) and piece.head.codec < Codec.DESCRIPTOR:
            span = (piece.head.seq, piece.head.end)
            held = journal.get(piece.head.incarnation, Ranges())
            if list(held.missing(*span)) != [span]:
                data = disk.pread(fd, piece.end - piece.offset, piece.offset)
                disk.pwrite_all(fd, data, piece.offset)


def was_closed(path: Path, disk: Disk) -> bool:
    """Whether a segment is shorter than what was reserved for it."""
    first, size = read_first(path, disk=disk)
    if first is None or first.head.codec != Codec.DESCRIPTOR:
        return False
    reserved = reserved_bytes(first.chunk().body)
    return reserved is not None and size < reserved


def _used_end(segment: Survey, disk: Disk, held: Mapping[int, Ranges], torn: int | None) -> int:
    end = 0
    last: Damage | None = None
    for piece in segment.pieces:
        if isinstance(piece, Damage):
            last = piece
            if piece.offset == torn:
                break
        else:
            end, last = piece.end, None
    if last is not None and _is_worth_keeping(last, segment.path, disk, held):
        assert last.head is not None
        end = last.offset + last.head.total_bytes
    return end


def _is_worth_keeping(damage: Damage, path: Path, disk: Disk, held: Mapping[int, Ranges]) -> bool:
    head = damage.head
    if damage.reason == UNUSED or head is None or head.codec >= Codec.DESCRIPTOR:
        return False
    end = damage.offset + head.total_bytes
    if end > damage.end or not any(
        held.get(head.incarnation, Ranges()).missing(head.seq, head.end)
    ):
        return False
    fd = disk.open(path, "read")
    try:
        return disk.pread(fd, FOOTER_BYTES, end - FOOTER_BYTES) != bytes(FOOTER_BYTES)
    finally:
        disk.close(fd)
