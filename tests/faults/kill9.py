"""kill -9 of every part of a running box, at random moments; then the account.

    python -m tests.faults kill9 --n 50 --seed 1

The box and its devices run as in the demo; workers, broker and aggregator are killed one after
another. The devices, who are not the box, live on. A part is killed again only after it came back.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from brainforge_edge.cli.client import request
from brainforge_edge.cli.demo.children import Child, Children, python
from brainforge_edge.cli.demo.evidence import collect, recorded_rows
from brainforge_edge.cli.demo.plan import DemoDevice, Plan
from brainforge_edge.cli.demo.watch import Watch
from brainforge_edge.cloud.broker.embedded import BrokerKind, EmbeddedBroker
from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.config import SOCKET_NAME
from brainforge_edge.core.errors import BrainforgeError

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


class Result(msgspec.Struct, frozen=True):
    """What a campaign found about one stream."""

    stream_id: str
    emitted: int
    acquired: int
    recorded: int
    stored: int
    gaps: int
    stored_twice: int
    digests_equal: bool
    acknowledged: int  # the highest `recorded` that status ever showed


class Stand:
    """A box that can be killed part by part."""

    def __init__(self, root: Path, run: Path, *, kind: BrokerKind | None = None) -> None:
        self.plan = Plan(
            root=root,
            run=run,
            seconds=0,
            devices=(
                DemoDevice(name="helmet", kind="opm", emulator="opm"),
                DemoDevice(name="cyton", kind="openbci", emulator="cyton"),
            ),
        )
        self.plan.make_folders()
        self.broker = EmbeddedBroker(root / "broker", kind=kind)
        self.children = Children(self.plan.logs)
        self.watch = Watch(self.plan, clock=SystemClock())
        self.named: dict[str, Child] = {}
        self.kills: Counter[str] = Counter()
        self.acknowledged: Counter[str] = Counter()

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
        self._start_daemon()
        self.until(lambda: len(self.streaming()) == len(self.plan.devices), 45, "streaming")

    def _start_daemon(self) -> None:
        command = python("brainforge_edge.cli.main", "run", "--config", str(self.plan.config))
        self.named["daemon"] = self.children.start(f"daemon{self.kills['daemon']}", command, {})

    def _start_aggregator(self) -> None:
        address = f"127.0.0.1:{self.broker.port}"
        arguments = ("cloud", "run", "--root", str(self.plan.cloud), "--broker", address)
        command = python("brainforge_edge.cli.main", *arguments)
        name = f"aggregator{self.kills['aggregator']}"
        self.named["aggregator"] = self.children.start(name, command, {})

    def status(self) -> dict[str, Any]:
        try:
            status = request(self.plan.run / SOCKET_NAME, "status", timeout_s=5.0)
        except BrainforgeError:
            return {}
        for stream in status.get("streams", []):
            row = (stream.get("recorded") or 0) and stream["durable"]
            name = stream["stream_id"]
            self.acknowledged[name] = max(self.acknowledged[name], row)
        return status

    def streaming(self) -> set[str]:
        streams = self.status().get("streams", [])
        return {s["device"] for s in streams if s.get("state") == "streaming" and s.get("head")}

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
            if pid is None:
                return False
            os.kill(pid, signal.SIGKILL)
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
        devices = len(self.plan.devices)
        self.until(lambda: len(self.streaming()) == devices, 90, "streaming after the kills")
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
        wanted = recorded_rows(self.plan.recordings)
        self.until(
            lambda: all(self.watch.stored(name) >= rows for name, rows in wanted.items()),
            120,
            "the drain",
        )
        results = []
        for evidence in collect(self.plan, heads):
            recorded = sum(span.n for span in evidence.recorded)
            stored = sum(span.n for span in evidence.stored)
            distinct = len({(s.incarnation, s.first) for s in evidence.stored})
            results.append(
                Result(
                    evidence.stream_id,
                    evidence.emitted,
                    evidence.acquired,
                    recorded,
                    stored,
                    sum(gap.n for gap in evidence.gaps),
                    len(evidence.stored) - distinct,
                    evidence.recorded_digest == evidence.source_of_recorded_digest
                    and evidence.stored_digest == evidence.source_of_stored_digest
                    and evidence.recorded_digest == evidence.stored_digest,
                    self.acknowledged[evidence.stream_id],
                )
            )
        return results

    def close(self) -> None:
        self.watch.close()
        self.children.__exit__(None, None, None)
        self.broker.stop()


def differences(results: list[Result]) -> list[str]:
    """What a campaign must not show."""
    found = []
    for r in results:
        if not r.acquired == r.recorded == r.stored:
            found.append(
                f"{r.stream_id}: acquired {r.acquired}, recorded {r.recorded}, stored {r.stored}"
            )
        if r.recorded < r.acknowledged:
            found.append(f"{r.stream_id}: {r.acknowledged} acknowledged, {r.recorded} recorded")
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
    n: int, seed: int, *, root: Path, run: Path, targets: tuple[str, ...] = TARGETS
) -> tuple[list[Result], Counter[str]]:
    """`n` kills; the account and how often each part was killed."""
    rng = random.Random(seed)
    stand = Stand(root, run)
    try:
        stand.start()
        done = 0
        while done < n:
            time.sleep(rng.uniform(0.1, 1.5))
            done += stand.kill(rng.choice(targets))
        return stand.finish(), stand.kills
    finally:
        stand.close()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults kill9")
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--root", type=Path)
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=TARGETS)
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="bf-kill9-") as folder,
        tempfile.TemporaryDirectory(prefix="bf-", dir="/dev/shm") as run,
    ):
        root = options.root or Path(folder)
        results, kills = campaign(
            options.n, options.seed, root=root, run=Path(run), targets=tuple(options.targets)
        )
    print("kills:", dict(kills))
    for result in results:
        print(msgspec.json.encode(result).decode())
    wrong = differences(results)
    for line in wrong:
        print("WRONG", line)
    print("0 lost, 0 twice" if not wrong else "FAILED")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
