"""A file for a library that must not see a write fail. Runs in: `brainforge-edge export`.

HDF5 ends the whole process (SIGSEGV) where it cannot write out what it holds while it closes a file.
Here each write succeeds; the first error is kept, and raised by whoever uses the library.
"""

import os
from pathlib import Path
from typing import Any


class KeptFile:
    """What h5py asks of a file object. Nothing is written after the first error."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb+", buffering=0)
        self._at = 0
        self._end = 0
        self._error: OSError | None = None

    def check(self) -> None:
        """Raises the OSError that was kept."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        self._file.close()

    def seek(self, at: int, whence: int = os.SEEK_SET) -> int:
        self._at = at + {os.SEEK_CUR: self._at, os.SEEK_END: self._end}.get(whence, 0)
        return self._at

    def tell(self) -> int:
        return self._at

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        try:
            self._file.seek(self._at)
            while self._error is None and left:
                left = left[self._file.write(left) or 0 :]
        except OSError as error:
            self._error = error
        self._at += size
        self._end = max(self._end, self._at)
        return size

    def read(self, size: int) -> bytes:
        """`size` bytes; zeros for what could not be written."""
        self._file.seek(self._at)
        self._at += size
        return (self._file.read(size) or b"").ljust(size, b"\0")

    def truncate(self, size: int) -> int:
        try:
            if self._error is None:
                self._file.truncate(size)
        except OSError as error:
            self._error = error
        self._end = size
        return size

    def flush(self) -> None:
        """Nothing is held back."""
