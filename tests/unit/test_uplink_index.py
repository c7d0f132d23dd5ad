"""Which segments may be sent, and what survives a restart of the uplink."""

from pathlib import Path

from brainforge_edge.core.wire import Range, StreamInventory
from brainforge_edge.storage.files import SystemDisk
from brainforge_edge.uplink.cursor import CursorStore
from brainforge_edge.uplink.index import LogIndex
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
