"""Files that only grow, a line at a time; a line is there after a power cut, whole, or not at all.

Runs in: any process; one writer a file.
"""

from contextlib import suppress
from pathlib import Path

from brainforge_edge.core.errors import StorageError
from brainforge_edge.storage.files import Disk

_BLOCK_BYTES = 64 * 1024


def whole_lines(path: Path, disk: Disk, *, most: int | None = None) -> list[bytes]:
    """Lines without their ends; [] where there is no file. A last one without an end is none.

    `most` bytes are read: StorageError `too_large` for a larger file.
    """
    if path.name not in disk.names(path.parent):
        return []
    fd = disk.open(path, "read")
    try:
        size = disk.size(fd)
        if most is not None and size > most:
            raise StorageError(
                "too_large",
                f"{path} is not read",
                why=f"it has {size} bytes, and no file of its kind more than {most}",
                remedy="Look at what wrote it; set it aside, or put it back from a copy",
                path=str(path),
            )
        return disk.pread(fd, size, 0).split(b"\n")[:-1]
    finally:
        disk.close(fd)


def append_line(path: Path, line: bytes, disk: Disk) -> None:
    """`line` and its end, on the disk when this returns. What a power cut tore is cut off, never continued.

    After a StorageError the line does not count.
    """
    is_new = path.name not in disk.names(path.parent)
    fd = disk.open(path, "new" if is_new else "write")
    try:
        end = _cut_torn(fd, disk)
        try:
            disk.pwrite_all(fd, line + b"\n", end)
            disk.fdatasync(fd)
        except StorageError:
            # The kernel may go on showing what it will never write: nobody is to take it for there.
            with suppress(StorageError):
                disk.truncate(fd, end)
            raise
    finally:
        disk.close(fd)
    disk.fsync_folder(path.parent)  # also of an older file: who made it may have died before this


def settle(path: Path, disk: Disk) -> None:
    """What the file shows is on the disk when this returns: who wrote it may have died before his sync.

    Lines are written again where they lie: pages whose sync failed are shown, and never written else.
    """
    if path.name not in disk.names(path.parent):
        return
    fd = disk.open(path, "write")
    try:
        end = _cut_torn(fd, disk)
        disk.pwrite_all(fd, disk.pread(fd, end, 0), 0)
        disk.fdatasync(fd)
    finally:
        disk.close(fd)
    disk.fsync_folder(path.parent)


def _cut_torn(fd: int, disk: Disk) -> int:
    """Offset after the last whole line; what is behind it is gone before anything takes its place."""
    size = at = disk.size(fd)
    end = 0
    while at > 0 and not end:  # from behind: the file may be long, and a line is not
        first = max(0, at - _BLOCK_BYTES)
        if (found := disk.pread(fd, at - first, first).rfind(b"\n")) >= 0:
            end = first + found + 1
        at = first
    if end < size:
        disk.truncate(fd, end)
        disk.fdatasync(fd)
    return end
