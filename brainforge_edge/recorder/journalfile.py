"""What lies in a journal's files, read back. Runs in: acquire process (recovery, archive thread), tools."""

from collections.abc import Iterator
from pathlib import Path

from brainforge_edge.kernels.crc import crc32c
from brainforge_edge.recorder.entry import (
    BLOCK,
    ENTRY_MAGIC,
    Entry,
    JournalHeader,
    header_length,
    iter_entries,
    read_header,
    unpack_entry,
)
from brainforge_edge.storage.files import Disk

SUFFIX = ".jrn"
WINDOW = 8 * 1024 * 1024


def read_journal_header(path: Path, disk: Disk) -> JournalHeader:
    """Header of the present lap of a file; raises JournalDamaged."""
    fd = disk.open(path, "read")
    try:
        first = disk.pread(fd, BLOCK, 0)
        return read_header(first + disk.pread(fd, header_length(first) - len(first), len(first)))
    finally:
        disk.close(fd)


def read_journal(path: Path, disk: Disk) -> Iterator[Entry]:
    """Whole entries of the present lap of a file, in the order of writing; raises JournalDamaged without a whole header."""
    data = disk.read_file(path)
    yield from iter_entries(data, read_header(data))


def iter_journal(path: Path, disk: Disk, *, window: int = WINDOW) -> Iterator[Entry]:
    """As `read_journal`, but keeps `window` bytes in memory; an entry longer than half of it may be passed over."""
    header = read_journal_header(path, disk)
    seed = crc32c(header.file_id)
    base = header.header_bytes
    fd = disk.open(path, "read")
    try:
        while data := disk.pread(fd, window, base):
            view = memoryview(data)
            at = 0
            while 0 <= at < len(data):
                entry = unpack_entry(view, at, seed=seed, streams=header.streams, base=base)
                if entry is not None:
                    yield entry
                    at += entry.total_bytes
                elif at and len(data) - at < window // 2 and len(data) == window:
                    break  # it may go on behind the window
                else:
                    at = data.find(ENTRY_MAGIC, at + 1)
            base += at if at > 0 else max(1, len(data) - len(ENTRY_MAGIC) + 1)
    finally:
        disk.close(fd)


def journal_files(folder: Path, disk: Disk) -> list[Path]:
    """Journal files in a folder, by name."""
    return [folder / name for name in disk.names(folder) if is_journal(name)]


def is_journal(name: str) -> bool:
    """Whether a file's name is that of a journal's."""
    return name.endswith(SUFFIX) and name[: -len(SUFFIX)].isdigit()
