"""kill -9 of every part of a running box, at random moments; then the account.

    python -m tests.faults kill9 --n 50 --seed 1 --json

The box and its devices run as in the demo, sealed; workers, broker and aggregator are killed one after
another. The devices, who are not the box, live on. A part is killed again only after it came back.
What was acknowledged this process sees for itself, in the rings. `--mutant` breaks the product first.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from brainforge_edge.cli.account import Evidence, Span
from brainforge_edge.cli.client import request
from brainforge_edge.cli.demo.children import Child, Children, python
from brainforge_edge.cli.demo.evidence import collect
from brainforge_edge.cli.demo.plan import DemoDevice, Plan
from brainforge_edge.cli.demo.watch import Watch
from brainforge_edge.cloud.broker.embedded import BrokerKind, EmbeddedBroker
from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.config import SOCKET_NAME
from brainforge_edge.core.errors import BrainforgeError
from brainforge_edge.core.ranges import Intervals
from brainforge_edge.core.stream import Codec
from brainforge_edge.recorder.reader import iter_chunks
from tests.faults.kill9_mutants import MUTANTS
from tests.faults.mutants import environment
from tests.faults.ringwitness import RingWitness, Rows, missing, n_rows

TARGETS = (
    "acquire:helmet",
    "acquire:cyton",
    "pipeline",
    "uplink",
    "agent",
    "daemon",
    "broker",
    "aggregator",
)

SETTLED = 0.2  # else a slow box would be killed while it starts, most of the time


class Result(msgspec.Struct, frozen=True):
    """What a campaign found about one stream."""

    stream_id: str
    emitted: int
    acquired: int
    recorded: int
    stored: int
    gaps: int
    recorded_twice: int
    stored_twice: int
    digests_equal: bool
    acknowledged: int  # rows that were durable, as the rings were read
    lost: int  # … and are not in the recording or not stored
    written: int  # rows that were said to survive a killed process
    written_lost: int  # … and are not in the recording


class Stand:
    """A box that can be killed part by part."""

    def __init__(
        self, root: Path, run: Path, *, kind: BrokerKind | None = None, mutant: str = ""
    ) -> None:
        self.plan = Plan(
            root=root,
            run=run,
            seconds=0,
            devices=(
                DemoDevice(name="helmet", kind="opm", emulator="opm"),
                DemoDevice(name="cyton", kind="openbci", emulator="cyton"),
            ),
            is_sealed=True,
        )
        self.plan.make_folders()
        self.plan.make_keys()
        self.broker = EmbeddedBroker(root / "broker", kind=kind)
        self.children = Children(self.plan.logs)
        self.watch = Watch(self.plan, clock=SystemClock())
        self.named: dict[str, Child] = {}
        self.kills: Counter[str] = Counter()
        self._killed: set[int] = set()  # a status that still shows one is of before the kill
        process, patch = MUTANTS[mutant] if mutant else ("", "")
        self.environment = environment(root, patch, process=process)
        self.witness = RingWitness(run / "rings")

    def start(self) -> None:
        self.broker.start()
        self.plan.config.write_text(self.plan.toml(self.broker.port), encoding="utf-8")
        self._start_aggregator()
        for device in self.plan.devices:
            options = [
                "--link", str(self.plan.link(device)), "--ledger", str(self.plan.ledger(device)),
            ]  # fmt: skip
            command = python("brainforge_edge.cli.main", "emulate", device.emulator, *options)
            self.named[device.name] = self.children.start(f"emulator-{device.name}", command, {})
        self.witness.__enter__()
        self._start_daemon()
        self.until(lambda: len(self.streaming()) == len(self.plan.devices), 45, "streaming")

    def _start_daemon(self) -> None:
        command = python("brainforge_edge.cli.main", "run", "--config", str(self.plan.config))
        self.named["daemon"] = self.children.start(
            f"daemon{self.kills['daemon']}", command, self.environment
        )

    def _start_aggregator(self) -> None:
        address = f"127.0.0.1:{self.broker.port}"
        arguments = ("--root", str(self.plan.cloud), "--broker", address)
        keys = ("--keys", str(self.plan.cloud_keys))
        command = python("brainforge_edge.cli.main", "cloud", "run", *arguments, *keys)
        name = f"aggregator{self.kills['aggregator']}"
        self.named["aggregator"] = self.children.start(name, command, self.environment)

    def status(self) -> dict[str, Any]:
        try:
            return request(self.plan.run / SOCKET_NAME, "status", timeout_s=5.0)
        except BrainforgeError:
            return {}

    def streaming(self) -> set[str]:
        status = self.status()
        streams = status.get("streams", [])
        if any(worker["pid"] in self._killed for worker in status.get("workers", [])):
            return set()
        return {s["device"] for s in streams if s.get("state") == "streaming" and s.get("head")}

    def is_recording(self) -> bool:
        streams = self.status().get("streams", [])
        recorded = {s["device"] for s in streams if s.get("recorded")}
        return len(recorded & self.streaming()) == len(self.plan.devices)

    def until(self, is_so: Any, most_s: float, what: str) -> None:
        """Wait for a condition; TimeoutError names it."""
        deadline = time.monotonic() + most_s
        while not is_so():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what} did not come within {most_s:g} s: {self.status()}")
            time.sleep(0.1)

    def kill(self, target: str) -> bool:
        """SIGKILL one part; False if it is down still."""
        if target == "broker":
            self.broker.kill()
            self.broker.start()
        elif target in {"aggregator", "daemon"}:
            child = self.named[target]
            workers = {w["pid"] for w in self.status().get("workers", []) if w["pid"]}
            child.process.kill()
            child.process.wait()
            self.children.release([child])
            self.kills[target] += 1
            if target == "daemon":
                # Workers end on their own when the supervisor's socket closes, as after a crash.
                self.until(lambda: not self._workers_left(workers), 40, "the end of the workers")
                self._start_daemon()
            else:
                self._start_aggregator()
            return True
        else:
            workers = self.status().get("workers", [])
            pid = next((w["pid"] for w in workers if w["name"] == target), None)
            if pid is None or pid in self._killed:
                return False
            os.kill(pid, signal.SIGKILL)
            self._killed.add(pid)
        self.kills[target] += 1
        return True

    def _workers_left(self, pids: set[int]) -> bool:
        """Whether any of them lives; a zombie does not."""
        for pid in pids:
            try:
                stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
            except OSError:
                continue
            if stat.rpartition(")")[2].split()[0] != "Z":
                return True
        return False

    def finish(self) -> list[Result]:
        """Devices first, then everything as the demo does it; the account."""
        self.until(self.is_recording, 90, "the recording after the kills")
        emulators = [self.named[device.name] for device in self.plan.devices]
        for emulator in emulators:
            emulator.terminate()
        for emulator in emulators:
            assert emulator.wait(20.0)
        self.children.release(emulators)
        heads: dict[str, int] = {}
        steady_since = time.monotonic()
        while time.monotonic() - steady_since < 2.0:
            streams = self.status().get("streams", [])
            now = {s["stream_id"]: s.get("head", 0) for s in streams}
            if now != heads:
                heads, steady_since = now, time.monotonic()
            time.sleep(0.2)
        request(self.plan.run / SOCKET_NAME, "stop", timeout_s=120.0)
        self.witness.stop()
        recorded = _recorded(self.plan.recordings)
        wanted = {stream: n_rows(recorded, stream) for stream, _ in recorded}
        self.until(
            lambda: all(self.watch.stored(name) >= rows for name, rows in wanted.items()),
            120,
            "the drain",
        )
        return [self._result(evidence) for evidence in collect(self.plan, heads)]

    def _result(self, evidence: Evidence) -> Result:
        stream, durable, written = evidence.stream_id, self.witness.durable, self.witness.written
        recorded = sum(span.n for span in evidence.recorded)
        stored = sum(span.n for span in evidence.stored)
        distinct = len({(s.incarnation, s.first) for s in evidence.stored})
        kept, delivered = _rows(stream, evidence.recorded), _rows(stream, evidence.stored)
        return Result(
            stream_id=stream,
            emitted=evidence.emitted,
            acquired=evidence.acquired,
            recorded=recorded,
            stored=stored,
            gaps=sum(gap.n for gap in evidence.gaps),
            recorded_twice=recorded - sum(samples.total for samples in kept.values()),
            stored_twice=len(evidence.stored) - distinct,
            digests_equal=evidence.recorded_digest == evidence.source_of_recorded_digest
            and evidence.stored_digest == evidence.source_of_stored_digest
            and evidence.recorded_digest == evidence.stored_digest,
            acknowledged=n_rows(durable, stream),
            lost=max(missing(durable, stream, kept), missing(durable, stream, delivered)),
            written=n_rows(written, stream),
            written_lost=missing(written, stream, kept),
        )

    def close(self) -> None:
        self.witness.stop()
        self.watch.close()
        self.children.__exit__(None, None, None)
        self.broker.stop()


def _recorded(recordings: Path) -> Rows:
    """In the box's segments, each row once."""
    rows: Rows = {}
    for path in recordings.glob("*/*/*.seg"):
        for head in (whole.head for whole in iter_chunks(path)):
            if head.codec < Codec.DESCRIPTOR:
                key = path.parent.name, head.incarnation
                rows.setdefault(key, Intervals()).add(head.seq, head.end)
    return rows


