"""The same faults met by what is recorded beside us: BrainFlow's file streamer, and XDF.

    python -m tests.faults peers --kills 15 --cuts 100 --flips 200 --seed 1 --json

BrainFlow's synthetic board is streamed to a file and killed at random moments, then its disk is cut off
at random moments: a sample that the application had been handed and that is not in the file is lost, as
a sample that we acknowledged would be. Single bits are flipped in the samples of an XDF file and it is
read by pyxdf: what it hands out changed without a word is accepted. Needs the extra `bench`, and
root, FUSE and loop devices for the cuts. Nothing is met or missed here: it is what the promises are held against.
"""

import argparse
import json
import logging
import random
import subprocess
import sys
import tempfile
import threading
import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyxdf

from tests.faults.cuttable import MODELS, CuttableDisk, Platter, is_possible
from tests.faults.peerfiles import brainflow_rows, xdf

DISK_MIB = 256
START_S = 30.0
KILL_S = (1.0, 5.0)
CUT_S = 50.0
_HEAD_BYTES = 1024  # of an XDF file: texts, not samples


class Handed:
    """What a running streamer said its application had, and when (CLOCK_MONOTONIC)."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.seen: list[tuple[int, int]] = []
        self._thread = threading.Thread(target=self._hear)
        self._thread.start()

    def _hear(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith("\n"):
                self.seen.append((time.monotonic_ns(), int(line)))

    def at(self, t_ns: int) -> int:
        n = bisect_right(self.seen, t_ns, key=lambda each: each[0])
        return self.seen[n - 1][1] if n else 0

    def until_first(self) -> None:
        until = time.monotonic() + START_S
        while not self.seen or not self.seen[-1][1]:
            if self.process.poll() is not None or time.monotonic() > until:
                raise AssertionError("BrainFlow's synthetic board did not start")
            time.sleep(0.02)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._thread.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def _streaming(path: Path) -> Iterator[Handed]:
    command = [sys.executable, "-m", "tests.faults.peerfiles", str(path)]
    handed = Handed(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    try:
        handed.until_first()
        yield handed
    finally:
        handed.kill()


def killed(folder: Path, n: int, chance: random.Random) -> dict[str, Any]:
    """BrainFlow's file streamer, `n` times started and killed."""
    acknowledged = lost = 0
    for run in range(n):
        path = folder / f"kill-{run}.csv"
        with _streaming(path) as handed:
            time.sleep(chance.uniform(*KILL_S))
        had = handed.seen[-1][1]
        acknowledged += had
        lost += max(0, had - brainflow_rows(path))
    return {"peer": "BrainFlow file streamer", "fault": "kill -9", "runs": n,
            "acknowledged": acknowledged, "lost": lost}  # fmt: skip


def cut(folder: Path, cuts: int, seconds: float, chance: random.Random) -> dict[str, Any]:
    """One recording of BrainFlow's file streamer on ext4, cut off so often."""
    with CuttableDisk(folder, mib=DISK_MIB) as disk:
        with _streaming(disk.mount / "peer.csv") as handed:
            time.sleep(seconds)
        events, blank = disk.events, disk.blank
    first, last = handed.seen[0][0], handed.seen[-1][0]
    moments = [n for n, event in enumerate(events) if first < event.t_ns <= last]
    # Where nothing reaches the disk for seconds there is no event to cut at: a moment is a time.
    times = sorted(chance.randint(first, last) for _ in range(cuts))
    platter = Platter(folder, blank, events)
    acknowledged, lost = 0, []
    for t_ns in times:
        at = bisect_right(events, t_ns, key=lambda event: event.t_ns) - 1
        had = handed.at(t_ns)
        with platter.mounted(max(0, at), chance.choice(MODELS), chance) as mount:
            lost.append(max(0, had - brainflow_rows(mount / "peer.csv")))
        acknowledged += had
    return {"peer": "BrainFlow file streamer", "fault": "power cut", "runs": cuts,
            "acknowledged": acknowledged, "lost": sum(lost), "most_lost": max(lost),
            "writes_that_reached_the_disk": len(moments)}  # fmt: skip


def flipped(folder: Path, n: int, chance: random.Random) -> dict[str, Any]:
    """An XDF file with one bit of its samples flipped, read by pyxdf, `n` times."""
    said: list[logging.LogRecord] = []
    words = _Heard(said)
    logger = logging.getLogger("pyxdf")
    logger.addHandler(words)
    logger.propagate = False
    path = folder / "peer.xdf"
    xdf(path, seconds=20, seed=chance.randrange(2**32))
    whole = path.read_bytes()
    samples = _read(path)
    counts = {"accepted": 0, "warned": 0, "refused": 0, "unchanged": 0}
    for _ in range(n):
        bit = chance.randrange(8 * _HEAD_BYTES, 8 * len(whole))
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        said.clear()
        try:
            found = _read(path)
        except Exception:  # noqa: BLE001  whatever the reader says, it says something
            counts["refused"] += 1
            continue
        same = found.shape == samples.shape and bool(np.array_equal(found, samples))
        counts["unchanged" if same else "warned" if said else "accepted"] += 1
    return {"peer": "XDF read by pyxdf", "fault": "a bit flipped", "runs": n, **counts}


class _Heard(logging.Handler):
    """Keeps what is said from a warning on."""

    def __init__(self, said: list[logging.LogRecord]) -> None:
        super().__init__(logging.WARNING)
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        self._said.append(record)


def _read(path: Path) -> np.ndarray:
    streams, _ = pyxdf.load_xdf(str(path), synchronize_clocks=False, dejitter_timestamps=False)
    return np.asarray(streams[0]["time_series"])


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults peers")
    parser.add_argument("--kills", type=int, default=15)
    parser.add_argument("--cuts", type=int, default=100)
    parser.add_argument("--flips", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=CUT_S, help="of the recording that is cut")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.cuts and not is_possible():
        sys.exit("peers: cuts need root, /dev/fuse (libfuse3-3), losetup and mkfs.ext4")
    chance = random.Random(options.seed)
    rows = []
    with tempfile.TemporaryDirectory(prefix="bf-peers-") as work:
        folder = Path(work)
        if options.kills:
            rows.append(killed(folder, options.kills, chance))
        if options.cuts:
            rows.append(cut(folder, options.cuts, options.seconds, chance))
        if options.flips:
            rows.append(flipped(folder, options.flips, chance))
    result = {"campaign": "peers", "seed": options.seed, "rows": rows}
    print(json.dumps(result, indent=None if options.json else 1))
    return 0
