"""A deterministic simulation: recorder, uplink and aggregator with a set clock, disk and network, under seeded faults.

    python -m tests.faults sim --seeds 1000 --json
    python -m tests.faults sim --seed 17

Each seed is one life of `--seconds` simulated seconds and what it takes to deliver everything after
it. The real acquire process, pump, cursors, writer and store run in one thread; power, processes,
disk, device, broker, links, clock and back-ups fail as the seed says. At all times memory is bounded
and no cursor is past what is stored; in the end each promised row is recorded and stored once, as it
was, and each hole is named by its size. A seed replays exactly: its digest is of all that happened.
SQLite files lie outside of the simulated disk: they are durable whenever it says so.
`--mutant` breaks the product first, and ends at the first seed that shows it.
"""

import argparse
import json
import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from tests.faults.edited import edited_all
from tests.faults.sim_mutants import MUTANTS
from tests.faults.sim_world import World
from tests.unit.recorder_faulty_disk import MortalDisk

SECONDS = 2500.0


class Campaign:
    """`one` seed after the other; what came of all."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seeds = 0
        self.box_seconds = 0.0
        self.acknowledged = self.lost = self.stored = self.duplicated = 0
        self.faults: Counter[str] = Counter()
        self.failed: dict[int, list[str]] = {}
        self.digest = ""  # of the last seed
        self._seconds = seconds

    @property
    def is_met(self) -> bool:
        return self.seeds > 0 and not self.failed

    def one(self, seed: int) -> None:
        place = "/dev/shm" if Path("/dev/shm").is_dir() else None
        with tempfile.TemporaryDirectory(prefix="bf-sim-", dir=place) as folder:
            world = World(Path(folder), seed)
            try:
                world.run(self._seconds)
            finally:
                MortalDisk.bury()
        self.seeds += 1
        self.box_seconds += world.seconds
        self.faults += world.faults
        end = world.end
        self.acknowledged += end.acknowledged
        self.lost += end.lost
        self.stored += end.stored
        self.duplicated += end.duplicated
        self.digest = world.trace.hexdigest()
        if world.wrong:
            self.failed[seed] = [each[:500] for each in world.wrong[:5]]

    def run(
        self,
        first: int,
        n: int,
        *,
        stops: bool = False,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        for seed in range(first, first + n):
            self.one(seed)
            say(f"{self.seeds} of {n} seeds, {self.box_seconds:.0f} box-seconds, {len(self.failed)} failed")  # fmt: skip
            if stops and self.failed:
                return

    def result(self) -> dict[str, Any]:
        return {
            "campaign": "sim",
            "runs": self.seeds,
            "box_seconds": round(self.box_seconds),
            "acknowledged": self.acknowledged,
            "lost": self.lost,
            "stored": self.stored,
            "duplicated": self.duplicated,
            "faults": dict(sorted(self.faults.items())),
            "failed": self.failed,
            "digest": self.digest,
            "met": self.is_met,
        }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults sim")
    parser.add_argument("--seeds", type=int, default=1, help="how many, from --seed on")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each seed")
    parser.add_argument("--mutant", default="", choices=["", *MUTANTS])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    started, worked = time.monotonic(), time.process_time()

    def say(text: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{time.monotonic() - started:6.0f} s  {text}")

    campaign = Campaign(options.seconds)
    with edited_all(MUTANTS.get(options.mutant, ())):
        campaign.run(options.seed, options.seeds, stops=bool(options.mutant), say=say)
    seconds = time.monotonic() - started
    found = campaign.result() | {
        "seed": options.seed,
        "mutant": options.mutant,
        "seconds": round(seconds, 1),
        "box_seconds_per_second": round(campaign.box_seconds / seconds),
        "box_seconds_per_cpu_second": round(campaign.box_seconds / (time.process_time() - worked)),
    }
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    print(json.dumps(found, indent=None if options.json else 1))
    return 0 if found["met"] else 1
