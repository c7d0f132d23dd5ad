"""The whole box on this machine: nothing lost, CPU, memory, freshness, and how fast a backlog drains.

Two emulated devices, all processes of the daemon, a broker and the aggregator; this process
subscribes to the live topics. Then the broker stops for a while and comes back: the backlog.
Latencies are from when the last byte of a sample was due at the device (the emulator's ledger), so
they include how late the emulator was; the lateness of a bare timer in this process stands beside.
"""

import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import paho.mqtt.client as mqtt
from numpy.typing import NDArray
from paho.mqtt.enums import CallbackAPIVersion

from brainforge_edge.cli.account import StreamAccount
from brainforge_edge.core.wire import LiveHeader
from brainforge_edge.rings.reader import RingReader
from tests.benchmarks.box import CYTON, HELMET, HELMET_SFREQ, BenchBox
from tests.benchmarks.lateness import BareTimer, SentTimes, quantile
from tests.benchmarks.processes import cpu_s, private_mib
from tests.benchmarks.row import Row

CPU_GOAL = 25.0
MEMORY_GOAL_MB = 300.0
ACQUIRE_GOAL_MIB = 48.0
FILTERED_GOAL_MS = 10.0
LIVE_GOAL_MS = 70.0
LIVE_GOAL_HZ = 20.0
DRAIN_GOAL = 10.0
SETTLE_S = 5.0
DRAIN_S = 300.0
STREAMS = ("helmet-mag", "cyton-eeg")


def run(*, seconds: float = 60.0) -> list[Row]:
    """Steady for `seconds`, then half as long without a broker, then the drain."""
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bf-pipeline-")))
        folder = tempfile.TemporaryDirectory(prefix="bf-", dir="/dev/shm")
        run_ = Path(stack.enter_context(folder))
        box = stack.enter_context(BenchBox(root, run_, devices=[HELMET, CYTON], is_whole=True))
        box.until(lambda: all(s.get("recorded") for s in box.streams().values()), 30, "recording")
        time.sleep(SETTLE_S)
        steady = _steady(box, seconds)
        drain = _drain(box, max(5.0, seconds / 2))
        accounts = box.close_books()
    return [
        *_loss_rows(accounts),
        *_cost_rows(steady),
        *_freshness_rows(steady),
        *_drain_rows(drain),
    ]


# ---- steady state ------------------------------------------------------------------------------


