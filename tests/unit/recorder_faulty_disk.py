"""A disk that fails, tears or dies at a chosen call, for the recorder's tests."""

import errno
import os
from collections.abc import Callable
from typing import Any, ClassVar

from brainforge_edge.storage.files import SystemDisk

WRITING = {"pwrite", "fdatasync", "fsync", "fallocate", "ftruncate", "rename", "link", "unlink", "mkdir", "rmdir", "open"}  # fmt: skip


class Killed(BaseException):
    """The process dies here; what reached the page cache stays."""


class MortalDisk(SystemDisk):
    """The disk of a process that a test lets die: what it held open is closed by the kernel, here by `bury`."""

    _living: ClassVar[list["MortalDisk"]] = []

    def __init__(self) -> None:
        super().__init__()
        self._living.append(self)

    @classmethod
    def bury(cls) -> None:
        """Close what all disks of a test have left open."""
        living, cls._living[:] = list(cls._living), []
        for disk in living:
            while disk._paths:
                os.close(disk._paths.popitem()[0])


class UnsyncedDisk(MortalDisk):
    """Without real syncs: a process that dies loses nothing by that, and tests are fast."""

    def syscall(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        return None if name in {"fdatasync", "fsync"} else function(*args)


class FaultyDisk(UnsyncedDisk):
    """Counts the calls named in `watched`; at the `at`-th (from 0) does what `fault` says.

    "kill": raise Killed before the call; "kill_torn": half of a write, then Killed;
    "short": half of a write is done and reported; an errno: OSError. `sticky`: every later one too,
    on the same descriptor.
    """

    def __init__(
        self,
        *,
        watched: set[str] = WRITING,
        at: int = -1,
        fault: str | int = "kill",
        is_sticky: bool = False,
    ) -> None:
        super().__init__()
        self.watched = watched
        self.at = at
        self.fault = fault
        self.is_sticky = is_sticky
        self.count = 0
        self.bad_fd: int | None = None
        self.is_dead = False

    def syscall(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        if name == "close" and args[0] == self.bad_fd:
            self.bad_fd = None
        if self.is_dead and name != "close":
            raise Killed
        if name not in self.watched:
            return super().syscall(name, function, *args)
        n, self.count = self.count, self.count + 1
        if n != self.at and not (self.is_sticky and args and args[0] == self.bad_fd):
            return super().syscall(name, function, *args)
        if self.is_sticky and isinstance(args[0], int):
            self.bad_fd = args[0]
        if self.fault == "kill":
            self.is_dead = True
            raise Killed
        if self.fault == "kill_torn":
            if name == "pwrite":
                function(args[0], args[1][: len(args[1]) // 2], args[2])
            self.is_dead = True
            raise Killed
        if self.fault == "short":
            return function(args[0], args[1][: max(1, len(args[1]) // 2)], args[2])
        assert isinstance(self.fault, int)
        if name == "pwrite" and self.fault != errno.EINTR and len(args[1]) > 1:
            function(args[0], args[1][: len(args[1]) // 2], args[2])
        raise OSError(self.fault, os.strerror(self.fault))
