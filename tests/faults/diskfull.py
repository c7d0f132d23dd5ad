"""A disk that fills while a box records, and is freed again.

    python -m tests.faults diskfull --n 3 --seed 1 --json

The daemon records a Cyton on a file system of its own (a tmpfs of 768 MiB). A ballast file fills it step
by step past each limit of the budget, then wholly: the recording must go on as long as it can, be closed
whole, be refused until there is room, and begin again by itself. Every row that another process had seen
acknowledged must be there once, and no file of a recording may go. Needs root. `--mutant` breaks the
product first.
"""

import argparse
import json
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from brainforge_edge.core.errors import BrainforgeError
from tests.benchmarks.loopdisk import run as system
from tests.faults.box import Box, box_in, is_root
from tests.faults.witness import Seen, Witness

STREAM = "cyton-eeg"
DISK_MIB = 768
RESERVE_MIB = 48  # a sixteenth of it: a segment for each stream, and some
MIB = 1024 * 1024
WAIT_S = 60.0
MUTANTS = {
    "no-reserve": """
    from brainforge_edge.storage.room import Room
    Room.reserve_bytes = lambda self: 0
    """,
    "never-refuses": """
    from brainforge_edge.daemon.disk import DiskWatch
    DiskWatch.refuse_if_full = lambda self: None
    """,
}
_DAEMON = """
import sys
if "run" in sys.orig_argv and "--config" in sys.orig_argv:
    {body}
"""


@dataclass
class Found:
    """Over all rounds; `wrong` names every promise that was not kept."""

    runs: int = 0
    acknowledged: int = 0
    lost: int = 0
    duplicated: int = 0
    deleted: int = 0
    wrong: list[str] = field(default_factory=list)

    def check(self, is_so: object, what: str) -> None:
        if not is_so:
            self.wrong.append(f"round {self.runs}: {what}")

    def result(self, campaign: str) -> dict[str, Any]:
        is_bad = self.lost or self.duplicated or self.deleted or self.wrong
        met = bool(self.runs and self.acknowledged and not is_bad)
        return {"campaign": campaign, **vars(self), "met": met}


class SmallDisk:
    """A mounted tmpfs and the file that fills it."""

    def __init__(self, mount: Path) -> None:
        self.mount = mount
        self._ballast = mount / "ballast"

    def free(self) -> int:
        found = os.statvfs(self.mount)
        return found.f_bavail * found.f_frsize

    def leave(self, n_bytes: int) -> None:
        """So much of what is free now; what the box frees meanwhile is left to it."""
        left = self.free() - n_bytes
        if left > 0:
            with self._ballast.open("ab") as file:
                os.posix_fallocate(file.fileno(), file.tell(), left)

    def clear(self) -> None:
        self._ballast.unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk]:
    mount = folder / "disk"
    mount.mkdir()
    system("mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", mount)
    try:
        yield SmallDisk(mount)
    finally:
        system("umount", mount)


@contextmanager
def recording_box(folder: Path, root: Path, environment: dict[str, str]) -> Iterator[Box]:
    """A Cyton that streams, on a daemon whose root is `root`."""
    with box_in(folder) as box:
        box.device("cyton", "openbci")
        box.emulate("cyton", "cyton", channels=16)
        box.write_config(
            recording="segment_mib = 16\njournal_s = 10",
            disk=f"reserve_mib = {RESERVE_MIB}",
            root=root,
        )
        box.start(environment)
        box.until_streaming(STREAM, WAIT_S)
        yield box


