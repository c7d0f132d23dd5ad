"""The ring in one process: what is pushed is what is read, split where it does not simply go on."""

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from brainforge_edge.core.block import BlockFlag, Gap, GapBasis, GapCause, SampleBlock
from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.stream import ChannelInfo, Dtype, StreamInfo
from brainforge_edge.rings.reader import RingReader
from brainforge_edge.rings.ring import SampleRing


def stream(dtype: Dtype = Dtype.I24, n_channels: int = 5, sfreq: float = 250.0) -> StreamInfo:
    channels = tuple(ChannelInfo(f"c{i}") for i in range(n_channels))
    return StreamInfo("s", "dev", sfreq, dtype, channels)


def block(first: int, n: int, *, seq: int | None = None, **extra: Any) -> SampleBlock:
    data = (np.arange(first, first + n)[:, None] * 10 + np.arange(5)).astype(np.int32)
    seq = first if seq is None else seq
    return SampleBlock("s", int(extra.pop("incarnation", 0)), seq, seq * 4_000_000, data, **extra)


@pytest.fixture
def ring(tmp_path: Path) -> Iterator[SampleRing]:
    ring = SampleRing.create(tmp_path / "s.ring", stream(), seconds=1)
    yield ring
    ring.close()


def test_rows_come_back_as_they_were_pushed_and_packed_in_native_width(ring: SampleRing) -> None:
    assert ring.push(block(0, 7, flags=BlockFlag.FIRST)) == 7
    assert np.array_equal(ring.rows(2, 4), block(2, 4).data)
    out = bytearray(2 + 4 * 15)
    assert ring.packed(2, 4, out, 2) == 60
    expected = block(2, 4).data.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    assert out == b"\0\0" + expected


def test_the_ring_wraps_and_refuses_rows_that_are_gone_or_not_there(ring: SampleRing) -> None:
    for first in range(0, 1000, 50):
        ring.push(block(first, 50))
    assert ring.capacity == 256
    assert np.array_equal(ring.rows(744, 256), block(744, 256).data)
    with pytest.raises(StorageError, match="no longer in the ring"):
        ring.rows(743, 10)
    with pytest.raises(StorageError, match="no longer in the ring"):
        ring.runs(10, 20)
    with pytest.raises(StorageError, match="no longer in the ring"):
        ring.packed(10, 1, bytearray(15))
    with pytest.raises(ValueError, match="beyond head"):
        ring.rows(990, 11)


def test_a_block_longer_than_the_ring_leaves_its_end(ring: SampleRing) -> None:
    ring.push(block(0, 700))
    assert np.array_equal(ring.rows(444, 256), block(444, 256).data)


def test_runs_split_at_gap_incarnation_first_and_wherever_seq_jumps(ring: SampleRing) -> None:
    gap = Gap(6, 2, GapBasis.UNWRAPPED, GapCause.DEVICE)
    ring.push(block(0, 4, flags=BlockFlag.FIRST | BlockFlag.EMULATED))
    ring.push(block(4, 4, flags=BlockFlag.EMULATED | BlockFlag.SATURATED))
    ring.push(block(14, 2, flags=BlockFlag.GAP_BEFORE, gap=gap))
    ring.push(block(0, 3, incarnation=1))
    ring.push(block(3, 1, incarnation=1, flags=BlockFlag.FIRST))
    ring.push(block(9, 2, incarnation=1))
    runs = ring.runs(0, ring.head)
    assert [(r.row, r.n, r.incarnation, r.seq, r.gap) for r in runs] == [
        (0, 8, 0, 0, None),
        (8, 2, 0, 14, gap),
        (10, 3, 1, 0, None),
        (13, 1, 1, 3, None),
        (14, 2, 1, 9, None),
    ]
    assert runs[0].flags == BlockFlag.FIRST | BlockFlag.EMULATED | BlockFlag.SATURATED
    assert runs[1].flags == BlockFlag.GAP_BEFORE
    assert ring.runs(5, 8)[0].t_first_ns == 20_000_000
    assert ring.runs(9, 10)[0].flags == BlockFlag(0)
    assert ring.runs(9, 10)[0].gap is None


