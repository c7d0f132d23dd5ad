"""How long a box takes from its start until it records again, after a power cut in a long recording.

    python -m tests.faults recovery --gb 100 --seed 1 --json

A helmet's recording of so many GB of segments, whose journal is full, is made ready on the disk; the
closed segments are sparse files with real descriptors and heads (`recovery_material`). None of it is in
the page cache when the daemon starts. Measured are the seconds until a new row is durable, what the
acquire process had read by then, and its private memory at most. Then every row of the journal must be
there, once, as it was. `--mutant` breaks the product first.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brainforge_edge.codec import registry
from brainforge_edge.core.stream import Codec, Dtype
from brainforge_edge.recorder.reader import Damage, Whole, scan
from tests.faults.box import box_in
from tests.faults.mutants import environment
from tests.faults.recovery_material import DEVICE, MIB, RECORDING, STREAM, Night
from tests.faults.rig import rows

MOST_S = 10.0
MOST_MIB = 64.0  # of private memory, beside the ring
MUTANTS = {
    "no-tail-check": """
    from brainforge_edge.recorder import recover, tail
    recover.torn_from = tail.torn_from = lambda segment, journal: None
    """,
    "forgets-the-journal": """
    from brainforge_edge.recorder import recover
    recover.uncovered_pieces = lambda *arguments: ()
    """,
}


@dataclass(frozen=True)
class Outcome:
    """What came of one start."""

    seconds: float  # from the start of the daemon to a durable row
    answered_s: float  # … to its first answer
    cpu_s: float  # of the acquire process until a row was durable
    read_mb: float  # by the acquire process until then
    private_mib: float  # its own memory at most, until then
    acknowledged: int  # rows in the journal
    lost: int = 0
    duplicated: int = 0
    different: int = 0
    damaged: int = 0  # places in the last segments that are no chunk

    @property
    def is_whole(self) -> bool:
        return not (self.lost or self.duplicated or self.different or self.damaged)


def start_again(
    folder: Path, night: Night, *, mutant: str = "", uplink: str = "enabled = false"
) -> Outcome:
    """A daemon over what `night` made in `folder/box/recordings`."""
    with box_in(folder) as box:
        box.device(DEVICE, "opm")
        box.emulate(DEVICE, "opm", channels=night.info.n_channels)
        box.write_config(uplink=uplink)
        _forget(box.recordings)
        started = time.monotonic()
        box.start(environment(folder, MUTANTS.get(mutant, "")))
        answered = time.monotonic() - started
        watched = _Watched()

        def is_recording() -> bool:
            worker = box.worker(f"acquire:{DEVICE}")
            watched.look(worker.get("pid"))
            return bool(box.stream(STREAM).get("recorded"))

        box.until(is_recording, 600, "a recorded row")
        seconds = time.monotonic() - started
        box.ask("stop", timeout_s=120.0)
    found = _account(night)
    return Outcome(
        round(seconds, 2), round(answered, 2), watched.cpu_s, round(watched.read_bytes / 1e6, 1), round(watched.private_kib / 1024, 1),
        night.end - night.first, **found,
    )  # fmt: skip


class _Watched:
    """What /proc says of a process, looked at again and again."""

    def __init__(self) -> None:
        self.private_kib = 0
        self.read_bytes = 0
        self.cpu_s = 0.0

    def look(self, pid: int | None) -> None:
        if pid is None:
            return
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            io = Path(f"/proc/{pid}/io").read_text()
            stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return  # it ended: `until` sees that it does not record
        self.private_kib = max(self.private_kib, _field(status, "RssAnon:"))
        self.read_bytes = _field(io, "rchar:")
        self.cpu_s = (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def _field(text: str, name: str) -> int:
    """0 where it is missing: of a process that begins or ends."""
    lines = (line for line in text.splitlines() if line.startswith(name))
    return next((int(line.split()[1]) for line in lines), 0)


def _forget(folder: Path) -> None:
    """Write everything below `folder` to the disk and drop it from the page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fdatasync(fd)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(fd)


def _account(night: Night) -> dict[str, int]:
    """Rows of the journal in the segments that are not hollow."""
    times = np.zeros(night.end - night.first, np.int64)
    different = damaged = 0
    for path in sorted((night.folder / STREAM).glob("*.seg"))[night.n_hollow :]:
        for piece in scan(path):
            if isinstance(piece, Damage):
                damaged += 1
                continue
            head = piece.head
            if head.codec >= Codec.DESCRIPTOR or head.incarnation != night.incarnation:
                continue
            times[head.seq - night.first : head.end - night.first] += 1
            different += _differences(piece, night.info.n_channels)
    extra = int(times.sum() - np.count_nonzero(times))
    return {
        "lost": int(np.count_nonzero(times == 0)), "duplicated": extra,
        "different": different, "damaged": damaged,
    }  # fmt: skip


def _differences(piece: Whole, n_channels: int) -> int:
    head, chunk = piece.head, piece.chunk()
    decoded = registry.decode(
        chunk.codec, chunk.body, Dtype(head.dtype), head.n_samples, n_channels
    )
    return int(np.any(decoded != rows(head.seq, head.n_samples, n_channels), axis=1).sum())


def campaign(
    folder: Path, *, gb: float, seed: int, n_channels: int = 306, journal_s: float = 60.0,
    segment_mib: float = 32.0, mutant: str = "", uplink: str = "enabled = false",
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Night, Outcome]:  # fmt: skip
    """One night of `gb`, and the start after it."""
    say(f"making {gb:g} GB of segments")
    night = Night(
        folder / "box" / "recordings", n_channels=n_channels, journal_s=journal_s,
        segment_mib=segment_mib, seed=seed,
    )  # fmt: skip
    night.make(gb * 1e9)
    say("starting the daemon")
    return night, start_again(folder, night, mutant=mutant, uplink=uplink)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults recovery")
    parser.add_argument("--gb", type=float, default=100.0, help="of closed segments, sparse")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--mutant", default="", choices=["", *MUTANTS])
    parser.add_argument(
        "--folder", type=Path, help="on the disk to be measured; else a temporary one"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)

    def say(text: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{text}")

    with tempfile.TemporaryDirectory(prefix="bf-recovery-", dir=options.folder) as folder:
        night, outcome = campaign(
            Path(folder), gb=options.gb, seed=options.seed, mutant=options.mutant,
            uplink='host = "127.0.0.1"\nport = 9', say=say,
        )  # fmt: skip
    found: dict[str, Any] = {
        "campaign": "recovery",
        "runs": 1,
        **asdict(outcome),
        "segments": night.n_hollow,
        "segments_gb": round(night.segment_bytes / 1e9, 1),
        "segments_are": "sparse: descriptors and heads are real, bodies are holes",
        "journal_mib": round(night.journal_bytes / MIB, 1),
        "recording": RECORDING,
        "seed": options.seed,
        "mutant": options.mutant,
        "met": outcome.is_whole and outcome.seconds <= MOST_S and outcome.private_mib <= MOST_MIB,
    }
    print(json.dumps(found, indent=None if options.json else 1))
    return 0 if found["met"] else 1
