"""A disk whose calls fail by their number, once or for a while, and which forgets what a failed sync was for."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.unit.recorder_powercut_disk import PowerCutDisk

# What may fail: each call that changes something, and each open. Reading is bitrot's subject.
WATCHED = frozenset({"open", "pwrite", "fdatasync", "fsync", "fallocate", "ftruncate", "rename", "unlink", "mkdir", "rmdir"})  # fmt: skip
TAKES_SPACE = frozenset({"open", "pwrite", "fallocate", "mkdir", "rename"})
SHORT = 0  # in the place of an errno: half of a write is done, and no error is told


class Fault(NamedTuple):
    """`error` at call number `at`, and at the next `lasts` - 1 of its kind."""

    at: int
    error: int
    lasts: int = 1

    @property
    def name(self) -> str:
        word = errno.errorcode[self.error] if self.error else "short write"
        return word if self.lasts == 1 else f"{word} for {self.lasts} calls"

    def meets(self, call: str) -> bool:
        """Whether a call of this name can fail so."""
        if self.error == SHORT:
            return call == "pwrite"
        return self.lasts == 1 or self.error != errno.ENOSPC or call in TAKES_SPACE


class FailingDisk(PowerCutDisk):
    """Counts the calls in WATCHED; `faults` begin at theirs. `struck`: how many calls have failed.

    After a failed sync the kernel holds the pages for clean: they never reach the platter, and the
    next sync of that file succeeds. A write that fails may have done a part.
    """

    def __init__(self, root: Path, fault: Fault | None = None, *, seed: int = 1) -> None:
        super().__init__(root, seed=seed)
        self.called: list[str] = []
        self.struck = 0
        self._fault = fault

    def syscall(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        if name not in WATCHED:
            return super().syscall(name, function, *args)
        number = len(self.called)
        self.called.append(name)
        fault = self._fault
        if fault is None or number < fault.at or self.struck >= fault.lasts:
            return super().syscall(name, function, *args)
        if not fault.meets(name):
            return super().syscall(name, function, *args)
        self.struck += 1
        return self._fail(fault.error, name, function, *args)

    def _fail(self, error: int, name: str, function: Callable[..., Any], *args: Any) -> Any:
        if name == "pwrite" and error != errno.EINTR and len(args[1]) > 1:
            done = super().syscall(name, function, args[0], args[1][: len(args[1]) // 2], args[2])
            if error == SHORT:
                return done
        elif error == SHORT:
            return super().syscall(name, function, *args)
        if name == "fdatasync" and error != errno.EINTR:
            kept = self.files[args[0]][1]
            assert kept is not None
            kept.pending = []
        raise OSError(error, os.strerror(error))

    def let_go(self) -> None:
        """The process that had the files open is dead."""
        while self._paths:
            os.close(self._paths.popitem()[0])
