"""A broker that is away for a day: what was recorded meanwhile is delivered, once, in little memory and soon.

    python -m tests.faults outage --hours 24 --seed 1 --json

The broker goes away. A stream of 16 channels is recorded for so many hours by the recorder's own journal
and archive, as fast as they can under a clock that is set (`fastrecorder`); then, over another log, an hour
of prepared chunks of full MEG size is laid down. The real uplink process hears of each chunk and looks for
the broker as often as in all those hours: only its pauses between tries, and between looks at the disk, are
shortened. Then the broker is back, and all must reach the store of the real aggregator: once, byte for byte,
at ten times the rate at which it was recorded or more. The uplink's private memory is looked at all the while.
"""

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

from brainforge_edge.cloud.broker.embedded import BrokerKind, EmbeddedBroker
from brainforge_edge.core.stream import chunk_samples
from tests.broker.rig import Ingest
from tests.faults import fastrecorder
from tests.faults.delivery_mutants import INGEST, MUTANTS
from tests.faults.deliveryaccount import Account, account, n_rows
from tests.faults.mutants import environment
from tests.faults.uplinkprocess import UPLINK, UplinkProcess, private_mib

SFREQ = 250.0
MEG_S = 3600
HURRY = 600  # seconds of the outage in one of ours, about: so fast is the recorder
RETRY_S = 10.0  # the longest pause between two tries to reach the broker
SCAN_S = 10.0
LEAST_TIMES = 10.0  # the recording rate
MOST_SPREAD = 0.05  # of memory during the outage, either way
MOST_DRAIN_MIB = 24.0  # above that: window and send buffer
STALLED_S = 60.0
HURRIES = """
    from brainforge_edge.uplink import client, pump
    pump.RETRY_MOST_S, pump.SCAN_EVERY_S = {retry_s}, {scan_s}
    attempt, report = client.Connection._attempt, pump.Pump._report
    def counted(self, timeout_s):
        self.tries = getattr(self, "tries", 0) + 1
        return attempt(self, timeout_s)
    def reported(self):
        report(self)
        self.stats["tries"] = getattr(self.connection, "tries", 0)
    client.Connection._attempt, pump.Pump._report = counted, reported
"""
CAUGHT = (
    "chunks-kept-in-memory",
    "receipt-before-commit",
)  # of the mutants: nothing else goes wrong here
Say = Callable[[str], None]


