"""An entry that the ring makes where its rows lie has the bytes of one that is packed from a copy of them."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainforge_edge.core.block import BlockFlag, Gap, GapBasis, SampleBlock
from brainforge_edge.core.stream import Dtype
from brainforge_edge.core.threads import Bell
from brainforge_edge.recorder.entry import Entry, pack_entry
from brainforge_edge.recorder.journal import Journal
from brainforge_edge.recorder.journalfile import journal_files, read_journal
from brainforge_edge.rings.ring import SampleRing
from tests.unit.recorder_faulty_disk import MortalDisk
from tests.unit.recorder_material import LOG_ID, rows_of, seeded, stream

INFO = stream(sfreq=1000.0, n_channels=5)
GAP = Gap(3, 0, GapBasis.DEVICE_INDEX)
WHOLE_FLAGS = [BlockFlag(0), BlockFlag.SATURATED, BlockFlag.ESTIMATED_TIME | BlockFlag.EMULATED]


def block(seq: int, n: int, flags: int = 0, gap: Gap | None = None, inc: int = 1) -> SampleBlock:
    rows = rows_of(INFO, seq, n)
    return SampleBlock(INFO.stream_id, inc, seq, seq * 1_000_000, rows, BlockFlag(flags), gap)


@pytest.fixture
def ring(tmp_path: Path) -> Iterator[SampleRing]:
    ring = SampleRing.create(tmp_path / "s.ring", INFO, seconds=1)
    yield ring
    ring.close()


def as_packed(ring: SampleRing, first: int, end: int, *, seed: int, offset: int) -> bytes:
    """What the general way writes of a single run."""
    (run,) = ring.runs(first, end)
    payload = bytearray((end - first) * ring.info.row_bytes)
    ring.packed(first, end - first, payload)
    entry = Entry(7, run.incarnation, run.seq, run.t_first_ns, run.n, run.flags, None, bytes(payload))  # fmt: skip
    return b"".join(pack_entry(entry, seed=seed, offset=offset))


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from(list(Dtype)),
    n_channels=st.integers(1, 310),
    lengths=st.lists(st.integers(1, 90), min_size=1, max_size=8),
    flags=st.lists(st.sampled_from(WHOLE_FLAGS), min_size=8, max_size=8),
    seq=st.integers(0, 2**63),
    incarnation=st.integers(1, 2**32 - 1),
    seed=st.integers(0, 2**32 - 1),
    offset=st.integers(4096, 2**40),
    data=st.data(),
)
def test_entries_of_any_rows_equal_those_packed_from_a_copy(
    dtype: Dtype,
    n_channels: int,
    lengths: list[int],
    flags: list[BlockFlag],
    seq: int,
    incarnation: int,
    seed: int,
    offset: int,
    data: st.DataObject,
) -> None:
    info = stream(sfreq=1000.0, n_channels=n_channels, dtype=dtype)
    noise = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        ring = SampleRing.create(Path(folder) / "s.ring", info, seconds=0.1)
        try:
            for number, n in enumerate(lengths):
                rows = noise.integers(-(2**15), 2**15, (n, n_channels)).astype(info.dtype.memory)
                first = BlockFlag.FIRST if number == 0 else BlockFlag(0)
                ring.push(SampleBlock(info.stream_id, incarnation, seq + ring.head, seq // 2 + ring.head, rows, flags[number] | first))  # fmt: skip
            begin = data.draw(st.integers(max(0, ring.head - ring.capacity), ring.head - 1))
            end = data.draw(st.integers(begin + 1, ring.head))
            expected = as_packed(ring, begin, end, seed=seed, offset=offset)
            out = memoryview(bytearray(b"\xaa" * (len(expected) + 9)))
            found = ring.entry(begin, end, out, stream=7, seed=seed, offset=offset)
            assert found == (incarnation, seq + end)
            assert out[: len(expected)] == expected
            assert out[len(expected) :] == b"\xaa" * 9
        finally:
            ring.close()


def test_rows_that_are_not_one_run_without_a_gap_make_no_entry(ring: SampleRing) -> None:
    ring.push(block(0, 4, BlockFlag.FIRST))
    ring.push(block(7, 4, BlockFlag.GAP_BEFORE, GAP))
    ring.push(block(0, 4, BlockFlag.FIRST, inc=2))
    out = memoryview(bytearray(4096))

    def entry(first: int, end: int) -> tuple[int, int] | None:
        return ring.entry(first, end, out, stream=1, seed=0, offset=0)

    assert entry(0, 4) == (1, 4)
    assert entry(0, 5) is None  # goes over the gap
    assert entry(4, 8) is None  # begins after it
    assert entry(5, 8) == (1, 11)
    assert entry(5, 9) is None  # another incarnation
    assert entry(8, 12) == (2, 4)


def test_rows_that_were_overwritten_make_no_entry(ring: SampleRing) -> None:
    for first in range(0, 2 * ring.capacity, 64):
        ring.push(block(first, 64))
    out = memoryview(bytearray(4096))
    oldest = ring.head - ring.capacity
    assert ring.entry(oldest - 1, oldest + 8, out, stream=1, seed=0, offset=0) is None
    assert ring.entry(oldest, oldest + 8, out, stream=1, seed=0, offset=0) == (1, oldest + 8)


def test_an_entry_needs_rows_that_are_there_and_room(ring: SampleRing) -> None:
    ring.push(block(0, 8))
    out = memoryview(bytearray(32 + 8 * 15 + 4))
    assert ring.entry(0, 8, out, stream=1, seed=0, offset=0) == (1, 8)
    for first, end in ((0, 9), (4, 4), (-1, 4)):
        with pytest.raises((ValueError, OverflowError)):
            ring.entry(first, end, out, stream=1, seed=0, offset=0)
    with pytest.raises(ValueError, match="too short"):
        ring.entry(0, 8, out[:-1], stream=1, seed=0, offset=0)


def test_rows_appended_from_the_ring_are_read_back_until_the_file_is_full(
    ring: SampleRing, tmp_path: Path
) -> None:
    disk = MortalDisk()
    journal = Journal.create(
        tmp_path / "j", streams={1: INFO}, log_id=LOG_ID, file_bytes=4096, disk=disk,
        random=seeded(),
    )  # fmt: skip
    ring.push(block(0, 100, BlockFlag.FIRST | BlockFlag.EMULATED))
    assert journal.append_rows(ring, 1, 0, 10) is None  # no file is begun yet
    (run,) = ring.runs(0, 10)
    payload = bytearray(150)
    ring.packed(0, 10, payload)
    first = Entry(1, 1, 0, run.t_first_ns, 10, run.flags, None, bytes(payload))
    assert journal.append([first]) == 1
    for at in (10, 35, 60):
        assert journal.append_rows(ring, 1, at, at + 25) == (1, at + 25)
    assert journal.append_rows(ring, 1, 85, 100) == (1, 100)
    while journal.append_rows(ring, 1, 0, 100) is not None:  # 1,536 bytes each
        continue
    assert journal.sync() == journal.appended == 6
    (path, _) = journal_files(tmp_path / "j", disk)
    entries = list(read_journal(path, disk))
    assert [(found.seq, found.n_samples) for found in entries] == [(0, 10), (10, 25), (35, 25), (60, 25), (85, 15), (0, 100)]  # fmt: skip
    ring.packed(0, 100, whole := bytearray(1500))
    assert b"".join(bytes(found.payload) for found in entries[:5]) == bytes(whole)
    assert bytes(entries[5].payload) == bytes(whole)
    journal.release(journal.appended)
    journal.close()


def test_a_bell_rung_before_or_twice_wakes_once() -> None:
    bell = Bell()
    assert not bell.wait(0.0)
    bell.ring()
    bell.ring()
    assert bell.wait(1.0)
    assert not bell.wait(0.0)
