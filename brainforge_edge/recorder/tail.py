"""Ends of segments that were not closed. Runs in: recovery (acquire process, main thread), repair."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from brainforge_edge.core.stream import Codec
from brainforge_edge.recorder.chunk import FOOTER_BYTES, ChunkDamaged
from brainforge_edge.recorder.ranges import Ranges
from brainforge_edge.recorder.reader import UNUSED, Damage, Whole, read_first, read_segment, scan
from brainforge_edge.recorder.segment import read_descriptor, segment_files
from brainforge_edge.storage.files import Disk


@dataclass(frozen=True, slots=True)
class Cut:
    """Bytes end..was of a segment were no whole chunk. `end` 0: none was, the file is removed."""

    path: Path
    end: int
    was: int


def torn_from(path: Path, disk: Disk, journal: Mapping[int, Ranges]) -> int | None:
    """Where an unclosed segment has its first damage, if the journal holds all rows of the chunks behind.

    Of the chunks of one sync a power cut leaves any and loses any. Those behind a hole are made
    again from the journal, which releases no row before it is synced here. None: no damage, or
    chunks lie behind it that nothing else holds.
    """
    if not journal or _was_closed(path, disk):
        return None
    hole = None
    for piece in scan(path, segment_id=read_segment(path, disk=disk).segment_id, disk=disk):
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
    is_thorough: bool = False,
) -> list[Cut]:
    """Cut every segment of a stream after its last whole chunk, or where `torn_from` says, and sync it.

    Those that were closed stay as they are.

    `held`: rows that whole chunks hold, by incarnation. A last chunk that is there in full length,
    but fails its CRC and holds rows that nothing else holds, is no torn write: it stays, so that
    `verify` can name it. A segment shorter than what was reserved was closed and is believed unless
    `is_thorough`.
    """
    cuts = []
    for path in segment_files(folder, disk):
        is_closed = _was_closed(path, disk)
        if is_closed and not is_thorough:
            continue
        end, size = _used_end(path, disk, held or {}, torn_from(path, disk, journal or {}))
        if end == size and is_closed:
            continue
        if end == 0 and size:
            disk.unlink(path)
            disk.fsync_folder(folder)
        else:
            fd = disk.open(path, "write")
            try:
                if end < size:
                    disk.truncate(fd, end)
                disk.fdatasync(fd)  # whoever appended may have died before his sync
            finally:
                disk.close(fd)
        if end < size:
            cuts.append(Cut(path, end, size))
    return cuts


def _was_closed(path: Path, disk: Disk) -> bool:
    first, size = read_first(path, disk=disk)
    if first is None or first.head.codec != Codec.DESCRIPTOR:
        return False
    try:
        return size < read_descriptor(first.chunk().body).size
    except ChunkDamaged:
        return False


def _used_end(
    path: Path, disk: Disk, held: Mapping[int, Ranges], torn: int | None
) -> tuple[int, int]:
    info = read_segment(path, disk=disk)
    end = 0
    last: Damage | None = None
    for piece in scan(path, segment_id=info.segment_id, disk=disk):
        if isinstance(piece, Whole):
            end, last = piece.end, None
        else:
            last = piece
            if piece.offset == torn:
                break
    if last is not None and _is_worth_keeping(last, path, disk, held):
        assert last.head is not None
        end = last.offset + last.head.total_bytes
    return end, info.file_bytes


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