class Memory:
    """Private memory of the processes, by phase, in a thread."""

    def __init__(self, **pids: int) -> None:
        self.phase = "before"
        self._pids = pids
        self._seen: dict[tuple[str, str], list[float]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory")
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            for name, pid in self._pids.items():
                self._seen.setdefault((name, self.phase), []).append(private_mib(pid))

    def of(self, name: str, phase: str) -> list[float]:
        return self._seen.get((name, phase), [])


class Outage:
    """One log that grows while the broker is away. `run`, then `result`."""

    def __init__(self, root: Path, seconds: float, say: Say, mutant: str = "") -> None:
        self._root = root
        self._box, self._cloud = root / "box", root / "cloud"
        self._seconds = seconds
        self._say = say
        self._process, self._patch = MUTANTS[mutant] if mutant else ("", "")
        self.tries = 0
        self.recording_s = 0.0
        self.drained_s: float | None = None
        self.account = Account(0, 0, 0, 0, 0)
        self._memory: Memory

    def run(self, write: Callable[[Path, fastrecorder.Announce], None]) -> None:
        with ExitStack() as stack:
            broker = EmbeddedBroker(self._root / "broker", kind=BrokerKind.MOSQUITTO)
            stack.callback(broker.stop)
            port = broker.start().port
            ingest = Ingest(self._cloud, port, environment=self._environment(INGEST)).start()
            stack.callback(ingest.stop)
            uplink = UplinkProcess(self._box, port, environment=self._environment(UPLINK))
            stack.callback(uplink.stop)
            uplink.until(lambda: uplink.stats.get("state") == "open", 30.0, "the first hello")
            broker.kill()
            uplink.until(lambda: uplink.stats["state"] == "broker absent", 30.0, "the outage")
            self._memory = Memory(uplink=uplink.pid, aggregator=ingest.pid)
            stack.callback(self._memory.stop)
            self._memory.phase = "outage"
            started, before = time.monotonic(), uplink.stats["tries"]
            write(self._box, uplink.announce)
            behind = sum(path.stat().st_size for path in self._box.glob("recordings/*/*/*.seg"))
            uplink.until(
                lambda: uplink.stats["lag_bytes"] == behind, 60.0, "all that is to be delivered"
            )
            wanted = self._seconds / RETRY_S
            uplink.until(
                lambda: uplink.stats["tries"] - before >= wanted, 600.0, "every try of the outage"
            )
            self.tries = uplink.stats["tries"] - before
            self.recording_s = time.monotonic() - started
            self._memory.phase = "drain"
            broker.start()
            self._drain(uplink)
        self.account = account(self._box / "recordings", self._cloud)

    def _environment(self, process: str) -> dict[str, str]:
        hurries = HURRIES.format(retry_s=RETRY_S / HURRY, scan_s=SCAN_S / HURRY)
        patch = hurries if process == UPLINK else ""
        if process == self._process:
            patch += self._patch
        folder = self._root / process
        folder.mkdir()
        return environment(folder, patch, process=process)

    def _drain(self, uplink: UplinkProcess) -> None:
        """Until all is stored and receipted; it gives up when nothing moves any more."""
        started = moved = time.monotonic()
        before = -1
        while time.monotonic() - moved < STALLED_S:
            if uplink.is_drained and uplink.stats["receipted"]:
                self.drained_s = time.monotonic() - started
                return
            rows = n_rows(self._cloud)
            if rows > before:
                before, moved = rows, time.monotonic()
            self._say(f"draining, {rows} rows stored, {uplink.stats['lag_chunks']} chunks left")
            time.sleep(0.1)

    def result(self) -> dict[str, Any]:
        """Memory in MiB; the first tenth of an outage is for starting up."""
        outage = self._memory.of("uplink", "outage")
        outage = outage[len(outage) // 10 :]
        middle = (max(outage) + min(outage)) / 2
        spread = (max(outage) - middle) / middle
        drain = self._memory.of("uplink", "drain")
        times = self._seconds / self.drained_s if self.drained_s else 0.0
        is_bounded = spread <= MOST_SPREAD and max(drain) <= middle + MOST_DRAIN_MIB
        return {
            "outage_s": self._seconds,
            "tries": self.tries,
            "written_in_s": round(self.recording_s, 1),
            "drained_s": None if self.drained_s is None else round(self.drained_s, 1),
            "times_recording_rate": round(times, 1),
            "chunks": self.account.chunks,
            "recorded": self.account.recorded,
            "lost": self.account.lost,
            "duplicated": self.account.duplicated,
            "different": self.account.different,
            "uplink_mib": {
                "outage": round(middle, 1),
                "plus_minus_percent": round(100 * spread, 1),
                "drain_most": round(max(drain), 1),
            },
            "aggregator_mib": {
                phase: round(max(self._memory.of("aggregator", phase)), 1)
                for phase in ("outage", "drain")
            },
            "met": self.account.is_good and times >= LEAST_TIMES and is_bounded,
        }


def _said(say: Say, name: str, text: str) -> None:
    say(f"{name}: {text}")


def run(
    root: Path, hours: float, meg_s: int, seed: int, say: Say, mutant: str = ""
) -> dict[str, Any]:
    """Both outages; what is printed."""
    parts: dict[str, dict[str, Any]] = {}
    sixteen = fastrecorder.stream_of("device-eeg", 16, SFREQ)
    meg = fastrecorder.stream_of("helmet-mag", 306, 1000.0)
    seconds = round(hours * 3600)

    def day(box: Path, announce: fastrecorder.Announce) -> None:
        fastrecorder.record(box, sixteen, seconds, seed, announce)

    def hour(box: Path, announce: fastrecorder.Announce) -> None:
        chunks = ceil(meg_s * meg.sfreq / chunk_samples(meg))
        fastrecorder.prepare(box, meg, chunks, seed, announce)

    for name, length, write in (("day", seconds, day), ("meg", meg_s, hour)):
        if not length:
            continue
        with tempfile.TemporaryDirectory(prefix="bf-outage-", dir=root) as folder:
            outage = Outage(Path(folder), length, partial(_said, say, name), mutant)
            outage.run(write)
            parts[name] = outage.result()
    sums = {
        key: sum(part[key] for part in parts.values())
        for key in ("lost", "duplicated", "different")
    }
    return {
        "campaign": "outage",
        "seed": seed,
        "runs": len(parts),
        "acknowledged": sum(part["recorded"] for part in parts.values()),
        **sums,
        "parts": parts,
        "mutant": mutant,
        "met": bool(parts) and all(part["met"] for part in parts.values()),
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults outage")
    parser.add_argument("--hours", type=float, default=24.0, help="of 16 channels")
    parser.add_argument("--meg", type=int, default=MEG_S, help="seconds of 306 channels, 0 for none")  # fmt: skip
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--mutant", default="", choices=["", *CAUGHT])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    started = time.monotonic()

    def say(text: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{time.monotonic() - started:6.0f} s  {text}")

    with tempfile.TemporaryDirectory(prefix="bf-outage-") as folder:
        found = run(Path(folder), options.hours, options.meg, options.seed, say, options.mutant)
    found["seconds"] = round(time.monotonic() - started, 1)
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    print(json.dumps(found, indent=None if options.json else 1))
    return 0 if found["met"] else 1