class Subscriber:
    """The first bytes of all messages with the time of their arrival. Runs in: paho's network thread."""

    def __init__(self, host: str, port: int, topic: str) -> None:
        self._topic = topic
        self.seen: list[tuple[int, bytes]] = []
        self._is_subscribed = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self._said: list[str] = []  # what the broker answered, for the error
        self._client.on_connect = self._connected
        self._client.on_disconnect = lambda *a: self._said.append(f"disconnected: {a[3]}")
        self._client.on_subscribe = lambda *_: self._is_subscribed.set()
        self._client.on_message = self._heard
        self._client.connect(host, port, keepalive=60)
        self._client.loop_start()
        if not self._is_subscribed.wait(10.0):
            raise TimeoutError(f"the broker did not take the subscription: {self._said}")

    def _connected(self, client: mqtt.Client, *answer: object) -> None:
        self._said.append(f"connected: {answer[2]}")
        client.subscribe(self._topic, qos=0)

    def _heard(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        self.seen.append((time.monotonic_ns(), bytes(message.payload[:512])))

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@dataclass
class Arrived:
    """The live messages of one stream, in the order of arrival."""

    t_ns: list[int] = field(default_factory=list)
    heads: list[LiveHeader] = field(default_factory=list)


@dataclass
class Steady:
    seconds: float
    cpu: dict[str, float]  # % of a core
    other_cpu: dict[str, float]
    mib: dict[str, float]
    other_mib: dict[str, float]
    live: dict[str, Arrived]
    sent: SentTimes
    row_ms: NDArray[np.float64]  # a row's time in the ring, less the device's own
    reported_p99_ms: float  # the worst that the pipeline itself told in its heartbeats
    timer_ms: list[float]


def _steady(box: BenchBox, seconds: float) -> Steady:
    assert box.broker is not None
    ours, others = box.pids(), box.other_pids()
    sent = SentTimes(box.plan.ledger(HELMET), HELMET_SFREQ)
    reader = RingReader(box.ring(STREAMS[0]))
    offsets: list[float] = []
    reported = 0.0
    subscriber = Subscriber(box.broker.host, box.broker.port, "bf/v1/+/live/#")
    before = {pid: cpu_s(pid) for pid in (*ours.values(), *others.values())}
    start = time.monotonic()
    with BareTimer() as timer:
        for k in range(1, max(2, round(seconds / 2)) + 1):
            time.sleep(
                max(0.0, start + seconds * k / max(2, round(seconds / 2)) - time.monotonic())
            )
            newest = reader.snapshot(64)
            offsets += [(r.t_first_ns - sent.due_ns(r.seq)) / 1e6 for r in newest.runs]
            reported = max(reported, _reported(box.status()))
    length = time.monotonic() - start
    spent = {pid: 100 * (cpu_s(pid) - before[pid]) / length for pid in before}
    subscriber.close()
    if box.pids() != ours:
        raise RuntimeError("a worker was restarted during the run")
    return Steady(
        seconds=length,
        cpu={name: spent[pid] for name, pid in ours.items()},
        other_cpu={name: spent[pid] for name, pid in others.items()},
        mib={name: private_mib(pid) for name, pid in ours.items()},
        other_mib={name: private_mib(pid) for name, pid in others.items()},
        live=_by_stream(subscriber.seen),
        sent=sent,
        row_ms=np.array(offsets),
        reported_p99_ms=reported,
        timer_ms=timer.late_ms,
    )


def _reported(status: dict[str, Any]) -> float:
    streams = status.get("pipeline", {}).get("streams", {})
    return float(streams.get(STREAMS[0], {}).get("filtered_p99_ms") or 0.0)


def _by_stream(seen: list[tuple[int, bytes]]) -> dict[str, Arrived]:
    found = {stream_id: Arrived() for stream_id in STREAMS}
    for t_ns, payload in seen:
        size = int.from_bytes(payload[:2], "little")
        head = msgspec.msgpack.decode(payload[2 : 2 + size], type=LiveHeader)
        if head.stream_id not in found:
            continue  # the board's accelerometer
        arrived = found[head.stream_id]
        arrived.t_ns.append(t_ns)
        arrived.heads.append(head)
    return found


# ---- a backlog ---------------------------------------------------------------------------------


@dataclass
class Drain:
    raw_mb: float  # of the rows that came into the store from then on, newer ones included
    reconnect_s: float  # from the broker's start to the aggregator's answer to the box's hello
    drain_s: float  # from that answer until the store has all that the box had archived
    recorded_mb_s: float


def _drain(box: BenchBox, seconds: float) -> Drain:
    """Record without a broker, then count what reaches the store until nothing is behind.

    The clock starts with the aggregator's answer to the hello: before it nothing may be sent.
    """
    assert box.broker is not None
    readers = {name: RingReader(box.ring(name)) for name in STREAMS}
    bytes_of = {name: reader.info.row_bytes for name, reader in readers.items()}
    box.broker.stop()
    time.sleep(seconds)
    held = {name: box.watch.stored(name) for name in STREAMS}
    target = {n: int(s["archived_rows"]) for n, s in box.streams().items()}
    box.broker.start()
    start = time.monotonic()
    answers = Subscriber(box.broker.host, box.broker.port, "bf/v1/+/ack/-")
    stored, n_before = held, 0
    deadline = start + DRAIN_S
    while any(stored[name] < target[name] for name in STREAMS):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the backlog is not stored: {stored} of {target}")
        time.sleep(0.01)
        stored = {name: box.watch.stored(name) for name in STREAMS}
        if stored == held:
            n_before = len(answers.seen)  # answers after this one are the drain's own
    end = time.monotonic()
    answers.close()
    first = answers.seen[max(0, n_before - 1)][0] / 1e9
    return Drain(
        raw_mb=sum((stored[name] - held[name]) * bytes_of[name] for name in STREAMS) / 1e6,
        reconnect_s=first - start,
        drain_s=end - first,
        recorded_mb_s=sum(bytes_of[n] * r.info.sfreq for n, r in readers.items()) / 1e6,
    )


# ---- rows --------------------------------------------------------------------------------------


def _loss_rows(accounts: list[StreamAccount]) -> list[Row]:
    return [
        Row(f"{a.stream_id}: samples lost of {a.emitted}", a.lost, None, "samples", None, "= 0",
            not a.differences)
        for a in accounts
    ]  # fmt: skip


def _cost_rows(s: Steady) -> list[Row]:
    cpu = sum(s.cpu.values())
    megabytes = sum(s.mib.values()) * 1024 * 1024 / 1e6
    acquire = s.mib[f"acquire:{HELMET.name}"]
    return [
        Row("CPU of the daemon, all processes", cpu, None, "% of a core", None,
            f"<= {CPU_GOAL:g}", cpu <= CPU_GOAL),
        *_each("CPU", s.cpu, "% of a core"),
        *_each("CPU, not the daemon's", s.other_cpu, "% of a core"),
        Row("private memory of the daemon, rings excluded", megabytes, None, "MB", None,
            f"<= {MEMORY_GOAL_MB:g}", megabytes <= MEMORY_GOAL_MB),
        Row("private memory of the helmet's acquire", acquire, None, "MiB", None,
            f"<= {ACQUIRE_GOAL_MIB:g}", acquire <= ACQUIRE_GOAL_MIB),
        *_each("private memory", s.mib, "MiB"),
        *_each("private memory, not the daemon's", s.other_mib, "MiB"),
    ]  # fmt: skip


def _each(case: str, figures: Mapping[str, float], unit: str) -> list[Row]:
    return [Row(f"{case}: {name}", x, None, unit, None) for name, x in figures.items()]


def _freshness_rows(s: Steady) -> list[Row]:
    helmet, cyton = (s.live[name] for name in STREAMS)
    filtered = np.array([h.sent_ns - s.sent.sent_ns(h.seq) for h in helmet.heads]) / 1e6
    latest = (np.array(helmet.t_ns) - [s.sent.sent_ns(h.seq) for h in helmet.heads]) / 1e6
    each = [
        (t_ns - s.sent.sent_all_ns(before.seq + 1, head.seq + 1)) / 1e6
        for t_ns, before, head in zip(helmet.t_ns[1:], helmet.heads, helmet.heads[1:], strict=False)
    ]
    every = np.concatenate(each) if each else np.zeros(0)
    hop = (np.array(cyton.t_ns) - [h.t_last_ns for h in cyton.heads]) / 1e6

    def late(case: str, ms: NDArray[np.float64], q: float, goal: float = 0.0) -> Row:
        ours, timer = quantile(ms, q), quantile(s.timer_ms, q)
        return Row(case, ours, timer, "ms (timer)", ours / timer, f"<= {goal:g} ms" if goal else "",
                   bool(ours <= goal) if goal else None)  # fmt: skip

    rates = {name: len(a.t_ns) / s.seconds for name, a in s.live.items()}
    return [
        late("helmet: last byte sent -> filtered, p50", filtered, 0.5),
        late("helmet: last byte sent -> filtered, p99", filtered, 0.99, FILTERED_GOAL_MS),
        Row("helmet: filtered p99 by the pipeline's own account, worst of the heartbeats",
            s.reported_p99_ms, quantile(filtered, 0.99), "ms (measured)",
            s.reported_p99_ms / quantile(filtered, 0.99)),
        Row("helmet: a row's time in the ring less the device's own, p50",
            quantile(s.row_ms, 0.5), None, "ms", None),
        Row("helmet: the same, p99 of its size", quantile(np.abs(s.row_ms), 0.99), None, "ms", None),
        *(Row(f"{name}: live messages", hz, None, "Hz", None, f">= {LIVE_GOAL_HZ:g}",
              hz >= LIVE_GOAL_HZ) for name, hz in rates.items()),
        late("helmet: last byte of a sample -> subscriber, p50", every, 0.5),
        late("helmet: last byte of a sample -> subscriber, p99", every, 0.99, LIVE_GOAL_MS),
        late("helmet: last byte of a message's newest sample -> subscriber, p99", latest, 0.99),
        late("cyton: time of a message's newest sample -> subscriber, p99", hop, 0.99),
    ]  # fmt: skip


def _drain_rows(d: Drain) -> list[Row]:
    ratio = d.raw_mb / d.drain_s / d.recorded_mb_s
    return [
        Row(f"drain of a backlog of {d.raw_mb:.0f} MB raw", d.raw_mb / d.drain_s,
            d.recorded_mb_s, "MB/s raw", ratio, f">= {DRAIN_GOAL:g} x", ratio >= DRAIN_GOAL),
        Row("broker back -> the aggregator answers the box", d.reconnect_s, None, "s", None),
        Row("from there until nothing is behind", d.drain_s, None, "s", None),
    ]  # fmt: skip