def test_a_restarted_writer_keeps_rows_and_cursors_and_counts_an_epoch(tmp_path: Path) -> None:
    path = tmp_path / "s.ring"
    first = SampleRing.create(path, stream(), seconds=1)
    first.push(block(0, 30))
    first.set_written(20)
    first.set_durable(10)
    first.recording_row = 5
    reader = RingReader(path)
    first.close()
    second = SampleRing.create(path, stream(), seconds=1)
    assert (second.head, second.written, second.durable) == (30, 20, 10)
    assert (second.recording_row, second.epoch, second.is_attached) == (5, 2, True)
    assert reader.epoch == 2
    assert not reader.is_replaced
    assert np.array_equal(second.rows(0, 30), block(0, 30).data)
    second.close()


def test_another_shape_replaces_the_file_and_old_readers_keep_theirs(tmp_path: Path) -> None:
    path = tmp_path / "s.ring"
    first = SampleRing.create(path, stream(), seconds=1)
    first.push(block(0, 30))
    first.set_written(30)
    reader = RingReader(path)
    reader.position = 0
    first.close()
    second = SampleRing.create(path, stream(n_channels=6), seconds=1)
    assert (second.head, second.epoch, second.is_attached) == (0, 1, False)
    assert second.recording_row is None
    assert reader.is_replaced
    rows = reader.read(100)
    assert rows is not None
    assert np.array_equal(rows.data, block(0, 30).data)
    second.close()


def test_a_file_that_is_no_ring_is_replaced_and_no_reader_takes_it(tmp_path: Path) -> None:
    path = tmp_path / "s.ring"
    path.write_bytes(b"BFRING1\0 and then something else".ljust(9000, b"\xff"))
    with pytest.raises(StorageError, match="not a ring of this version"):
        RingReader(path)
    ring = SampleRing.create(path, stream(), seconds=1)
    assert ring.head == 0
    ring.close()


def test_two_writers_at_once_are_refused(tmp_path: Path, ring: SampleRing) -> None:
    with pytest.raises(StorageError, match="another acquire process") as caught:
        SampleRing.create(tmp_path / "s.ring", stream(), seconds=1)
    assert caught.value.code == "storage.ring_busy"


def test_a_full_memory_file_system_is_an_error_at_creation_not_a_sigbus(tmp_path: Path) -> None:
    def full(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError, match="file system is full") as caught:
        SampleRing.create(tmp_path / "s.ring", stream(), allocate=full)
    assert caught.value.code == "storage.ring_no_space"
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_and_a_missing_ring_are_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="may be written"):
        SampleRing.create(tmp_path / "none" / "s.ring", stream())
    with pytest.raises(StorageError, match="No such file") as caught:
        RingReader(tmp_path / "s.ring")
    assert caught.value.transient


def test_room_counts_only_unwritten_rows_of_an_open_recording(ring: SampleRing) -> None:
    ring.push(block(0, 200))
    assert ring.room() == 256
    ring.recording_row = 150
    assert ring.room() == 256 - ring.guard - 50
    ring.set_written(180)
    assert ring.room() == 256 - ring.guard - 20
    ring.push(block(200, 256))
    assert ring.room() == 0


def test_cursors_never_pass_each_other_nor_go_back(ring: SampleRing) -> None:
    ring.push(block(0, 10))
    ring.set_written(6)
    with pytest.raises(ValueError, match="head 10"):
        ring.set_written(11)
    with pytest.raises(ValueError, match="written moves from 6"):
        ring.set_written(5)
    with pytest.raises(ValueError, match="written 6"):
        ring.set_durable(7)


@pytest.mark.parametrize(
    "data",
    [
        np.zeros((3, 4), np.int32),
        np.zeros((3, 5), np.int16),
        np.zeros((3, 5), np.float32),
        np.zeros(15, np.int32),
    ],
)
def test_rows_of_another_shape_or_type_are_refused(ring: SampleRing, data: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="n_samples, n_channels"):
        ring.push(SampleBlock("s", 0, 0, 0, data))
    assert ring.head == 0


@pytest.mark.parametrize("dtype", list(Dtype))
def test_every_sample_type_is_stored_and_packed(tmp_path: Path, dtype: Dtype) -> None:
    ring = SampleRing.create(tmp_path / "s.ring", stream(dtype), seconds=1)
    data = np.array([[-1, 2, -3, 4, 5]] * 3).astype(dtype.memory)
    ring.push(SampleBlock("s", 0, 0, 0, data))
    out = bytearray(ring.info.row_bytes * 3)
    assert ring.packed(0, 3, out) == len(out)
    expected = data.tobytes()
    if dtype is Dtype.I24:
        expected = data.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    assert out == expected
    assert ring.rows(0, 3).dtype == np.dtype(dtype.memory)
    ring.close()
