"""Segments: every damage is found, every other chunk is still read, and the account names it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from brainforge_edge.codec import registry
from brainforge_edge.core.block import BlockFlag, Gap, GapBasis, GapCause
from brainforge_edge.core.stream import Codec
from brainforge_edge.recorder.catalog import (
    RecordingFile,
    close_recording,
    list_recordings,
    read_recording,
    rebuilt_streams,
    write_recording_file,
)
from brainforge_edge.recorder.chunk import Chunk, ChunkDamaged, pack, unpack
from brainforge_edge.recorder.cut import make_chunk
from brainforge_edge.recorder.reader import (
    Damage,
    Whole,
    iter_chunks,
    iter_heads,
    read_segment,
    scan,
)
from brainforge_edge.recorder.recover import repair_recording
from brainforge_edge.recorder.segment import SegmentWriter, read_descriptor, reserved_bytes
from brainforge_edge.recorder.verify import Account, Span, verify_recording
from brainforge_edge.storage.files import Mode
from tests.unit.recorder_box import ACC, EEG, Box, check, decode, encode, stored
from tests.unit.recorder_faulty_disk import UnsyncedDisk
from tests.unit.recorder_material import IDENTITY, packed, seeded, t_of

DISK = UnsyncedDisk()


def chunk(seq: int, n: int, *, gap: Gap | None = None, incarnation: int = 1) -> Chunk:
    return make_chunk(
        packed(EEG, seq, n),
        info=EEG,
        number=1,
        identity=IDENTITY,
        incarnation=incarnation,
        seq=seq,
        t_first_ns=t_of(EEG, seq),
        flags=BlockFlag(0) if gap is None else BlockFlag.GAP_BEFORE,
        gap=gap,
        encode=encode,
    )


def segment(root: Path, chunks: list[Chunk], *, ordinal: int = 1, seed: int = 5) -> Path:
    writer = SegmentWriter.create(
        root / "rec-1" / EEG.stream_id,
        ordinal,
        info=EEG,
        number=1,
        identity=IDENTITY,
        size=100_000,
        disk=DISK,
        random=seeded(seed),
    )
    for item in chunks:
        writer.append(item)
    writer.close()
    write_recording_file(root, RecordingFile("rec-1", None, "node-1", closed=True), DISK)
    return writer.path


def account(root: Path) -> Account:
    return verify_recording(root / "rec-1", decode=decode, disk=DISK)


def test_a_clean_recording_has_a_clean_account(tmp_path: Path) -> None:
    gap = Gap(20, 0, GapBasis.DEVICE_INDEX, GapCause.DEVICE)
    segment(tmp_path, [chunk(0, 80), chunk(80, 40), chunk(140, 20, gap=gap)])
    segment(tmp_path, [chunk(0, 10, incarnation=2)], ordinal=2, seed=6)
    found = account(tmp_path)
    assert found.is_clean
    assert found.is_closed
    stream = found.streams[0]
    assert (stream.segments, stream.chunks, stream.rows) == (2, 4, 150)
    assert stream.spans == [Span(1, 0, 120), Span(1, 140, 160), Span(2, 0, 10)]
    assert [(named.seq, named.gap) for named in stream.gaps] == [(140, gap)]
    assert read_recording(tmp_path / "rec-1", DISK).is_closed
    assert rebuilt_streams(tmp_path, DISK) == {EEG.stream_id: {"number": 1, "incarnation": 2}}


def test_the_descriptor_says_everything_that_a_stranger_needs(tmp_path: Path) -> None:
    info = read_segment(segment(tmp_path, [chunk(0, 3)]))
    assert info.descriptor is not None
    assert info.descriptor.info == EEG
    assert info.descriptor.identity == IDENTITY
    assert (info.descriptor.number, info.descriptor.ordinal) == (1, 1)


def test_every_flipped_bit_is_found_and_named_and_the_others_are_read(tmp_path: Path) -> None:
    path = segment(tmp_path, [chunk(0, 5), chunk(5, 6), chunk(11, 4), chunk(15, 3)])
    whole = path.read_bytes()
    starts = [located.offset for located in iter_heads(path)] + [len(whole)]
    for bit in range(0, len(whole) * 8, 11):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        hit = next(i for i in range(5) if bit // 8 < starts[i + 1])
        damages: list[Damage] = []
        numbers = [item.head.number for item in iter_chunks(path, damaged=damages)]
        assert numbers == [i for i in range(5) if i != hit]
        assert [(item.offset, item.end) for item in damages] == [(starts[hit], starts[hit + 1])]
        if bit % 275 == 0:
            stream = account(tmp_path).streams[0]
            named = stream.torn if hit == 4 else stream.damaged
            assert [item.numbers for item in named] == [(hit,)]
            assert not account(tmp_path).is_clean


def test_every_truncation_point_is_found_and_repair_cuts_it(tmp_path: Path) -> None:
    path = segment(tmp_path, [chunk(0, 5), chunk(5, 6)])
    whole = path.read_bytes()
    starts = [located.offset for located in iter_heads(path)]
    for length in range(1, len(whole)):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(whole[:length])
        keep = max((at for at in starts if at <= length), default=0)
        assert account(tmp_path).is_clean == (keep == length)
        repair_recording(tmp_path / "rec-1", encode=encode, disk=DISK, random=seeded())
        if keep:
            assert path.read_bytes() == whole[:keep]
            assert account(tmp_path).is_clean
        else:
            assert not path.exists()


@pytest.mark.parametrize("size", [512, 4096])
def test_zeroed_swapped_stale_and_misdirected_sectors_hide_no_other_chunk(
    tmp_path: Path, size: int
) -> None:
    path = segment(tmp_path, [chunk(80 * i, 80) for i in range(40)])
    other = segment(tmp_path / "other", [chunk(80 * i, 80) for i in range(40)], seed=7).read_bytes()
    whole = path.read_bytes()
    pieces = {item.head.number: item for item in scan(path) if isinstance(item, Whole)}
    for k in range(len(whole) // size - 1):
        one, two = slice(k * size, (k + 1) * size), slice((k + 1) * size, (k + 2) * size)
        zeroed, swapped, stale, moved = (bytearray(whole) for _ in range(4))
        zeroed[one] = bytes(size)
        swapped[one], swapped[two] = whole[two], whole[one]
        stale[one] = other[one]
        moved[two] = whole[one]
        for damaged in (zeroed, swapped, stale, moved):
            path.write_bytes(damaged)
            good = {n for n, item in pieces.items() if damaged[item.offset : item.end] == item.data}
            found = list(iter_chunks(path))
            assert {item.head.number for item in found} >= good
            assert all(pieces[item.head.number].data == item.data for item in found)


def test_whole_chunks_in_the_wrong_place_are_refused(tmp_path: Path) -> None:
    path = segment(tmp_path, [chunk(10 * i, 10) for i in range(5)])
    whole = path.read_bytes()
    pieces = [item for item in scan(path) if isinstance(item, Whole)]
    stranger = segment(tmp_path / "x", [chunk(10 * i, 10) for i in range(5)], seed=8).read_bytes()
    late = bytearray(whole)  # chunk 4 also where chunk 2 should be
    late[pieces[2].offset : pieces[2].end] = pieces[4].data
    path.write_bytes(late)
    assert sorted(item.head.number for item in iter_chunks(path)) == [0, 1, 3, 4, 5]
    foreign = bytearray(whole)  # the descriptor of another segment: it must not outvote the rest
    foreign[: pieces[0].end] = stranger[: pieces[0].end]
    path.write_bytes(foreign)
    assert [item.head.number for item in iter_chunks(path)] == [1, 2, 3, 4, 5]
    assert read_segment(path).descriptor is None


@pytest.mark.parametrize("codec", [Codec.PACKED, Codec.LOSSLESS])
def test_header_rows_and_footer_of_two_chunks_fit_only_together(codec: Codec) -> None:
    """Of the same length, so that only the CRCs can tell; a sector's border may lie between any two parts."""
    noise = np.random.default_rng(4).integers(-(2**23), 2**23, (2, 80, 2), dtype=np.int32)
    one, two = (
        pack(replace(chunk(80 * i, 80), codec=codec, body=registry.encode(codec, rows, EEG.dtype)))
        for i, rows in enumerate(noise)
    )
    assert len(one) == len(two)
    for at, end in ((0, 128), (128, len(one) - 4), (0, len(one) - 4)):
        mixed = one[:at] + two[at:end] + one[end:]
        with pytest.raises(ChunkDamaged):
            unpack(mixed)
    for mixed in (one[:-8] + two[-8:-4] + one[-4:], one[:-8] + two[-8:]):  # only P, P and C
        with pytest.raises(ChunkDamaged):
            unpack(mixed)


