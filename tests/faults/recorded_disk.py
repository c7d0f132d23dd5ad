"""A disk with a volatile cache: a file behind FUSE that writes down each write and each flush, and when.

    python -m tests.faults.recorded_disk IMAGE LOG MOUNT

Runs in: a process of its own, until the file system is unmounted. A loop device on `MOUNT/disk` is
the disk; `read_log` gives back what reached it, so that the disk can be made as it was at any moment.
"""

import errno
import os
import stat
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

_HEAD = struct.Struct("<cQQI")
NAME = "disk"


class Event(NamedTuple):
    """`data` is empty for a flush: what came before it is on the platter."""

    t_ns: int  # CLOCK_MONOTONIC, when it was done
    offset: int
    data: bytes

    @property
    def is_flush(self) -> bool:
        return not self.data


def read_log(path: Path) -> Iterator[Event]:
    """In their order; a record that was cut off ends it."""
    with path.open("rb") as file:
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            _, t_ns, offset, size = _HEAD.unpack(head)
            yield Event(t_ns, offset, file.read(size))


def serve(image: Path, log: Path, mount: Path) -> None:
    """Blocks until unmounted."""
    import mfusepy  # noqa: PLC0415  only this process needs libfuse

    class RecordedDisk(mfusepy.Operations):  # type: ignore[misc]
        use_ns = True

        def __init__(self) -> None:
            self._fd = os.open(image, os.O_RDWR)
            self._size = os.fstat(self._fd).st_size
            self._log = log.open("wb", buffering=1 << 20)

        def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
            if path == "/":
                return {"st_mode": stat.S_IFDIR | 0o700, "st_nlink": 2}
            if path != f"/{NAME}":
                raise mfusepy.FuseOSError(errno.ENOENT)
            return {
                "st_mode": stat.S_IFREG | 0o600,
                "st_nlink": 1,
                "st_size": self._size,
                "st_blocks": self._size // 512,
            }

        def readdir(self, path: str, fh: int) -> list[str]:
            return [".", "..", NAME]

        def open(self, path: str, flags: int) -> int:
            return 1

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            return os.pread(self._fd, size, offset)

        def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
            os.pwrite(self._fd, data, offset)
            self._note(b"W", offset, data)
            return len(data)

        def fsync(self, path: str, datasync: int, fh: int) -> int:
            self._note(b"F", 0, b"")
            return 0

        def flush(self, path: str, fh: int) -> int:
            return 0

        def destroy(self, path: str) -> None:
            self._log.close()

        def _note(self, kind: bytes, offset: int, data: bytes) -> None:
            self._log.write(_HEAD.pack(kind, time.monotonic_ns(), offset, len(data)) + data)

    mfusepy.FUSE(RecordedDisk(), str(mount), foreground=True, nothreads=True)


if __name__ == "__main__":
    serve(*map(Path, sys.argv[1:4]))
