"""A line that flaps: broker and aggregator are killed again and again, and what they say is lost, doubled, late.

    python -m tests.faults flap --kills 100 --seed 1 --json

Uplink and aggregator reach mosquitto through a relay each (`mqttrelay`), while a log grows. Beside the
kills, about one a second, one direction of one line goes deaf now and then (each in turn), or every
connection is hung up on as soon as it was accepted. In the end everything must lie in the store, once and
byte for byte. What a receipt said, as the relay saw it pass, and what the box's own cursors have passed
must be in the catalogue at every kill. Neither side may call more often than `MOST_CONNECTS`.
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
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from brainforge_edge.cloud.broker.embedded import BrokerKind, EmbeddedBroker
from brainforge_edge.core import topics, wire
from tests.broker.rig import CHUNK_ROWS, BoxLog, Ingest, stream
from tests.faults.delivery_mutants import INGEST, MUTANTS
from tests.faults.deliveryaccount import (  # fmt: skip
    Account,
    Samples,
    account,
    believed,
    broken,
    learn,
    stored,
    total,
)
from tests.faults.mqttrelay import DOWN, UP, MqttRelay, Packet, Trouble
from tests.faults.mutants import environment
from tests.faults.uplinkprocess import NODE, UPLINK, UplinkProcess

STREAMS = (stream("opm-mag"), stream("cyton-eeg", 3))
CHUNK_S = 0.05
CHUNKS_IN_INCARNATION = 400
SEGMENT_BYTES = 200_000
USUAL = Trouble(lost=0.03, doubled=0.05, delayed=0.1)
EVERY = 6  # so many kills, and one of the lines goes wrong in another way
DEAF_S = 6.0  # keep-alives of 2 s notice it
HANGS_UP_S = 4.0
STALLED_S = 60.0  # two of the longest pauses before a chunk is sent again
CAUGHT = ("no-deduplication", "publish-believed", "receipt-before-commit", "resend-never")
MOST_CONNECTS = {1.0: 6, 10.0: 16}  # in so many seconds; each try may be one in both protocols


class Receipts:
    """What the aggregator has promised, as the relay saw it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._samples: Samples = {}
        self.count = 0

    def see(self, direction: str, packet: Packet) -> None:
        parsed = topics.parse(packet.topic)
        if direction != UP or parsed is None or parsed[1] != "ack" or parsed[2] == topics.LOG:
            return
        payload = packet.data[packet.data.index(packet.topic.encode()) + len(packet.topic) :]
        # Of MQTT 5 a length of properties comes first, 0; the payload is a map.
        start = next(i for i, byte in enumerate(payload) if i >= 2 and byte & 0xF0 == 0x80)
        receipt = msgspec.msgpack.decode(payload[start:], type=wire.Receipt)
        with self._lock:
            learn(self._samples, receipt.stream_id, receipt.ranges)
            self.count += 1

    def promised(self) -> Samples:
        with self._lock:
            return deepcopy(self._samples)


class Writer:
    """The log grows in a thread of its own; each chunk is announced."""

    def __init__(self, log: BoxLog, uplink: UplinkProcess) -> None:
        self.log = log
        self._uplink = uplink
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="writer")
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        n = 0
        while not self._stop.wait(CHUNK_S):
            for info in STREAMS:
                archived = self.log.append(
                    info, n * CHUNK_ROWS, incarnation=n // CHUNKS_IN_INCARNATION,
                    segment_bytes=SEGMENT_BYTES,
                )  # fmt: skip
                self._uplink.announce(archived)
            n += 1


