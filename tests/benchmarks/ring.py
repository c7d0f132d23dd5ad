"""Snapshots of 1000 × 306 rows by four reader processes while another process writes.

Live: the writer is paced like a helmet; each reader takes a snapshot and a memcpy of the same size in turns.
Flat out: a ring of two seconds whose writer never pauses, so that it laps the readers all the time.
"""

import itertools
import multiprocessing
import statistics
import tempfile
import threading
import time
from collections import deque
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.block import BlockFlag, SampleBlock
from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.stream import ChannelInfo, Dtype, StreamInfo
from brainforge_edge.rings.reader import RingReader, Rows
from brainforge_edge.rings.ring import SampleRing
from tests.benchmarks.row import Row
from tests.benchmarks.timing import alternate

N_CHANNELS = 306
N_ROWS = 1000
N_READERS = 4
MEMCPY_GOAL = 0.8
DEQUE_GOAL = 5.0
INFO = StreamInfo(
    "helmet-mag",
    "helmet",
    1000.0,
    Dtype.I24,
    tuple(ChannelInfo(f"MEG{k:03}", "mag", "T") for k in range(N_CHANNELS)),
)
_PLACES = np.arange(N_CHANNELS, dtype=np.int32)


def rows_of(first: int, n: int) -> SampleBlock:
    """Rows whose every value tells its row and channel, so that any mix of two rows shows."""
    data = np.arange(first, first + n, dtype=np.int32)[:, None] * 1009 + _PLACES
    return SampleBlock(INFO.stream_id, 0, first, first * 1_000_000, data, BlockFlag(0))


def torn(rows: Rows) -> int:
    """Rows of which any value is not what `rows_of` wrote there."""
    wanted = rows_of(rows.first_row, len(rows.data)).data
    return int(np.count_nonzero((rows.data != wanted).any(axis=1)))


def write(path: Path, seconds: float, per_s: float, stop: Event) -> None:
    """Runs in: writer process. `per_s` = 0: as fast as it can, in blocks of 64."""
    n = 8 if per_s else 64
    ring = SampleRing.create(path, INFO, seconds=seconds)
    started = time.perf_counter()
    pushed = 0
    while not stop.is_set():
        head = ring.push(rows_of(ring.head, n))
        ring.set_written(head)
        pushed += n
        if per_s:
            time.sleep(max(0.0, started + pushed / per_s - time.perf_counter()))
    ring.close()


def read(path: Path, stop: Event, pace_s: float, results: Connection) -> None:
    """Runs in: reader process."""
    reader = RingReader(path)
    out = np.empty((N_ROWS, N_CHANNELS), np.int32)
    source = np.ones_like(out)
    taken: list[float] = []
    copied: list[float] = []
    n_torn = n_rows = lapped = 0
    turn = 0
    results.send(None)  # it is there: an interpreter takes its time to start on a busy machine
    while not stop.is_set():
        # Each comes first in every second turn, and each after a check: both meet the same caches.
        turn += 1
        if turn % 2:
            copied.append(_timed_copy(source, out))
            torn(Rows(out, [], 0, 0))
        started = time.perf_counter()
        try:
            rows = reader.snapshot(N_ROWS, out=out)
        except StorageError:
            lapped += 1
            continue
        taken.append(time.perf_counter() - started)
        n_torn += torn(rows)
        n_rows += len(rows.data)
        if not turn % 2:
            copied.append(_timed_copy(source, out))
        followed = reader.read(N_ROWS)
        if followed is not None:
            n_torn += torn(followed)
            n_rows += len(followed.data)
        time.sleep(pace_s)
    results.send((taken, copied, n_torn, n_rows, lapped, reader.overruns))


def _timed_copy(source: NDArray[np.int32], out: NDArray[np.int32]) -> float:
    started = time.perf_counter()
    np.copyto(out, source)
    return time.perf_counter() - started


