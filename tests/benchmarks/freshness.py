"""From the last byte of a hop's newest row to its features at a reader, for a helmet and four headsets at once.

A process of its own pushes rows into rings when they are due (306 channels at 1 kHz in frames of 8, four
times 4 at 256 Hz in packets of 12), when the last of them is due, as are their labels; the real pipeline worker
follows them at the supervisor's niceness; this process reads its messages. So every figure holds how late
the writer's timer was: the lateness of a bare timer in this process stands beside, and goals are what a
figure may be above it. Once on a machine left to itself, once beside a busy loop for each core.
"""

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core import ipc, wire
from brainforge_edge.core.block import SampleBlock
from brainforge_edge.core.config import EdgeConfig, NodeConfig, PipelineConfig
from brainforge_edge.core.stream import ChannelInfo, Dtype, StreamInfo
from brainforge_edge.daemon.supervisor import NICENESS
from brainforge_edge.rings.ring import SampleRing
from tests.benchmarks.lateness import BareTimer, quantile
from tests.benchmarks.processes import cpu_s, private_mib
from tests.benchmarks.row import Row

HELMET = "helmet-mag"
GOALS_MS = {"idle": {0.95: 15.0, 0.99: 30.0}, "both cores busy": {0.95: 50.0, 0.99: 100.0}}
START_S = 240.0
WARM_S = 6.0  # until windows of 4 s are full, and nothing is warming up
_LEAST_SENT = 1 << 20


class Fed(msgspec.Struct, frozen=True):
    """A stream, and how many rows come at once."""

    info: StreamInfo
    block: int


def _fed() -> list[Fed]:
    magnetometers = tuple(ChannelInfo(f"OPM{i:03d}", "mag", "T", 1e-15) for i in range(306))
    found = [Fed(StreamInfo(HELMET, "helmet", 1000.0, Dtype.I24, magnetometers), 8)]
    for k in range(4):
        names = ("TP9", "AF7", "AF8", "TP10")
        channels = tuple(ChannelInfo(name, "eeg", "V", 0.49e-6) for name in names)
        found.append(Fed(StreamInfo(f"muse{k}-eeg", f"muse{k}", 256.0, Dtype.I16, channels), 12))
    return found


def run(*, seconds: float = 60.0) -> list[Row]:
    """`seconds` for each of the two."""
    rows: list[Row] = []
    for case in GOALS_MS:
        with ExitStack() as stack:
            if case != "idle":
                stack.enter_context(_busy(os.cpu_count() or 1))
            rows += _measured(case, seconds)
    return rows


@contextmanager
def _busy(n: int) -> Iterator[None]:
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def _measured(case: str, seconds: float) -> list[Row]:
    with ExitStack() as stack:
        folder = tempfile.TemporaryDirectory(prefix="bf-fresh-", dir="/dev/shm")
        rings = Path(stack.enter_context(folder))
        writer = stack.enter_context(_process("-m", "tests.benchmarks.freshness", str(rings)))
        assert writer.stdout is not None
        writer.stdout.readline()  # all rings are there, and fed
        worker = stack.enter_context(Worker(rings))
        worker.until_warm()
        spent, began = cpu_s(worker.pid), time.monotonic()
        with BareTimer() as timer:
            time.sleep(seconds)
        cpu = 100 * (cpu_s(worker.pid) - spent) / (time.monotonic() - began)
        memory = private_mib(worker.pid)
        late = worker.late_ms(began)
        levels = {stats["pace"]["level"] for stats in worker.stats}
    return [
        *_late_rows(case, "helmet, 306 ch", late[HELMET], timer.late_ms),
        *_late_rows(
            case,
            "4 headsets",
            np.concatenate([each for name, each in late.items() if name != HELMET]),
            timer.late_ms,
        ),
        *(
            Row(f"{case}: {name}, messages", len(each) / seconds, None, "Hz", None)
            for name, each in late.items()
        ),
        Row(f"{case}: pipeline", cpu, None, "% of a core", None),
        Row(f"{case}: pipeline, private", memory, None, "MiB", None),
        Row(f"{case}: most that was left out (level)", max(levels), None, "", None),
    ]


def _late_rows(
    case: str, name: str, late_ms: NDArray[np.float64], timer_ms: list[float]
) -> list[Row]:
    rows = []
    for q in (0.5, 0.95, 0.99):
        ours, timer = quantile(late_ms, q), quantile(timer_ms, q)
        goal = GOALS_MS[case].get(q)
        rows.append(
            Row(
                f"{case}: {name}: last byte -> features, p{q * 100:g}",
                ours,
                timer,
                "ms (timer)",
                ours / timer,
                f"<= {goal:g} ms above it" if goal else "",
                bool(ours - timer <= goal) if goal else None,
            )
        )
    return rows