class Flap:
    """`run`, then `result`."""

    def __init__(self, root: Path, seed: int, say: Callable[[str], None], mutant: str = "") -> None:
        self._root = root
        self._chance = random.Random(seed)
        self._seed = seed
        self._say = say
        self._process, self._patch = MUTANTS[mutant] if mutant else ("", "")
        self._receipts = Receipts()
        self.kills = 0
        self.broken_receipts = 0
        self.broken_cursors = 0
        self.drained_s: float | None = None
        self.account = Account(0, 0, 0, 0, 0)
        self._figures: dict[str, Any] = {}

    def run(self, kills: int, *, every: int = EVERY, stalled_s: float = STALLED_S) -> None:
        with ExitStack() as stack:
            self._start(stack)
            wrong = [(line, end) for end in (UP, DOWN, "hangs up") for line in self._lines]
            for n in range(kills):
                self._kill()
                if n % every == every - 1:
                    self._go_wrong(*wrong[n // every % len(wrong)])
                elif self._chance.random() < 0.5:
                    self._await_a_receipt()
                else:
                    time.sleep(self._chance.uniform(0.2, 1.5))
                self._say(f"{self.kills} kills, {self._receipts.count} receipts")
            self._writer.stop()
            self._writer.log.close()
            self._drain(stalled_s)
            self._check()
            self._figures = self._figures_now()
        self.account = account(self._box / "recordings", self._cloud)

    def _start(self, stack: ExitStack) -> None:
        self._box, self._cloud = self._root / "box", self._root / "cloud"
        self._broker = EmbeddedBroker(self._root / "broker", kind=BrokerKind.MOSQUITTO)
        stack.callback(self._broker.stop)
        port = self._broker.start().port
        self._box_line = MqttRelay(port, self._seed)
        stack.callback(self._box_line.close)
        self._cloud_line = MqttRelay(port, self._seed + 1, seen=self._receipts.see)
        stack.callback(self._cloud_line.close)
        self._lines = (self._box_line, self._cloud_line)
        for line in self._lines:
            line.trouble = replace(USUAL)
        changed = environment(self._root, self._patch, process=self._process)
        usual = environment(self._root, "")
        of = {self._process: changed}
        self._ingest = Ingest(
            self._cloud, self._cloud_line.port, environment=of.get(INGEST, usual)
        ).start()
        stack.callback(self._ingest.stop)
        log = BoxLog(self._box, node=NODE, seed=self._seed)
        stack.callback(log.close)
        self._uplink = UplinkProcess(
            self._box, self._box_line.port, environment=of.get(UPLINK, usual), keepalive_s=2
        )
        stack.callback(self._uplink.stop)
        self._writer = Writer(log, self._uplink)
        stack.callback(self._writer.stop)

    def _kill(self) -> None:
        victim = self._chance.choice((self._broker, self._ingest))
        victim.kill()
        self.kills += 1
        self._check()
        if victim is self._broker:
            self._broker.start()
        else:
            self._ingest.start(waits=False)

    def _check(self) -> None:
        """Every promise, against the catalogue as it lies on the disk."""
        receipts, cursors = self._receipts.promised(), believed(self._box)
        held = stored(self._cloud)  # read last: it only grows
        self.broken_receipts = max(self.broken_receipts, broken(receipts, held))
        self.broken_cursors = max(self.broken_cursors, broken(cursors, held))

    def _go_wrong(self, line: MqttRelay, how: str) -> None:
        """A direction that passes nothing, or an ear that hangs up."""
        if how == "hangs up":
            line.trouble = Trouble(hangs_up=True)
            self._broker.kill()  # so that everybody calls
            self.kills += 1
            self._broker.start()
            time.sleep(HANGS_UP_S)
        else:
            line.trouble = Trouble(deaf=how)
            time.sleep(DEAF_S)
        line.trouble = replace(USUAL)

    def _await_a_receipt(self) -> None:
        """Of this life, or for at most so long."""
        before, until = self._receipts.count, time.monotonic() + 20.0
        while self._receipts.count == before and time.monotonic() < until:
            time.sleep(0.02)

    def _drain(self, stalled_s: float) -> None:
        """Until all is stored and receipted; it gives up when nothing moves any more."""
        wanted = sum(
            end - first for held in self._writer.log.held.values() for _, first, end in held
        )
        started = moved = time.monotonic()
        before = -1
        while time.monotonic() - moved < stalled_s:
            rows = total(stored(self._cloud))
            if rows >= wanted and self._uplink.is_drained:
                self.drained_s = time.monotonic() - started
                return
            if rows > before:
                before, moved = rows, time.monotonic()
            self._say(f"draining, {rows} of {wanted} rows stored")
            time.sleep(0.2)

    def _figures_now(self) -> dict[str, Any]:
        stats = self._uplink.stats
        calls = {
            name: {f"in_{seconds:g}_s": line.most_connects(seconds) for seconds in MOST_CONNECTS}
            for name, line in zip(("uplink", "aggregator"), self._lines, strict=True)
        }
        return {
            "receipts": self._receipts.count,
            "sent": stats.get("sent"),
            "sent_again": stats.get("sent_again"),
            "messages": {
                key: sum(line.counts[key] for line in self._lines)
                for key in ("lost", "doubled", "delayed")
            },
            "most_connects": calls,
        }

    def result(self) -> dict[str, Any]:
        calls = self._figures["most_connects"]
        is_storm = any(
            calls[who][f"in_{seconds:g}_s"] > most
            for who in calls
            for seconds, most in MOST_CONNECTS.items()
        )
        lost = self.account.lost + self.broken_receipts + self.broken_cursors
        return {
            "campaign": "flap",
            "seed": self._seed,
            "runs": self.kills,
            "acknowledged": total(self._receipts.promised()),
            "lost": lost,
            "duplicated": self.account.duplicated,
            "different": self.account.different,
            "recorded": self.account.recorded,
            "not_stored": self.account.lost,
            "receipted_not_stored": self.broken_receipts,
            "believed_not_stored": self.broken_cursors,
            "drained_s": None if self.drained_s is None else round(self.drained_s, 1),
            **self._figures,
            "storm": is_storm,
            "met": bool(
                self.kills and self.account.is_good and not lost
                and self.drained_s is not None and not is_storm
            ),
        }  # fmt: skip


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults flap")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--mutant", default="", choices=["", *CAUGHT])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    started = time.monotonic()

    def say(text: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{time.monotonic() - started:6.0f} s  {text}")

    with tempfile.TemporaryDirectory(prefix="bf-flap-") as folder:
        flap = Flap(Path(folder), options.seed, say, options.mutant)
        flap.run(options.kills)
    found = flap.result() | {
        "mutant": options.mutant,
        "seconds": round(time.monotonic() - started, 1),
    }
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    print(json.dumps(found, indent=None if options.json else 1))
    return 0 if found["met"] else 1