def test_chunks_cut_off_at_the_end_of_a_recording_are_named(tmp_path: Path) -> None:
    """At the border of two chunks, where the file that is left looks like one that was closed."""
    path = segment(tmp_path, [chunk(10 * i, 10) for i in range(5)])
    close_recording(tmp_path / "rec-1", DISK)
    assert account(tmp_path).is_clean
    whole = path.read_bytes()
    places = [item.offset for item in scan(path) if isinstance(item, Whole)]
    path.write_bytes(whole[: places[3]])
    (named,) = account(tmp_path).streams[0].damaged
    assert (named.offset, named.end, named.reason) == (places[3], len(whole), "cut off")
    assert named.numbers == (3,)
    path.unlink()
    (named,) = account(tmp_path).streams[0].damaged
    assert (named.end, named.reason) == (len(whole), "the file is missing")


def test_a_copy_of_a_chunk_in_the_place_of_another_costs_that_one_s_number_alone(
    tmp_path: Path,
) -> None:
    path = segment(tmp_path, [chunk(10 * i, 10) for i in range(6)])
    whole = bytearray(path.read_bytes())
    pieces = [item for item in scan(path) if isinstance(item, Whole)]
    whole[pieces[2].offset : pieces[2].end] = pieces[4].data
    path.write_bytes(whole)
    stream = account(tmp_path).streams[0]
    assert [number for item in stream.damaged for number in item.numbers] == [2]
    assert stream.missing == [Span(1, 10, 20)]


