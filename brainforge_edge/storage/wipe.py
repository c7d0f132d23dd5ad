"""Files whose old bytes are to be gone from the disk, not only out of sight. Runs in: any process and thread.

A file system gives the blocks of what was replaced or removed back with what is in them. Here they
are overwritten in place first: as far as software can. A file system that writes elsewhere (btrfs),
or an SSD that keeps what it was told to overwrite, still has them.
"""

from collections.abc import Callable
from pathlib import Path

from brainforge_edge.core.errors import StorageError
from brainforge_edge.storage.files import Disk

_STEP = 1024 * 1024
_ZEROS = bytes(_STEP)


def replace_wiped(path: Path, data: bytes, disk: Disk) -> StorageError | None:
    """As `Disk.atomic_write`, and the bytes that were there are overwritten. The caller holds a lock.

    Returns what kept them from it: `path` is replaced all the same. After a crash, or such an error,
    the next call or `finish_wiping` does the rest: the old file stays under a name of its own until then.
    """
    failed = _tried(lambda: finish_wiping(path, disk))
    if failed is None and path.name in disk.names(path.parent):
        failed = _tried(lambda: disk.link(path, _old(path)))
    disk.atomic_write(path, data)
    return failed or _tried(lambda: finish_wiping(path, disk))


def finish_wiping(path: Path, disk: Disk) -> None:
    """Overwrite what a killed `replace_wiped` of `path` left: a new file without its name, an old one that has lost it."""
    names = disk.names(path.parent)
    new, old = path.with_name(f".{path.name}.new"), _old(path)
    if new.name in names:
        wipe(new, disk)
    if old.name in names:
        if old.stat().st_nlink > 1:  # it was not replaced: under its other name it is in use
            disk.unlink(old)
            disk.fsync_folder(old.parent)
        else:
            wipe(old, disk)


def wipe(path: Path, disk: Disk) -> None:
    """Overwrite a file with zeros, durably, then remove it."""
    fd = disk.open(path, "write")
    try:
        size = disk.size(fd)
        for at in range(0, size, _STEP):
            disk.pwrite_all(fd, _ZEROS[: size - at], at)
        disk.fdatasync(fd)
    finally:
        disk.close(fd)
    disk.unlink(path)
    disk.fsync_folder(path.parent)


def _old(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _tried(step: Callable[[], None]) -> StorageError | None:
    try:
        step()
    except StorageError as error:
        return error
    return None