def _rows(stream: str, spans: Sequence[Span]) -> Rows:
    rows: Rows = {}
    for incarnation, first, n in spans:
        rows.setdefault((stream, incarnation), Intervals()).add(first, first + n)
    return rows


def differences(results: list[Result]) -> list[str]:
    """What a campaign must not show."""
    found = []
    for r in results:
        if not r.acquired == r.recorded == r.stored:
            found.append(
                f"{r.stream_id}: acquired {r.acquired}, recorded {r.recorded}, stored {r.stored}"
            )
        if r.lost or not r.acknowledged:
            found.append(f"{r.stream_id}: of {r.acknowledged} acknowledged rows {r.lost} are lost")
        if r.written_lost:
            found.append(f"{r.stream_id}: of {r.written} written rows {r.written_lost} are lost")
        if r.recorded_twice:
            found.append(f"{r.stream_id}: {r.recorded_twice} rows recorded twice")
        if r.stored_twice:
            found.append(f"{r.stream_id}: {r.stored_twice} ranges stored twice")
        if not r.digests_equal:
            found.append(f"{r.stream_id}: samples differ from those emitted")
        if r.stream_id.startswith("helmet") and r.emitted != r.acquired + r.gaps:
            found.append(
                f"{r.stream_id}: emitted {r.emitted} is not acquired {r.acquired} + gaps {r.gaps}"
            )
    return found


