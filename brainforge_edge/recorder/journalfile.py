"""What lies in a journal's files, read back. Runs in: acquire process (recovery, archive thread), tools."""

from collections.abc import Iterator
from pathlib import Path

from brainforge_edge.kernels.crc import crc32c
from brainforge_edge.recorder.entry import (
    BLOCK,
    ENTRY_MAGIC,
    Entry,
    JournalHeader,
    announced_bytes,
    header_length,
    read_header,
    unpack_entry,
)
from brainforge_edge.security.seal import JOURNAL, DataKey, FileSeal
from brainforge_edge.storage.files import Disk

SUFFIX = ".jrn"
WINDOW = 1024 * 1024


def read_journal_header(path: Path, disk: Disk) -> JournalHeader:
    """Header of the present lap of a file; raises JournalDamaged."""
    fd = disk.open(path, "read")
    try:
        first = disk.pread(fd, BLOCK, 0)
        return read_header(first + disk.pread(fd, header_length(first) - len(first), len(first)))
    finally:
        disk.close(fd)


def read_journal(path: Path, disk: Disk, *, key: DataKey | None = None) -> Iterator[Entry]:
    """Whole entries of the present lap of a file, in the order of writing; raises JournalDamaged without a whole header.

    `key`: what the journal was written with.
    """
    header = read_journal_header(path, disk)
    seal = None if key is None else key.file(header.file_id, JOURNAL)
    for _, _, entry in scan_entries(path, header, disk, seal=seal):
        yield entry


def scan_entries(
    path: Path,
    header: JournalHeader,
    disk: Disk,
    *,
    holes: list[tuple[int, int]] | None = None,
    seal: FileSeal | None = None,
) -> Iterator[tuple[int, int, Entry]]:
    """Whole entries of one lap with their offsets and lengths, in the order of writing. Reads every
    byte once, a window at a time, and keeps no more in memory. `seal`: as of `unpack_entry`.

    After bytes that are not a whole entry the search goes on at the next offset that is one: a lost
    sector costs the entries in it, not those behind it. Nothing stale can pass, see `pack_entry`.
    Such bytes before a whole entry go to `holes` (offset, end): a torn end is none.
    """
    seed = crc32c(header.file_id)
    base = end = header.header_bytes
    need = WINDOW
    fd = disk.open(path, "read")
    try:
        size = disk.size(fd)
        while base < size:
            data = disk.pread(fd, need, base)
            if not data:
                return
            is_last = base + len(data) >= size
            view = memoryview(data)
            at, need = 0, WINDOW
            while at >= 0:
                length = announced_bytes(view, at, header.streams)
                if length is not None and at + length > len(data) and not is_last:
                    need = (
                        length + WINDOW
                    )  # it may go on behind the window, and so may those after it
                    break
                entry = unpack_entry(
                    view, at, seed=seed, streams=header.streams, base=base, seal=seal
                )
                if entry is None or length is None:
                    at = data.find(ENTRY_MAGIC, at + 1)
                    continue
                if base + at > end and holes is not None:
                    holes.append((end, base + at))
                yield base + at, length, entry
                at += length
                end = base + at
            # The first half of a magic may be the last byte of the window.
            base += at if at >= 0 else len(data) - (not is_last)
    finally:
        disk.close(fd)


def holds_entries(path: Path, disk: Disk) -> bool:
    """Whether there is anything in a file that could be an entry."""
    fd = disk.open(path, "read")
    try:
        at = 0
        while len(data := disk.pread(fd, WINDOW, at)) >= len(ENTRY_MAGIC):
            if ENTRY_MAGIC in data:
                return True
            at += len(data) - 1
        return False
    finally:
        disk.close(fd)


def journal_files(folder: Path, disk: Disk) -> list[Path]:
    """Journal files in a folder, by name."""
    return [folder / name for name in disk.names(folder) if is_journal(name)]


def is_journal(name: str) -> bool:
    """Whether a file's name is that of a journal's."""
    return name.endswith(SUFFIX) and name[: -len(SUFFIX)].isdigit()
