"""Which segments may be sent, and what survives a restart of the uplink."""

import os
from collections.abc import Callable
from pathlib import Path

from brainforge_edge.core.wire import Range, StreamInventory
from brainforge_edge.kernels.crc import crc32c
from brainforge_edge.recorder.reader import iter_heads
from brainforge_edge.storage.files import SystemDisk
from brainforge_edge.uplink.cursor import CursorStore
from brainforge_edge.uplink.index import LogIndex
from brainforge_edge.uplink.lanes import Lanes
from tests.broker.rig import CHUNK_ROWS, BoxLog, stream

MAG = stream("opm-mag")


def opened(root: Path) -> tuple[LogIndex, CursorStore]:
    cursors = CursorStore(root / "uplink.sqlite")
    return LogIndex(root / "recordings", cursors, SystemDisk()), cursors


def looked_through(index: LogIndex) -> int:
    index.scan()
    while index.check_one():
        pass
    return index.lag()[0]


def receipt_all(index: LogIndex) -> None:
    for track in list(index.order):
        at = track.cursor
        while at < track.limit:
            found = index.look_at(track, at)
            index.done(track, found)
            at = found.end
    index.save()


def test_an_open_segment_waits_for_its_announcement(tmp_path: Path) -> None:
    log = BoxLog(tmp_path)
    announced = [log.append(MAG, i * CHUNK_ROWS) for i in range(3)]
    index, cursors = opened(tmp_path)
    assert looked_through(index) == 0
    assert len(index.announce(announced[1])) == 3  # a descriptor and two chunks
    assert index.announce(announced[0]) == []  # old news
    assert len(index.announce(announced[2])) == 1
    assert index.lag()[0] == 4
    log.close()
    cursors.close()


def test_a_closed_segment_needs_no_announcement(tmp_path: Path) -> None:
    log = BoxLog(tmp_path)
    log.fill(MAG, 3)
    log.close()
    index, cursors = opened(tmp_path)
    assert looked_through(index) == 4
    expected = StreamInventory("opm-mag", 0, (Range(0, 0, 3 * CHUNK_ROWS),))
    (inventory,) = index.inventory()
    assert (inventory.stream_id, inventory.ranges) == (expected.stream_id, expected.ranges)
    cursors.close()


def test_a_torn_tail_waits_for_recovery(tmp_path: Path) -> None:
    log = BoxLog(tmp_path)
    log.fill(MAG, 3)
    log.close()
    path = tmp_path / "recordings" / "r1" / "opm-mag" / "0001.seg"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    index, cursors = opened(tmp_path)
    assert looked_through(index) == 0
    path.write_bytes(whole)
    assert looked_through(index) == 4
    cursors.close()


def test_what_was_receipted_is_not_looked_at_again(tmp_path: Path) -> None:
    log = BoxLog(tmp_path)
    log.fill(MAG, 3)
    log.close()
    index, cursors = opened(tmp_path)
    looked_through(index)
    receipt_all(index)
    assert index.tracks == {}
    cursors.close()
    index, cursors = opened(tmp_path)
    assert looked_through(index) == 0
    assert index.tracks == {}
    assert index.inventory()[0].ranges == (Range(0, 0, 3 * CHUNK_ROWS),)
    cursors.close()


def test_a_segment_that_is_closed_after_its_last_receipt_leaves_memory_too(tmp_path: Path) -> None:
    log = BoxLog(tmp_path)
    (announced,) = log.fill(MAG, 1)
    index, cursors = opened(tmp_path)
    index.announce(announced)
    receipt_all(index)
    (ref, track), *_ = index.tracks.items()
    size = track.cursor
    assert index.delivered(ref, track.segment_id, size) is None
    log.close()
    index.scan()
    index.save()
    assert index.tracks == {}
    assert index.delivered(ref, track.segment_id, size) is not None
    assert index.delivered(ref, track.segment_id, size + 1) is None
    assert index.delivered(ref, bytes(16), size) is None
    cursors.close()


def test_cursors_move_back_where_the_aggregator_has_less(tmp_path: Path) -> None:
    log = BoxLog(tmp_path)
    log.fill(MAG, 3)
    log.close()
    index, cursors = opened(tmp_path)
    looked_through(index)
    segment_id = index.order[0].segment_id
    receipt_all(index)
    index.others = {(segment_id, 0)}
    index.learn(0, "opm-mag", (Range(0, 0, 3 * CHUNK_ROWS),))
    assert index.compare() == 0
    index.stored.clear()
    index.learn(0, "opm-mag", (Range(0, 0, 2 * CHUNK_ROWS),))
    assert index.compare() == 1
    while index.check_one():
        pass
    assert index.lag()[0] == 4
    cursors.close()


