"""I/O errors: EIO, ENOSPC, EINTR and short writes at every call of a recording, and at calls of the real daemon.

    python -m tests.faults ioerr --all --seed 1 --json

Six seconds of a fast and a slow stream are recorded with small files, in simulated time, once for
each call that changes something on the disk and each way in which it can fail, once or for a while.
After it nothing acknowledged may be missing: neither after the recording was stopped, nor when power
or process fail right behind the error. The recording must go on, and its account be exact.
`--daemon` makes 20 calls of the real daemon fail through strace, while another process notes what is
acknowledged; it needs root and strace, and fails without them. `--all` is both, `--mutant` breaks the
simulated recorder first, and without any of them an even part of the simulation is run.
"""

import argparse
import errno
import json
import logging
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from tests.faults.edited import edited_all
from tests.faults.ioerr_daemon import Daemon, missing
from tests.faults.ioerr_disk import SHORT, WATCHED, Fault
from tests.faults.ioerr_mutants import MUTANTS
from tests.faults.ioerr_station import STEPS, Station, compare, put_right
from tests.faults.reference import Found
from tests.unit.recorder_faulty_disk import MortalDisk, UnsyncedDisk

KINDS = (errno.EIO, errno.ENOSPC, errno.EINTR, SHORT)
LASTING = ((errno.ENOSPC, 4), (errno.ENOSPC, 15), (errno.ENOSPC, 60), (errno.EIO, 2), (errno.EIO, 9))  # fmt: skip
MOST_LATE = 3  # steps between the error and the failure of power and process
MORE_STEPS = 8  # that are recorded after it
MOST_KEPT = 20  # reasons


@dataclass
class Count:
    """What came of the runs with one kind of fault, or of all."""

    runs: int = 0
    acknowledged: int = 0
    found: Found = field(default_factory=Found)
    inexact: int = 0
    stuck: int = 0  # recordings that did not go on or did not end
    ends: int = 0  # of the acquire process, by an error; it was started again
    whys: list[str] = field(default_factory=list)

    @property
    def is_met(self) -> bool:
        return not (self.found.is_bad or self.inexact or self.stuck)

    def add(self, found: Found, inexact: str, why: str) -> None:
        self.found += found
        self.inexact += bool(inexact)
        if (found.is_bad or inexact) and len(self.whys) < MOST_KEPT:
            self.whys.append(f"{why}: {found} {inexact}"[:400])


class Campaign:
    """`run` all faults, or a part of them; `stops` at the first that shows a fault of the recorder."""

    def __init__(self, work: Path, seed: int, say: Callable[[str], None] = lambda _: None) -> None:
        self._work = work
        self._seed = seed
        self._say = say
        self.counts: dict[str, Count] = {}
        self.ended_by: Counter[str] = Counter()
        self.calls: list[str] = []

    @property
    def is_met(self) -> bool:
        return bool(self.counts) and all(
            count.is_met and count.runs for count in self.counts.values()
        )

    def run(self, *, part: int = 1, stops: bool = False, calls: frozenset[str] = WATCHED) -> None:
        """Every `part`-th fault of these calls only, from a seeded one on."""
        self.calls = self._healthy()
        faults = [fault for fault in every_fault(self.calls) if self.calls[fault.at] in calls]
        chosen = faults[random.Random(self._seed).randrange(part) :: part]
        for number, fault in enumerate(chosen):
            count = self.counts.setdefault(fault.name, Count())
            for late in (None, (fault.at * 7 + self._seed) % (MOST_LATE + 1)):
                self._one(fault, late, count)
            self._say(f"{number + 1} of {len(chosen)} faults: {fault.name}")
            if stops and not self.is_met:
                return

    def _healthy(self) -> list[str]:
        """The names of all calls when none fails."""
        count = Count()
        calls = self._one(Fault(-1, 0, 0), None, count)
        if not count.is_met or count.ends:
            raise AssertionError(f"without faults: {count}")
        return calls

    def _one(self, fault: Fault, late: int | None, count: Count) -> list[str]:
        """A recording that is stopped, or whose process and power fail `late` steps after the error."""
        folder = self._work / "one"
        station = Station(folder, fault, seed=self._seed)
        count.runs += 1
        why = f"{fault.name} at call {fault.at}, " + ("stopped" if late is None else f"{late} late")
        try:
            if late is None:
                for _ in range(STEPS):
                    station.step()
                station.until_recorded()
            elif not self._fail_late(station, late, count, why):
                return station.disk.called
            station.finish()
            put_right(station.root, UnsyncedDisk())
            count.add(*compare(station.root, station.sent, station.sent), f"{why}, in the end")
            self._cut(station, station.sent, count, f"{why}, power cut in the end")
            count.acknowledged += sum(station.acknowledged.values())
        except TimeoutError as error:
            count.stuck += 1
            count.whys.append(f"{why}: {error}")
        finally:
            station.close()
            MortalDisk.bury()
            shutil.rmtree(folder)
        count.ends += station.ends
        if station.ends:
            self.ended_by[station.disk.called[fault.at]] += 1
        return station.disk.called

    def _fail_late(self, station: Station, late: int, count: Count, why: str) -> bool:
        """Power and process fail; the power's platter is judged, then the process is started again."""
        left = STEPS
        while not station.disk.struck and left:
            station.step()
            left -= 1
        for _ in range(late):
            station.step()
        if not station.disk.struck:
            return False  # it would come when the recording is stopped
        self._cut(station, station.acknowledged, count, f"{why}, power cut")
        station.die()
        for _ in range(MORE_STEPS):
            station.step()
        station.until_recorded()
        return True

    def _cut(self, station: Station, wanted: dict[str, int], count: Count, why: str) -> None:
        after = self._work / "after"
        station.disk.platter(after)
        try:
            put_right(after, UnsyncedDisk())
            count.add(*compare(after, wanted, station.sent), why)
        finally:
            shutil.rmtree(after)


