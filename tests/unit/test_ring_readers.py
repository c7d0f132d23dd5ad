"""Readers of a ring: a suffix of what is written, never more, nothing torn, also in other processes."""

import multiprocessing
import threading
from collections.abc import Iterator
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainforge_edge.core.block import SampleBlock
from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.stream import ChannelInfo, Dtype, StreamInfo
from brainforge_edge.kernels.ring import RESERVE, WRITTEN
from brainforge_edge.rings import layout
from brainforge_edge.rings.reader import RingReader, Rows
from brainforge_edge.rings.ring import SampleRing

N_CHANNELS = 37  # rows of 148 bytes: a tail behind the vector loops
INFO = StreamInfo(
    "s", "dev", 250.0, Dtype.I32, tuple(ChannelInfo(f"c{k}") for k in range(N_CHANNELS))
)
_SPAWN = multiprocessing.get_context("spawn")


def block(first: int, n: int) -> SampleBlock:
    rows = np.arange(first, first + n, dtype=np.int32)[:, None] * 101 + np.arange(N_CHANNELS)
    return SampleBlock("s", 0, first, first * 4_000_000, rows.astype(np.int32))


def is_whole(rows: Rows) -> bool:
    return np.array_equal(rows.data, block(rows.first_row, len(rows.data)).data)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.ring"


@pytest.fixture
def ring(path: Path) -> Iterator[SampleRing]:
    ring = SampleRing.create(path, INFO, seconds=1)
    yield ring
    ring.close()


def test_a_reader_sees_nothing_beyond_written(ring: SampleRing, path: Path) -> None:
    reader = RingReader(path)
    ring.push(block(0, 10))
    assert reader.wait(0) == 0
    assert reader.read(100) is None
    ring.set_written(6)
    assert reader.wait(0) == 6
    rows = reader.read(4)
    assert rows is not None
    assert (rows.first_row, len(rows.data), rows.lost) == (0, 4, 0)
    assert len(reader.snapshot(100).data) == 6
    assert reader.position == 4


def test_a_reader_begins_at_the_newest_row_and_snapshots_the_last(
    ring: SampleRing, path: Path
) -> None:
    ring.push(block(0, 100))
    ring.set_written(100)
    reader = RingReader(path)
    assert reader.position == 100
    rows = reader.snapshot(10)
    assert rows.first_row == 90
    assert is_whole(rows)
    assert [(run.row, run.n, run.seq) for run in rows.runs] == [(90, 10, 90)]


def test_a_reader_that_was_lapped_jumps_is_told_how_far_and_goes_on(
    ring: SampleRing, path: Path
) -> None:
    reader = RingReader(path)
    for first in range(0, 1000, 50):
        ring.set_written(ring.push(block(first, 50)))
    rows = reader.read(20)
    assert rows is not None
    assert is_whole(rows)
    assert rows.lost == rows.first_row == 1000 - 128
    assert reader.overruns == 1
    rows = reader.read(500)
    assert rows is not None
    assert (rows.first_row, len(rows.data), rows.lost) == (892, 108, 0)


def test_rows_that_were_overwritten_before_they_were_written_are_lost_and_said_so(
    ring: SampleRing, path: Path
) -> None:
    reader = RingReader(path)
    ring.push(block(0, 20))
    ring.set_written(20)
    ring.push(block(20, 256))
    ring.push(block(276, 24))
    assert reader.read(10) is None
    ring.set_written(300)
    rows = reader.read(500)
    assert rows is not None
    assert rows.lost == rows.first_row
    assert is_whole(rows)


def test_a_row_that_changes_during_the_copy_is_discarded(ring: SampleRing, path: Path) -> None:
    """The writer's own order, stopped between `reserve` and the rows: a reader must not trust them."""
    ring.push(block(0, 256))
    ring.set_written(256)
    reader = RingReader(path)
    reader.position = 0
    ring._ring.advance(RESERVE, 256 + 8)
    rows = reader.read(16)
    assert rows is not None
    assert rows.first_row >= 8
    with pytest.raises(StorageError, match="no longer in the ring"):
        ring.rows(7, 1)
    assert is_whole(Rows(ring.rows(8, 4), [], 8, 0))


def test_a_writer_that_died_in_a_push_leaves_its_rows_suspect(path: Path) -> None:
    first = SampleRing.create(path, INFO, seconds=1)
    first.push(block(0, 256))
    first.set_written(256)
    first._ring.advance(RESERVE, 300)
    first.close()
    second = SampleRing.create(path, INFO, seconds=1)
    second.push(block(256, 4))
    assert second.head == 260
    with pytest.raises(StorageError, match="no longer in the ring"):
        second.rows(43, 1)
    second.close()