def test_what_was_receipted_beyond_a_cursor_moves_back_after_a_restart_too(tmp_path: Path) -> None:
    """The cursor stands before its first chunk; those behind have been receipted."""
    log = BoxLog(tmp_path)
    log.fill(MAG, 3)
    log.close()
    index, cursors = opened(tmp_path)
    looked_through(index)
    (track,) = index.order
    first = index.look_at(track, 0)
    index.done(track, index.look_at(track, first.end))
    index.save()
    cursors.close()
    index, cursors = opened(tmp_path)
    looked_through(index)
    (track,) = index.order
    assert (track.cursor, list(track.receipted[0])) == (0, [(0, CHUNK_ROWS)])
    assert index.compare() == 1  # nothing of it is stored any more
    assert track.receipted == {}
    cursors.close()


def test_a_segment_that_was_deleted_is_forgotten(tmp_path: Path) -> None:
    log = BoxLog(tmp_path)
    log.fill(MAG, 3)
    log.close()
    index, cursors = opened(tmp_path)
    looked_through(index)
    receipt_all(index)
    (tmp_path / "recordings" / "r1" / "opm-mag" / "0001.seg").unlink()
    assert looked_through(index) == 0
    assert cursors.segments() == []
    cursors.close()


def _damaged(root: Path, change: Callable[[bytearray, list[int]], None]) -> list[tuple[int, int]]:
    """A closed segment of eight chunks, changed; what would be sent of it as (offset, chunk number)."""
    log = BoxLog(root)
    log.fill(MAG, 8)
    log.close()
    (path,) = (root / "recordings").glob("*/*/*.seg")
    data = bytearray(path.read_bytes())
    change(data, [located.offset for located in iter_heads(path)])
    path.write_bytes(data)
    os.utime(path, (1e9, 1e9))  # long past any recovery
    index, cursors = opened(root)
    looked_through(index)
    lanes = Lanes(index, lambda _: False)
    sent = []
    while (item := lanes.next_backfill()) is not None:
        assert item.found.head is not None
        sent.append((item.found.offset, item.found.head.number))
    cursors.close()
    return sent


def test_a_zeroed_header_hides_no_chunk_behind_it(tmp_path: Path) -> None:
    def change(data: bytearray, at: list[int]) -> None:
        data[at[3] : at[3] + 512] = bytes(512)

    assert [number for _, number in _damaged(tmp_path, change)] == [0, 1, 2, 4, 5, 6, 7, 8]


def test_zeros_at_the_end_of_a_segment_that_was_cut_keep_nothing_back(tmp_path: Path) -> None:
    def change(data: bytearray, at: list[int]) -> None:
        data[at[8] :] = bytes(len(data) - at[8])

    assert [number for _, number in _damaged(tmp_path, change)] == [0, 1, 2, 3, 4, 5, 6, 7]


def test_a_header_in_the_wrong_place_hides_no_chunk(tmp_path: Path) -> None:
    """Of chunk 2, with a length that is right for it, in the middle of chunk 6, and one that lies in chunk 1."""

    def change(data: bytearray, at: list[int]) -> None:
        head = bytes(data[at[2] : at[2] + 124])
        data[at[6] : at[6] + 128] = head + crc32c(head).to_bytes(4, "little")
        long = bytearray(data[at[1] : at[1] + 124])
        long[108:112] = (3 * (at[2] - at[1])).to_bytes(4, "little")
        data[at[1] : at[1] + 128] = bytes(long) + crc32c(long).to_bytes(4, "little")

    assert [number for _, number in _damaged(tmp_path, change)] == [0, 2, 3, 4, 5, 7, 8]


def test_a_chunk_inside_a_damaged_one_is_sent(tmp_path: Path) -> None:
    """Sectors that were swapped may carry a small one whole into the body of another."""
    places = []

    def change(data: bytearray, at: list[int]) -> None:
        whole = bytes(data[at[7] : at[8]])
        inside = at[4] + (len(data) - at[8]) // 2
        data[at[7] : at[7] + 200] = bytes(200)
        data[inside : inside + len(whole)] = whole
        places.append(inside)

    sent = _damaged(tmp_path, change)
    assert (places[0], 7) in sent
    assert {number for _, number in sent} >= {0, 1, 2, 3, 7, 8}


def test_a_segment_that_was_freed_is_forgotten_and_nothing_else_moves(tmp_path: Path) -> None:
    log = BoxLog(tmp_path)
    log.fill(MAG, 3)
    log.close()
    index, cursors = opened(tmp_path)
    looked_through(index)
    segment_id = index.order[0].segment_id
    receipt_all(index)
    (tmp_path / "recordings" / "r1" / "opm-mag" / "0001.seg").unlink()
    index.scan()
    assert cursors.segments() == []
    index.others = {(segment_id, 0)}
    index.learn(0, "opm-mag", (Range(0, 0, 3 * CHUNK_ROWS),))
    assert index.compare() == 0
    assert index.lag() == (0, 0, 0)
    cursors.close()
    index, cursors = opened(tmp_path)
    assert looked_through(index) == 0
    assert index.inventory() == ()  # the hello lists what is here; the aggregator keeps what it has
    cursors.close()