def daemon_environment(folder: Path, mutant: str) -> dict[str, str]:
    """In which `mutant` is patched into the daemon's own process."""
    if not mutant:
        return {}
    place = folder / "mutant"
    place.mkdir()
    body = MUTANTS[mutant].strip()
    (place / "sitecustomize.py").write_text(_DAEMON.format(body=body), encoding="utf-8")
    path = os.pathsep.join(filter(None, (str(place), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}


def campaign(folder: Path, *, n: int, seed: int, mutant: str = "") -> Found:
    """`n` times filled and freed."""
    chance = random.Random(seed)
    found = Found()
    with (
        small_disk(folder) as disk,
        recording_box(folder, disk.mount / "box", daemon_environment(folder, mutant)) as box,
    ):
        if not mutant:
            box.until(lambda: _disk(box)["reserve_bytes"], WAIT_S, "the reserve")
        for _ in range(n):
            found.runs += 1
            _round(box, disk, chance, found)
            if found.wrong:
                break
        disk.clear()
    return found


def _round(box: Box, disk: SmallDisk, chance: random.Random, found: Found) -> None:
    name = f"night-{found.runs}"
    box.ask("record", name=name)
    box.until(lambda: box.stream(STREAM).get("recorded"), WAIT_S, "a recorded row")
    found.check(_disk(box)["hours_left"], "status does not say how long the disk lasts")
    ring = {STREAM: box.run / "rings" / f"{STREAM}.ring"}
    with Witness(ring) as witness:
        for percent, pressure in ((85, "alarm"), (92, "no_derived")):
            disk.leave(DISK_MIB * MIB * (100 - percent) // 100)
            found.check(comes(box, lambda p=pressure: _disk(box)["pressure"] == p), pressure)
        found.check(not _disk(box)["derived"], "derived products may still be made at 92 %")
        found.check(
            box.status()["recording"] == name, "the recording ended before the disk was full"
        )
        before = _files(box)
        disk.leave(chance.randrange(0, 2) * 4096)
        found.check(
            comes(box, lambda: not box.status().get("recording")), "it was not closed when full"
        )
        card = box.recordings / name / "recording.json"
        is_closed = comes(box, lambda: json.loads(card.read_text())["closed"])
        found.check(is_closed, "the recording was not closed whole")
    found.check(not _is_begun(box, f"late-{found.runs}"), "a recording began on a full disk")
    found.deleted += len(before - _files(box))
    if found.wrong:
        return
    account = box.verify()
    count(account[name][STREAM], witness.seen[STREAM], found)
    disk.clear()
    found.check(
        comes(box, lambda: box.stream(STREAM).get("recorded")),
        "no recording began with room again",
    )
    resumed = box.status()["recording"]
    box.ask("stop")
    stream = box.verify()[resumed][STREAM]
    found.check(stream["rows"] and not stream["missing"], "what began again is not whole")


def count(stream: dict[str, Any], seen: list[Seen], found: Found) -> None:
    """What `verify` says of a stream against what was seen acknowledged, from its first rows on."""
    acknowledged = seen[-1].durable - seen[0].durable + 1
    found.acknowledged += acknowledged
    found.lost += max(0, acknowledged - stream["rows"])
    found.lost += sum(end - first for _, first, end in stream["missing"])
    found.duplicated += stream["duplicates"]


def _disk(box: Box) -> dict[str, Any]:
    return box.status().get("disk") or dict.fromkeys(
        ("reserve_bytes", "pressure", "derived", "hours_left")
    )


def comes(box: Box, is_so: Any) -> bool:
    try:
        box.until(is_so, WAIT_S, "it")
    except AssertionError:
        return False
    return True


def _is_begun(box: Box, name: str) -> bool:
    try:
        box.ask("record", name=name)
    except BrainforgeError as error:
        return error.code != "storage.no_room"
    with suppress(BrainforgeError):  # the box may have closed it already
        box.ask("stop")
    return True


def _files(box: Box) -> set[str]:
    """Of samples: what is on the disk and nobody has a receipt for."""
    return {str(path) for path in box.recordings.rglob("*.seg")}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults diskfull")
    parser.add_argument("--n", type=int, default=10)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--mutant", default="", choices=["", *MUTANTS])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if not is_root():
        sys.exit("diskfull: this needs root, to mount a small disk")
    with tempfile.TemporaryDirectory(prefix="bf-diskfull-") as folder:
        found = campaign(Path(folder), n=options.n, seed=options.seed, mutant=options.mutant)
    result = found.result("diskfull") | {"seed": options.seed, "mutant": options.mutant}
    print(json.dumps(result, indent=None if options.json else 1))
    return 0 if result["met"] else 1