def test_rows_that_vanish_without_a_gap_are_missing(tmp_path: Path) -> None:
    segment(tmp_path, [chunk(0, 80), chunk(90, 10)])
    found = account(tmp_path)
    assert found.streams[0].missing == [Span(1, 80, 90)]
    assert not found.is_clean


def test_overlaps_are_duplicates_if_equal_and_conflicts_if_not(tmp_path: Path) -> None:
    segment(tmp_path, [chunk(0, 80)])
    segment(tmp_path, [chunk(60, 20)], ordinal=2, seed=6)
    assert account(tmp_path).streams[0].duplicates == 20
    segment(tmp_path / "b", [chunk(0, 80)])
    wrong = replace(chunk(0, 20), seq=60)
    segment(tmp_path / "b", [wrong], ordinal=2, seed=6)
    assert account(tmp_path / "b").streams[0].conflicts == [Span(1, 60, 80)]


def test_a_crashed_recording_counts_the_rows_of_its_journal(tmp_path: Path) -> None:
    box = Box(tmp_path, UnsyncedDisk())
    box.start()
    box.run(26)
    found = verify_recording(tmp_path / "rec-1", decode=decode, disk=DISK)
    assert not found.is_closed
    for number, info in ((1, EEG), (2, ACC)):
        stream = next(item for item in found.streams if item.stream_id == info.stream_id)
        assert stream.rows == box.archived[number]
        assert stream.rows + stream.in_journal == box.acquired[number]
    assert [item.journals for item in list_recordings(tmp_path, DISK)] == [("dev",)]
    repair_recording(tmp_path / "rec-1", encode=encode, disk=DISK, random=seeded())
    check(tmp_path, box.acquired)
    assert all(stream.is_clean for stream in account(tmp_path).streams)
    assert len(stored(tmp_path, EEG)) == box.acquired[1]


class _Watched(UnsyncedDisk):
    """Before its n-th call of `open` something else happens on the disk."""

    def __init__(self, n: int, happens: Callable[[], None]) -> None:
        super().__init__()
        self.n = n
        self._happens = happens

    def open(self, path: Path, mode: Mode) -> int:
        self.n -= 1
        if self.n == 0:
            self._happens()
        return super().open(path, mode)


def test_rows_that_are_archived_while_a_recording_is_verified_are_counted_once(
    tmp_path: Path,
) -> None:
    """Whenever it happens between the calls that read the journal and those that read segments."""
    for n in range(1, 30):
        box = Box(tmp_path / str(n), UnsyncedDisk())
        box.start()
        box.run(26)
        for _ in range(12):
            box.acquired[1] += 23
            box.acquired[2] += 5
            box.record()
        box.sync()

        def archives(box: Box = box) -> None:
            for _ in range(3):
                box.archive()

        before = dict(box.archived)
        watched = _Watched(n, archives)
        found = verify_recording(box.folder, decode=decode, disk=watched)
        for number, info in ((1, EEG), (2, ACC)):
            stream = next(item for item in found.streams if item.stream_id == info.stream_id)
            assert stream.rows + stream.in_journal == box.acquired[number], (n, stream)
            assert stream.is_clean, (n, stream)
        if watched.n > 0:  # it opens fewer files than that
            assert n > 6
            return
        assert box.archived[1] > before[1]
    pytest.fail("it never came to an end")


def test_the_reserved_length_is_read_without_the_rest_of_a_descriptor(tmp_path: Path) -> None:
    whole = next(iter_chunks(segment(tmp_path, [chunk(0, 3)]))).chunk()
    assert reserved_bytes(whole.body) == read_descriptor(whole.body).size > 0
    for other in (b"", b"\xa0", b"\xa1dsize", b"\xa1dsizeax", b"\xff", whole.body[:8]):
        assert reserved_bytes(other) is None