def run(*, seconds: float = 8.0) -> list[Row]:
    """Half of the time live, half flat out."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        live = _phase(Path(folder) / "live.ring", seconds / 2, ring_s=64.0, per_s=1000.0)
        flat = _phase(Path(folder) / "flat.ring", seconds / 2, ring_s=2.0, per_s=0.0)
        against_deque = _deque_rows(Path(folder) / "deque.ring")
    speeds = [statistics.median(r[1]) / statistics.median(r[0]) for r in live]
    ours = statistics.median(t for r in live for t in r[0])
    memcpy = statistics.median(t for r in live for t in r[1])
    rows = [
        Row(
            case=f"snapshot {N_ROWS}x{N_CHANNELS}, live writer, slowest of {N_READERS} readers",
            ours=ours * 1e6,
            peer=memcpy * 1e6,
            unit="us",
            ratio=min(speeds),
            goal=f">= {MEMCPY_GOAL:g} of memcpy",
            met=min(speeds) >= MEMCPY_GOAL,
        )
    ]
    for name, phase in (("live", live), ("flat out", flat)):
        n_torn = sum(r[2] for r in phase)
        n_rows = sum(r[3] for r in phase)
        lapped = sum(r[4] + r[5] for r in phase)
        rows.append(
            Row(
                case=f"torn rows, {name}, {seconds / 2:g} s (found lapped {lapped} times)",
                ours=n_torn,
                peer=n_rows,
                unit="rows",
                ratio=n_torn / max(1, n_rows),
                goal="= 0",
                met=n_torn == 0 and n_rows > 0,
            )
        )
    return rows + against_deque


def _phase(
    path: Path, seconds: float, *, ring_s: float, per_s: float
) -> list[tuple[list[float], list[float], int, int, int, int]]:
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    ring = SampleRing.create(path, INFO, seconds=ring_s)
    ring.set_written(ring.push(rows_of(0, 2 * N_ROWS)))
    ring.close()
    writer = context.Process(target=write, args=(path, ring_s, per_s, stop))
    writer.start()
    readers = []
    for _ in range(N_READERS):
        mine, theirs = context.Pipe()
        reader = context.Process(target=read, args=(path, stop, 0.02 if per_s else 0.0, theirs))
        reader.start()
        readers.append((reader, mine))
    for _, mine in readers:
        mine.recv()
    time.sleep(seconds)
    stop.set()
    results = [mine.recv() for _, mine in readers]
    for process in (writer, *(reader for reader, _ in readers)):
        process.join(10)
    return results


def _deque_rows(path: Path) -> list[Row]:
    """A deque with the ring's history, of numpy rows and of lists, and one that has the best case of all."""
    ring = SampleRing.create(path, INFO)
    while ring.head < ring.capacity:
        ring.set_written(ring.push(rows_of(ring.head, N_ROWS)))
    reader = RingReader(path)
    data = reader.snapshot(N_ROWS).data
    arrays = deque(itertools.repeat(data[0], ring.capacity - N_ROWS), maxlen=ring.capacity)
    arrays.extend(row.copy() for row in data)
    lists = deque(arrays, maxlen=ring.capacity)
    lists.extend(row.tolist() for row in data)
    just = deque((row.copy() for row in data), maxlen=N_ROWS)
    lock = threading.Lock()

    def last(rows: deque[Any]) -> NDArray[Any]:
        with lock:
            newest = list(rows)[-N_ROWS:]
        return np.array(newest, np.int32)

    assert np.array_equal(last(arrays), data)
    assert np.array_equal(last(lists), data)
    out = np.empty_like(data)
    flat = out.reshape(-1)
    ours, of_arrays, of_lists, best, copy = alternate(
        lambda: reader.snapshot(N_ROWS, out=out),
        lambda: last(arrays),
        lambda: last(lists),
        lambda: np.concatenate(just, out=flat),
        lambda: np.copyto(out, data),
    )
    ring.close()

    def row(case: str, peer: float, goal: float, text: str) -> Row:
        ratio = peer / ours
        return Row(case, ours * 1e6, peer * 1e6, "us", ratio, text, ratio >= goal)

    least = MEMCPY_GOAL * best / copy
    return [
        row("snapshot, deque of numpy rows with the same history", of_arrays, DEQUE_GOAL, ">= 5"),
        row("snapshot, deque of lists with the same history", of_lists, DEQUE_GOAL, ">= 5"),
        row(
            f"snapshot, deque of exactly {N_ROWS} numpy rows (a memcpy: {best / copy:.2g})",
            best,
            least,
            f">= {least:.2g}: {MEMCPY_GOAL:g} of memcpy",
        ),
    ]