def every_fault(calls: Iterable[str]) -> Iterable[Fault]:
    """Each call of a recording, failing once in each way that it can, and in two ways for a while."""
    for at, call in enumerate(calls):
        for error in KINDS:
            if Fault(at, error).meets(call):
                yield Fault(at, error)
        for more in range(2):
            error, lasts = LASTING[(2 * at + more) % len(LASTING)]
            yield Fault(at, error, lasts)


def result(campaign: Campaign) -> dict[str, Any]:
    """What the simulation found."""
    counts = campaign.counts.values()
    found = sum((count.found for count in counts), Found())
    return {
        "runs": sum(count.runs for count in counts),
        "acknowledged": sum(count.acknowledged for count in counts),
        "lost": found.lost,
        "duplicated": found.duplicated,
        "different": found.different,
        "inexact": sum(count.inexact for count in counts),
        "stuck": sum(count.stuck for count in counts),
        "process_ends": dict(campaign.ended_by),
        "calls": dict(Counter(campaign.calls)),
        "faults": {
            name: {"runs": count.runs, "lost": count.found.lost, "whys": count.whys}
            for name, count in campaign.counts.items()
        },
        "met": campaign.is_met,
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults ioerr")
    parser.add_argument("--all", action="store_true", help="every call, and the daemon")
    parser.add_argument("--daemon", action="store_true", help="the daemon alone")
    parser.add_argument("--samples", type=int, default=20, help="calls of the daemon that fail")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--mutant", default="", choices=["", *MUTANTS])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    has_daemon = (options.all or options.daemon) and not options.mutant
    if has_daemon and (lacks := missing()):
        sys.exit(f"ioerr: this needs {lacks}")
    started = time.monotonic()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))

    def say(text: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{time.monotonic() - started:6.0f} s  {text}")

    found: dict[str, Any] = {"campaign": "ioerr", "seed": options.seed, "mutant": options.mutant}
    parts: list[dict[str, Any]] = []
    if not options.daemon:
        place = "/dev/shm" if Path("/dev/shm").is_dir() else None
        with tempfile.TemporaryDirectory(prefix="bf-ioerr-", dir=place) as folder:
            campaign = Campaign(Path(folder), options.seed, say)
            with edited_all(MUTANTS.get(options.mutant, ())):
                campaign.run(part=1 if options.all else 20, stops=bool(options.mutant))
        parts.append(result(campaign))
        found["simulated"] = parts[-1]
    if has_daemon:
        with tempfile.TemporaryDirectory(prefix="bf-ioerr-") as folder:
            daemon = Daemon(Path(folder), options.seed, say)
            daemon.run(options.samples)
        parts.append(daemon.result())
        found["daemon"] = parts[-1]
    for key in ("runs", "acknowledged", "lost", "duplicated", "different"):
        found[key] = sum(part[key] for part in parts)
    found["met"] = all(part["met"] for part in parts)
    found["seconds"] = round(time.monotonic() - started, 1)
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    print(json.dumps(found, indent=None if options.json else 1))
    return 0 if found["met"] else 1
