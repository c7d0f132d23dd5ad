"""Whether a folder is on another medium, one that is there when the box's own disk is not. Runs in: `export --to`, `release`.

A medium that is not mounted is a folder of something else: of the system's disk, or of memory.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from brainforge_edge.core.errors import StorageError

MOUNTS = Path("/proc/self/mountinfo")
_SYSTEM = Path("/")
# Gone with the power, or a view of what lies on the box's disk.
_FLEETING = frozenset({"tmpfs", "ramfs", "rootfs", "devtmpfs", "overlay"})
_ESCAPED = re.compile(r"\\([0-7]{3})")  # blanks in mountinfo

_REMEDIES = {
    "storage.full": "Free space on the medium of {medium}, or name a folder of a larger one",
    "storage.io": "Check the medium of {medium}, and name a folder of another one",
    "storage.read_only": "Mount the medium of {medium} writable, or name a folder of another one",
    "storage.permission": "Name a folder of the medium that this user may use instead of {medium}, or run it as root",
    "storage.missing": "See whether the medium of {medium} is still there, and mount it again",
    "storage.failed": "Check the medium of {medium} and the system log, or name a folder of another one",
}


class Place(NamedTuple):
    """What a path lies on."""

    device: int
    kind: str  # of the file system
    source: str  # what is mounted; of two subvolumes of one disk the same


Look = Callable[[Path], Place]


def place_of(path: Path) -> Place:
    """As the kernel says; StorageError where it says nothing."""
    try:
        device = path.stat().st_dev
        mounts = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise _unusable(
            "no_medium",
            path,
            f"nobody can say what it is on ({str(error.strerror).lower()})",
            "Run it where /proc is mounted, as a user who may enter the folder",
        ) from error
    kind, source = mounted_at(Path(os.path.realpath(path)), mounts)
    return Place(device, kind, source)


def mounted_at(path: Path, mounts: str) -> tuple[str, str]:
    """Kind and source of what a path without links lies on; of several mounts at a place the last one counts."""
    found, best = ("", ""), -1
    for line in mounts.splitlines():
        before, _, behind = line.partition(" - ")
        where, what = before.split(" "), behind.split(" ")
        if len(where) < 5 or len(what) < 2:
            continue
        point = Path(_plain(where[4]))
        if path.is_relative_to(point) and len(point.parts) >= best:
            found, best = (what[0], _plain(what[1])), len(point.parts)
    return found


def check_medium(folder: Path, medium: Path, look: Look) -> None:
    """StorageError unless `medium` is a folder of a medium that has nothing to do with the recording in `folder`."""
    if not medium.is_dir():
        raise _unusable(
            "no_medium",
            medium,
            "there is no such folder",
            "Plug the medium in, mount it, and name a folder on it",
        )
    there = look(medium)
    if there.kind in _FLEETING:
        raise _unusable(
            "no_medium",
            medium,
            f"it is no medium, but {there.kind}: what lies there is gone with the power, or with the box",
            "Mount the medium, and name a folder on it",
        )
    if _is_same(there, look(folder)):
        raise _unusable(
            "same_disk",
            medium,
            "it is on the disk of the recordings, which would take both with it",
            "Name a folder on another medium; one that is not mounted looks like this, too",
        )
    if _is_same(there, look(_SYSTEM)):
        raise _unusable(
            "no_medium",
            medium,
            "it is on the disk of the system: no medium is mounted there",
            "Mount the medium, and name a folder on it",
        )


@contextmanager
def on_medium(medium: Path) -> Iterator[None]:
    """Errors of files on it speak of it: else a person would make room on the disk of the recordings."""
    try:
        yield
    except StorageError as error:
        remedy = _REMEDIES.get(error.code)
        if remedy is None or not Path(str(error.facts.get("path"))).is_relative_to(medium):
            raise
        raise StorageError(
            error.code.removeprefix("storage."),
            error.what,
            why=error.why.replace("the disk", "the medium"),
            remedy=remedy.format(medium=medium),
            transient=error.transient,
            **error.facts,
        ) from error


def _is_same(one: Place, two: Place) -> bool:
    is_device = one.source.startswith("/")  # "tmpfs" and the like name nothing
    return one.device == two.device or (is_device and one.source == two.source)


def _plain(text: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), text)


def _unusable(code: str, medium: Path, why: str, remedy: str) -> StorageError:
    return StorageError(code, f"{medium} cannot be used", why=why, remedy=remedy)