def test_nothing_is_read_when_all_that_was_written_is_overwritten(
    ring: SampleRing, path: Path
) -> None:
    ring.push(block(0, 256))
    ring.set_written(256)
    reader = RingReader(path)
    ring._ring.advance(RESERVE, 10_000)
    assert len(reader.snapshot(10).data) == 0
    assert reader.read(10) is None


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_readers_see_a_suffix_in_order_with_every_loss_counted(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("ring") / "s.ring"
    with closing(SampleRing.create(path, INFO, seconds=1)) as ring:
        reader = RingReader(path)
        next_row = lost = 0
        for _ in range(data.draw(st.integers(1, 25))):
            match data.draw(st.sampled_from(["push", "write", "read", "snapshot"])):
                case "push":
                    ring.push(block(ring.head, data.draw(st.integers(1, 300))))
                case "write":
                    ring.set_written(data.draw(st.integers(ring.written, ring.head)))
                case "read":
                    rows = reader.read(data.draw(st.integers(1, 300)))
                    if rows is None:
                        continue
                    lost += rows.lost
                    assert rows.first_row == next_row + rows.lost
                    assert is_whole(rows)
                    assert sum(run.n for run in rows.runs) == len(rows.data)
                    next_row = rows.first_row + len(rows.data)
                    assert next_row <= ring.written
                case _:
                    rows = reader.snapshot(data.draw(st.integers(1, 300)))
                    assert is_whole(rows)
                    assert rows.first_row + len(rows.data) == ring.written
        assert ring.head >= ring.written >= reader.position >= next_row
        assert (reader.overruns > 0) or lost == 0


def test_a_waiter_wakes_at_once_when_a_cursor_moves_and_when_it_is_woken(
    ring: SampleRing, path: Path
) -> None:
    reader = RingReader(path)
    got: list[int] = []

    def wait() -> None:
        got.append(reader.wait(30))
        reader.position = ring.head
        got.append(reader.wait(30))

    waiter = threading.Thread(target=wait)
    waiter.start()
    ring.push(block(0, 4))
    ring.set_written(4)
    while waiter.is_alive():  # woken without progress, it returns what is
        ring.wake()
        waiter.join(0.01)
    assert got == [4, 0]


def follow(path: Path, pipe: Connection) -> None:
    """Runs in: another process. Waits by futex on a read-only mapping, then reports."""
    reader = RingReader(path)
    pipe.send("ready")
    n = reader.wait(30)
    rows = reader.read(100)
    assert rows is not None
    pipe.send((n, rows.first_row, is_whole(rows)))


def test_a_waiter_in_another_process_is_woken(ring: SampleRing, path: Path) -> None:
    mine, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=follow, args=(path, theirs))
    process.start()
    assert mine.recv() == "ready"
    ring.push(block(0, 5))
    ring.set_written(5)
    assert mine.recv() == (5, 0, True)
    process.join(10)
    mine.close()
    theirs.close()


def chase(path: Path, pipe: Connection) -> None:
    """Runs in: another process. Copies as fast as it can until the writer has passed the last row."""
    reader = RingReader(path)
    pipe.send("ready")
    torn = seen = 0
    last = pipe.recv()
    while reader.position < last:
        reader.wait(1)
        rows = reader.read(200)
        if rows is None:
            continue
        seen += len(rows.data) + rows.lost
        torn += not is_whole(rows)
        torn += not is_whole(reader.snapshot(100)) if reader.written < last - 2000 else 0
    pipe.send((torn, seen, reader.overruns))


def test_no_row_is_torn_and_none_uncounted_while_a_writer_laps_two_processes(
    ring: SampleRing, path: Path
) -> None:
    chasers: list[tuple[Any, Connection]] = []
    for _ in range(2):
        mine, theirs = _SPAWN.Pipe()
        process = _SPAWN.Process(target=chase, args=(path, theirs))
        process.start()
        chasers.append((process, mine))
    assert [mine.recv() for _, mine in chasers] == ["ready"] * 2
    last = 150_000
    for _, mine in chasers:
        mine.send(last)
    while ring.head < last:
        ring.set_written(ring.push(block(ring.head, 10)))
    for process, mine in chasers:
        torn, seen, _ = mine.recv()
        assert torn == 0
        assert seen == last
        process.join(10)
        mine.close()


def test_the_kernel_refuses_a_mapping_that_does_not_hold_its_rows(
    ring: SampleRing, path: Path
) -> None:
    plan = layout.plan(INFO, seconds=1)
    with path.open("rb") as file:
        fd = file.fileno()
        reader = plan.map(fd, writable=False)
        with pytest.raises(ValueError, match="not writable"):
            reader.advance(WRITTEN, 1)
        with pytest.raises(ValueError, match="length"):
            plan._replace(capacity=1 << 30).map(fd, writable=False)
        with pytest.raises(ValueError, match="power of two"):
            plan._replace(capacity=300).map(fd, writable=False)
        with pytest.raises(ValueError, match="stride"):
            plan._replace(stride=128).map(fd, writable=False)
        with pytest.raises(OSError, match="Permission"):
            plan.map(fd, writable=True)
