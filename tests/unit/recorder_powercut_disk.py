"""A disk that forgets: after a power cut only what was synced is certain, anything else may be there or not.

Stricter than ext4: names need a sync of their folder, writes reach the disk in 512-byte sectors in any order.
"""

import errno
import os
import random as random_module
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.unit.recorder_faulty_disk import Killed, MortalDisk

SECTOR = 512


class _Kept:
    """A file or folder as the platter has it."""

    def __init__(self, *, is_folder: bool) -> None:
        self.is_folder = is_folder
        self.synced = b""
        self.pending: list[tuple[int, bytes]] = []
        self.sizes: list[int] = []  # that the file had since the last sync


class PowerCutDisk(MortalDisk):
    """Cuts the power before the `at`-th call that changes something; then `platter` makes what is left.

    The `bad_sync`-th fdatasync fails with EIO, and like Linux the disk then holds those pages for
    clean: they are never written, and the next sync of the same file succeeds.
    """

    def __init__(
        self, root: Path, *, at: int = -1, mutant: str = "", seed: int = 1, bad_sync: int = -1
    ) -> None:
        super().__init__()
        self.root = root
        self.at = at
        self.count = 0
        self.bad_sync = bad_sync
        self.syncs = 0
        self.mutant = mutant
        self.random = random_module.Random(seed)
        self.is_dead = False
        self.now: dict[Path, _Kept] = {}  # by path, as the running system sees it
        self.named: dict[Path, dict[str, _Kept]] = {root: {}}  # folder → names that are synced
        self.files: dict[int, tuple[Path, _Kept | None]] = {}

    def syscall(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        if self.is_dead and name != "close":
            raise Killed
        if name in {"pwrite", "fdatasync", "fsync", "fallocate", "ftruncate", "unlink", "mkdir", "rename", "link", "rmdir"}:  # fmt: skip
            if self.count == self.at:
                self.is_dead = True
                raise Killed
            self.count += 1
        if (name == "fdatasync" and self.mutant == "no_sync") or (
            name == "fsync" and self.mutant == "no_folder_sync"
        ):
            return None
        result = None if name in {"fdatasync", "fsync"} else function(*args)
        remember = getattr(self, f"_{name}", None)
        if remember is not None:
            remember(result, *args)
        return result

    def _open(self, fd: int, path: Path, flags: int, *_: int) -> None:
        if flags & os.O_DIRECTORY:
            self.files[fd] = (path, None)
            return
        if flags & os.O_CREAT:
            self.now.setdefault(path, _Kept(is_folder=False))
        self.files[fd] = (path, self.now.get(path))

    def _mkdir(self, _: None, path: Path, *__: int) -> None:
        self.now[path] = _Kept(is_folder=True)
        self.named.setdefault(path, {})

    def _rmdir(self, _: None, path: Path) -> None:
        del self.now[path]

    def _unlink(self, _: None, path: Path) -> None:
        self.now.pop(path, None)

    def _rename(self, _: None, old: Path, new: Path) -> None:
        self.now[new] = self.now.pop(old)

    def _link(self, _: None, path: Path, other: Path) -> None:
        self.now[other] = self.now[path]

    def _pwrite(self, done: int, fd: int, view: memoryview, at: int) -> None:
        kept = self.files[fd][1]
        assert kept is not None
        data = bytes(view[:done])
        first = SECTOR - at % SECTOR
        cuts = [0, *range(first, done, SECTOR), done]
        kept.pending += [(at + a, data[a:b]) for a, b in pairwise(cuts) if b > a]
        kept.sizes.append(os.fstat(fd).st_size)

    def _fallocate(self, _: None, fd: int, *__: int) -> None:
        self._resized(fd)

    def _ftruncate(self, _: None, fd: int, *__: int) -> None:
        self._resized(fd)

    def _resized(self, fd: int) -> None:
        kept = self.files[fd][1]
        assert kept is not None
        kept.sizes.append(os.fstat(fd).st_size)

    def _fdatasync(self, _: None, fd: int) -> None:
        kept = self.files[fd][1]
        assert kept is not None
        self.syncs += 1
        if self.syncs - 1 == self.bad_sync:
            kept.pending = []
            raise OSError(errno.EIO, "Input/output error")
        kept.synced = self._applied(kept, os.fstat(fd).st_size, share=1.0)
        kept.pending, kept.sizes = [], []

    def _fsync(self, _: None, fd: int) -> None:
        folder, kept = self.files[fd]
        assert kept is None
        self.named[folder] = {
            path.name: item for path, item in self.now.items() if path.parent == folder
        }

    def platter(self, target: Path) -> None:
        """Write to `target` what a machine finds when it has power again."""
        target.mkdir(parents=True)
        self._restore(self.root, target)

    def take_stock(self, folder: Path) -> None:
        """What lies in `folder` is on the platter, whole."""
        named = self.named.setdefault(folder, {})
        for path in sorted(folder.iterdir()):
            kept = self.now[path] = named[path.name] = _Kept(is_folder=path.is_dir())
            if kept.is_folder:
                self.take_stock(path)
            else:
                kept.synced = path.read_bytes()

    def _restore(self, folder: Path, target: Path) -> None:
        synced = self.named.get(folder, {})
        current = {path.name: kept for path, kept in self.now.items() if path.parent == folder}
        for name in sorted({*synced, *current}):
            sides = [synced.get(name), current.get(name)]
            kept = sides[0] if sides[0] is sides[1] else self.random.choice(sides)
            if kept is None:
                continue
            if kept.is_folder:
                (target / name).mkdir()
                self._restore(folder / name, target / name)
            else:
                (target / name).write_bytes(self._content(kept))

    def _content(self, kept: _Kept) -> bytes:
        size = self.random.choice([len(kept.synced), *kept.sizes])
        return self._applied(kept, size, share=self.random.random())

    def _applied(self, kept: _Kept, size: int, *, share: float) -> bytes:
        data = bytearray(kept.synced[:size].ljust(size, b"\0"))
        for at, part in kept.pending:
            if (share == 1.0 or self.random.random() < share) and at + len(part) <= size:
                data[at : at + len(part)] = part
        return bytes(data)
