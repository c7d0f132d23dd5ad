"""ext4 on a recorded disk, and the disk as a power cut at any moment leaves it. Needs root and FUSE."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.benchmarks.loopdisk import is_possible as has_loop
from tests.benchmarks.loopdisk import run
from tests.faults.recorded_disk import NAME, Event, read_log

PAGE, SECTOR = 4096, 512
TORN = 0.1  # of the pages that were not flushed and reached the platter
_MOUNT_S = 10.0
MODELS = ("dropped", "reordered")


def is_possible() -> bool:
    return has_loop() and Path("/dev/fuse").exists()


class CuttableDisk:
    """`with CuttableDisk(folder, mib=…) as disk`: mounted at `disk.mount`; afterwards `events`."""

    def __init__(self, folder: Path, *, mib: int) -> None:
        self.folder = folder
        self.mount = folder / "mount"
        self.blank = folder / "blank.img"  # the file system as it was made
        self._fuse = folder / "fuse"
        self._size = mib * 1024 * 1024
        self._server: subprocess.Popen[bytes] | None = None
        self._device = ""

    @property
    def events(self) -> list[Event]:
        """All that reached the disk."""
        return list(read_log(self.folder / "log"))

    def __enter__(self) -> Self:
        for each in (self.mount, self._fuse):
            each.mkdir()
        with self.blank.open("wb") as file:
            file.truncate(self._size)
        run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", self.blank)
        image = self.folder / "disk.img"
        run("cp", "--sparse=always", self.blank, image)
        module = [sys.executable, "-m", "tests.faults.recorded_disk"]
        self._server = subprocess.Popen([*module, image, self.folder / "log", self._fuse])
        try:
            self._await_disk()
            self._device = run("losetup", "--find", "--show", self._fuse / NAME).strip()
            run("mount", self._device, self.mount)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        run("umount", self.mount)
        self._end()

    def _await_disk(self) -> None:
        until = time.monotonic() + _MOUNT_S
        while not (self._fuse / NAME).exists():
            if time.monotonic() > until or (self._server and self._server.poll() is not None):
                raise OSError("FUSE did not mount the disk; is /dev/fuse there, and libfuse3-3?")
            time.sleep(0.02)

    def _end(self) -> None:
        if self._device:
            run("losetup", "-d", self._device)
        if self._server is not None:
            with suppress(OSError):
                run("umount", self._fuse)
            self._server.wait(_MOUNT_S)


class Platter:
    """Disks as they are after power cuts at `events[at]`, `at` never falling."""

    def __init__(self, folder: Path, blank: Path, events: list[Event]) -> None:
        self._events = events
        self._image = folder / "cut.img"
        self._flushed = folder / "flushed.img"
        self._mount = folder / "cut"
        self._mount.mkdir()
        self._n_flushed = 0  # events that are in `_flushed`
        run("cp", "--sparse=always", blank, self._flushed)

    @contextmanager
    def mounted(self, at: int, model: str, chance: random.Random) -> Iterator[Path]:
        """All that was flushed before event `at`, and of later writes nothing (`dropped`) or any part
        of their pages and sectors (`reordered`)."""
        last = max(
            (n for n in range(self._n_flushed, at + 1) if self._events[n].is_flush), default=-1
        )
        if last >= 0:
            _apply(self._flushed, [e for e in self._events[self._n_flushed : last] if e.data])
            self._n_flushed = last + 1
        run("cp", "--sparse=always", self._flushed, self._image)
        if model == "reordered":
            _apply(self._image, _some(self._events[self._n_flushed : at + 1], chance))
        run("mount", "-o", "loop", self._image, self._mount)
        try:
            yield self._mount
        finally:
            run("umount", self._mount)


def _apply(image: Path, writes: list[Event]) -> None:
    fd = os.open(image, os.O_RDWR)
    try:
        for write in writes:
            os.pwrite(fd, write.data, write.offset)
    finally:
        os.close(fd)


def _some(events: list[Event], chance: random.Random) -> list[Event]:
    """Half of their pages, some of them torn."""
    pages = [
        Event(event.t_ns, event.offset + at, event.data[at : at + PAGE])
        for event in events
        for at in range(0, len(event.data), PAGE)
        if chance.random() < 0.5
    ]
    return [
        page._replace(data=page.data[: SECTOR * chance.randrange(1, PAGE // SECTOR)])
        if chance.random() < TORN
        else page
        for page in pages
    ]