class Worker:
    """The pipeline worker as the supervisor starts it; its messages with the time of their arrival."""

    def __init__(self, rings: Path) -> None:
        self.stats: list[dict[str, dict[str, int]]] = []
        self._seen: list[tuple[int, bytes]] = []
        ours, theirs = socket.socketpair()
        self._live, live = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        live.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LEAST_SENT)
        fds = [theirs.fileno(), live.fileno()]
        arguments = ["--fd", str(fds[0]), "--live-fd", str(fds[1])]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "brainforge_edge.pipeline.worker", *arguments],
            pass_fds=fds,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"},
        )
        os.setpriority(os.PRIO_PROCESS, self._process.pid, NICENESS["pipeline"])
        self.pid = self._process.pid
        theirs.close()
        live.close()
        self._control = ours
        self._channel = ipc.Channel(ours)
        config = EdgeConfig(
            node=NodeConfig(id="bench"), pipeline=PipelineConfig(live="features", notch=50.0)
        )
        self._channel.send(ipc.Start(config=msgspec.msgpack.encode(config), worker="pipeline"))
        for each in _fed():
            path = str(rings / each.info.stream_id)
            packed = msgspec.msgpack.encode(each.info)
            self._channel.send(ipc.StreamOpened(stream=packed, ring=path))
        self._threads = [
            threading.Thread(target=self._hear, daemon=True),
            threading.Thread(target=self._read, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.send(ipc.Stop())
        self._process.wait(30)
        for thread in self._threads:
            thread.join(30)
        self._control.close()
        self._live.close()

    def _hear(self) -> None:
        while (message := self._channel.receive()) is not None:
            if isinstance(message, ipc.Fault):
                raise RuntimeError(message.error)
            if isinstance(message, ipc.Heartbeat) and "pace" in message.stats:
                self.stats.append(message.stats)

    def _read(self) -> None:
        while datagram := self._live.recv(_LEAST_SENT):
            self._seen.append((time.monotonic_ns(), datagram))

    def until_warm(self) -> None:
        """Every stream has sent for long enough; then all that was is forgotten."""
        names = {each.info.stream_id.encode() for each in _fed()}
        first: dict[bytes, int] = {}
        until = time.monotonic() + START_S
        while len(first) < len(names) or time.monotonic_ns() < max(first.values()) + WARM_S * 1e9:
            if time.monotonic() > until:
                raise TimeoutError(f"only {sorted(first)} have features")
            time.sleep(0.1)
            for t_ns, datagram in self._seen:
                first.setdefault(datagram[1 : 1 + datagram[0]], t_ns)
        self._seen.clear()
        self.stats.clear()

    def late_ms(self, since_s: float) -> dict[str, NDArray[np.float64]]:
        """Of each stream's messages whose newest row was due after `since_s`."""
        fed = {each.info.stream_id: each for each in _fed()}
        late: dict[str, list[float]] = {name: [] for name in fed}
        for t_ns, datagram in list(self._seen):
            body = datagram[1 + datagram[0] + len(wire.FEATURES) :]
            features = msgspec.msgpack.decode(body, type=wire.Features)
            each = fed[features.stream_id]
            # The row left with the last one of its frame.
            waited = each.block - 1 - features.seq % each.block
            due_ns = features.t_last_ns + waited * 1e9 / each.info.sfreq
            if features.t_last_ns > since_s * 1e9:
                late[features.stream_id].append((t_ns - due_ns) / 1e6)
        return {name: np.array(each) for name, each in late.items()}


@contextmanager
def _process(*arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()


def _write(rings: Path) -> None:
    """Push each block when its last row is due, for ever."""
    rng = np.random.default_rng(7)
    streams = []
    start_ns = time.monotonic_ns() + 200_000_000
    for each in _fed():
        info = each.info
        ring = SampleRing.create(rings / info.stream_id, info, seconds=16)
        middle = 2048 if info.dtype is Dtype.I16 else 0
        rows = middle + 40 * rng.standard_normal((64 * each.block, info.n_channels))
        streams.append((each, ring, rows.astype(info.dtype.memory)))
    pushed = [0] * len(streams)
    print("fed", flush=True)
    while True:
        dues = [
            start_ns + round(((pushed[i] + 1) * each.block - 1) * 1e9 / each.info.sfreq)
            for i, (each, _, _) in enumerate(streams)
        ]
        i = int(np.argmin(dues))
        time.sleep(max(0, dues[i] - time.monotonic_ns()) / 1e9)
        each, ring, rows = streams[i]
        seq = pushed[i] * each.block
        part = rows[seq % len(rows) :][: each.block]
        t_first = dues[i] - round((each.block - 1) * 1e9 / each.info.sfreq)
        ring.push(SampleBlock(each.info.stream_id, 0, seq, t_first, part))
        ring.set_written(ring.head)
        pushed[i] += 1


if __name__ == "__main__":
    _write(Path(sys.argv[1]))