def campaign(
    n: int, seed: int, *, root: Path, run: Path, targets: tuple[str, ...] = TARGETS,
    settled: float = SETTLED, mutant: str = "", say: Callable[[str], None] = lambda _: None,
) -> tuple[list[Result], Counter[str]]:  # fmt: skip
    """`n` kills; the account and how often each part was killed."""
    rng = random.Random(seed)
    stand = Stand(root, run, mutant=mutant)
    try:
        stand.start()
        done = 0
        while done < n:
            if rng.random() < settled:
                stand.until(stand.is_recording, 90, "a recording after the kills")
            time.sleep(rng.uniform(0.1, 1.5))
            done += stand.kill(rng.choice(targets))
            say(f"{done} of {n} kills")
        say("the account")
        return stand.finish(), stand.kills
    finally:
        stand.close()


def result(results: Sequence[Result], kills: Counter[str], wrong: Sequence[str]) -> dict[str, Any]:
    """The object that is printed."""
    return {
        "campaign": "kill9",
        "runs": kills.total(),
        "kills": dict(kills),
        "acknowledged": sum(r.acknowledged for r in results),
        "lost": sum(max(r.lost, r.written_lost) for r in results),
        "duplicated": sum(r.stored_twice + r.recorded_twice for r in results),
        "streams": [msgspec.to_builtins(r) for r in results],
        "wrong": list(wrong),
        "met": not wrong,
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults kill9")
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--root", type=Path)
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=TARGETS)
    parser.add_argument("--settled", type=float, default=SETTLED, help="share of the kills before which all record again")  # fmt: skip
    parser.add_argument("--mutant", default="", choices=["", *MUTANTS])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    started = time.monotonic()

    def say(text: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{time.monotonic() - started:6.0f} s  {text}")

    with (
        tempfile.TemporaryDirectory(prefix="bf-kill9-") as folder,
        tempfile.TemporaryDirectory(prefix="bf-", dir="/dev/shm") as run,
    ):
        results, kills = campaign(
            options.n, options.seed, root=options.root or Path(folder), run=Path(run),
            targets=tuple(options.targets), settled=options.settled, mutant=options.mutant, say=say,
        )  # fmt: skip
    found = result(results, kills, differences(results)) | {
        "seed": options.seed,
        "mutant": options.mutant,
        "seconds": round(time.monotonic() - started, 1),
    }
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    print(json.dumps(found, indent=None if options.json else 1))
    return 0 if found["met"] else 1
