"""Recovery: acknowledged rows survive a death at any disk operation, once, and so does recovery itself."""

import contextlib
import errno
import shutil
from pathlib import Path

import pytest

from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.stream import chunk_samples
from brainforge_edge.recorder.catalog import RecordingFile, write_recording_file
from brainforge_edge.recorder.chunk import ChunkFlag
from brainforge_edge.recorder.journalfile import read_journal
from brainforge_edge.recorder.reader import iter_chunks
from brainforge_edge.recorder.recover import RecoveryReport, recover_device
from brainforge_edge.recorder.segment import segment_files
from brainforge_edge.recorder.verify import verify_recording
from brainforge_edge.storage.files import Disk
from tests.unit.recorder_box import SEGMENT_BYTES, STREAMS, Box, check, decode, encode, stored
from tests.unit.recorder_faulty_disk import FaultyDisk, Killed, UnsyncedDisk
from tests.unit.recorder_material import seeded

STEPS = 30


def recover(recordings: Path, disk: Disk | None = None) -> RecoveryReport:
    return recover_device(
        recordings,
        "dev",
        encode=encode,
        disk=disk or UnsyncedDisk(),
        random=seeded(99),
        segment_bytes=SEGMENT_BYTES,
    )


def recorded(recordings: Path, steps: int = STEPS) -> Box:
    box = Box(recordings, UnsyncedDisk())
    box.start()
    box.run(steps)
    return box


def whole_life(box: Box) -> None:
    box.start()
    box.run(STEPS)
    box.stop()


def operations(tmp_path: Path, watched: set[str]) -> int:
    disk = FaultyDisk(watched=watched)
    (tmp_path / "count").mkdir()
    whole_life(Box(tmp_path / "count", disk))
    assert disk.count > 30
    return disk.count


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_recording_that_was_stopped_needs_no_recovery(tmp_path: Path) -> None:
    box = recorded(tmp_path)
    box.stop()
    assert not (tmp_path / "rec-1" / "dev.journal").exists()
    before = tree(tmp_path)
    assert recover(tmp_path) == RecoveryReport()
    assert tree(tmp_path) == before
    check(tmp_path, box.acquired)


def test_leftovers_become_chunks_on_the_grid_and_the_journal_goes(tmp_path: Path) -> None:
    box = recorded(tmp_path)
    report = recover(tmp_path)
    assert report.recordings == ["rec-1"]
    assert report.rows == {
        info.stream_id: box.acquired[number] - box.archived[number]
        for number, info in STREAMS.items()
    }
    assert report.cut
    assert not (tmp_path / "rec-1" / "dev.journal").exists()
    check(tmp_path, box.acquired)
    for info in STREAMS.values():
        for path in segment_files(tmp_path / "rec-1" / info.stream_id, UnsyncedDisk()):
            wholes = list(iter_chunks(path))
            assert wholes[-1].end == path.stat().st_size
            for whole in wholes[1:]:
                step = chunk_samples(info)
                assert whole.head.seq // step == (whole.head.end - 1) // step
                assert bool(whole.head.flags & ChunkFlag.RECOVERED) == (path in report.written)


def test_a_second_recovery_changes_nothing(tmp_path: Path) -> None:
    recorded(tmp_path)
    recover(tmp_path)
    before = tree(tmp_path)
    assert recover(tmp_path) == RecoveryReport()
    assert tree(tmp_path) == before


def spoil(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


def test_a_journal_with_one_damaged_header_is_read_with_the_other_s_description(
    tmp_path: Path,
) -> None:
    box = recorded(tmp_path, 40)
    files = sorted((tmp_path / "rec-1" / "dev.journal").iterdir())
    for path in files[:1]:
        spoil(path, 100)
    report = recover(tmp_path)
    assert report.damaged_headers == files[:1]
    check(tmp_path, box.acquired)


@pytest.mark.parametrize("at", [0, 20, 8192 - 10])
@pytest.mark.parametrize("size", [1, 512, 4096])
def test_a_header_that_lost_one_of_its_file_ids_costs_no_entry(
    tmp_path: Path, at: int, size: int
) -> None:
    box = recorded(tmp_path, 40)
    path = min((tmp_path / "rec-1" / "dev.journal").iterdir())
    data = bytearray(path.read_bytes())
    at -= at % size
    data[at : at + size] = bytes(value ^ 0xFF for value in data[at : at + size])
    path.write_bytes(data)
    assert recover(tmp_path).damaged_headers == [path]
    check(tmp_path, box.acquired)


@pytest.mark.parametrize("zeros", [(0, 4096), (0, 8192), (4096, 8192)])
def test_a_lap_whose_beginning_the_power_cut_off_is_no_damage(
    tmp_path: Path, zeros: tuple[int, int]
) -> None:
    """Nothing in it was durable, whatever of it reached the disk: half an entry here."""
    box = recorded(tmp_path, 40)
    folder = tmp_path / "rec-1" / "dev.journal"
    begun = folder / "0009.jrn"
    data = bytearray(min(folder.iterdir()).read_bytes())
    data[zeros[0] : zeros[1]] = bytes(zeros[1] - zeros[0])
    data[100] ^= 1  # its id is that of no other file
    data[8192:] = data[8192 : 8192 + 40].ljust(len(data) - 8192, b"\0")
    begun.write_bytes(data)
    report = recover(tmp_path)
    assert report.damaged_headers == [begun]
    assert not report.kept
    assert not folder.exists()
    check(tmp_path, box.acquired)


def test_a_file_of_which_no_entry_can_be_trusted_is_set_aside_and_not_removed(
    tmp_path: Path,
) -> None:
    recorded(tmp_path, 40)
    path = min((tmp_path / "rec-1" / "dev.journal").iterdir())
    spoil(path, 20)
    spoil(path, 8192 - 10)
    report = recover(tmp_path)
    assert [kept.name for kept in report.kept] == [f"damaged-dev-{path.name}"]
    assert report.kept[0].exists()


def test_damage_between_entries_is_named_with_file_and_offset(tmp_path: Path) -> None:
    recorded(tmp_path, 3)
    write_recording_file(tmp_path, RecordingFile("rec-1", None, "node-1"), UnsyncedDisk())
    path = tmp_path / "rec-1" / "dev.journal" / "0001.jrn"
    first, second = list(read_journal(path, UnsyncedDisk()))[:2]
    at = 8192 + first.total_bytes
    spoil(path, at + 40)
    found = verify_recording(tmp_path / "rec-1", decode=decode, disk=UnsyncedDisk())
    where = f"bytes {at} to {at + second.total_bytes}"
    assert any(f"{path}: no whole entry in {where}" in problem for problem in found.problems)
    assert recover(tmp_path).holes == [(path, at, at + second.total_bytes)]


def test_a_journal_that_nothing_can_read_is_set_aside_and_named(tmp_path: Path) -> None:
    recorded(tmp_path, 3)
    write_recording_file(tmp_path, RecordingFile("rec-1", None, "node-1"), UnsyncedDisk())
    for path in (tmp_path / "rec-1" / "dev.journal").iterdir():
        spoil(path, 100)
    report = recover(tmp_path)
    assert [path.name for path in report.kept] == ["damaged-dev-0001.jrn"]
    assert not (tmp_path / "rec-1" / "dev.journal").exists()
    found = verify_recording(tmp_path / "rec-1", decode=decode, disk=UnsyncedDisk())
    assert any("damaged-dev-0001.jrn" in problem for problem in found.problems)


def test_a_row_that_the_journal_lost_is_a_gap_that_says_so(tmp_path: Path) -> None:
    recorded(tmp_path, 3)
    path = tmp_path / "rec-1" / "dev.journal" / "0001.jrn"
    second = list(read_journal(path, UnsyncedDisk()))[1]
    at = path.read_bytes().index(bytes(second.payload))
    spoil(path, at + 3)
    recover(tmp_path)
    found = verify_recording(tmp_path / "rec-1", decode=decode, disk=UnsyncedDisk())
    (stream,) = (item for item in found.streams if item.gaps)
    assert [(named.seq, named.gap.n, named.gap.cause) for named in stream.gaps] == [
        (second.end, second.n_samples, "box")
    ]
    assert not stream.missing


@pytest.mark.parametrize("fault", ["kill", "kill_torn"])
def test_a_death_at_any_disk_operation_of_the_recorder_loses_nothing(
    tmp_path: Path, fault: str
) -> None:
    watched = {"pwrite", "fdatasync", "fsync", "ftruncate", "unlink", "fallocate", "mkdir"}
    for at in range(operations(tmp_path, watched)):
        root = tmp_path / str(at)
        root.mkdir()
        box = Box(root, FaultyDisk(watched=watched, at=at, fault=fault))
        with pytest.raises(Killed):
            whole_life(box)
        recover(root)
        check(root, box.acknowledged)
        shutil.rmtree(root)


@pytest.mark.parametrize("fault", ["kill", "kill_torn"])
def test_a_death_at_any_disk_operation_of_recovery_is_made_good_by_the_next(
    tmp_path: Path, fault: str
) -> None:
    recorded(tmp_path / "source")
    counting = FaultyDisk()
    shutil.copytree(tmp_path / "source", tmp_path / "counted")
    recover(tmp_path / "counted", counting)
    box = Box(tmp_path, UnsyncedDisk())
    box.acquired = {1: STEPS * 23, 2: STEPS // 2 * 7}
    expected = {
        info.stream_id: sorted(stored(tmp_path / "counted", info)) for info in STREAMS.values()
    }
    assert counting.count > 20
    for at in range(counting.count):
        root = tmp_path / str(at)
        shutil.copytree(tmp_path / "source", root)
        with pytest.raises(Killed):
            recover(root, FaultyDisk(at=at, fault=fault))
        with contextlib.suppress(Killed):  # and once more, at another operation
            recover(root, FaultyDisk(at=at // 2, fault=fault))
        recover(root)
        check(root, box.acquired)
        for info in STREAMS.values():
            assert sorted(stored(root, info)) == expected[info.stream_id]
        assert not (root / "rec-1" / "dev.journal").exists()
        shutil.rmtree(root)


@pytest.mark.parametrize("fault", [errno.EIO, errno.ENOSPC, errno.EINTR, "short"])
def test_an_error_at_any_write_loses_nothing_and_the_recording_goes_on(
    tmp_path: Path, fault: int | str
) -> None:
    for at in range(operations(tmp_path, {"pwrite"})):
        _record_with_fault(tmp_path / str(at), {"pwrite"}, at, fault)


@pytest.mark.parametrize("fault", [errno.EIO, errno.ENOSPC, errno.EINTR])
def test_an_error_at_any_sync_loses_nothing_and_the_recording_goes_on(
    tmp_path: Path, fault: int
) -> None:
    for at in range(operations(tmp_path, {"fdatasync"})):
        _record_with_fault(tmp_path / str(at), {"fdatasync"}, at, fault)


def _record_with_fault(root: Path, watched: set[str], at: int, fault: int | str) -> None:
    root.mkdir()
    is_interrupt = fault in (errno.EINTR, "short")
    disk = FaultyDisk(watched=watched, at=at, fault=fault, is_sticky=not is_interrupt)
    box = Box(root, disk)
    try:
        box.start()
    except StorageError:
        assert not is_interrupt
        assert box.acknowledged == {1: 0, 2: 0}
        return
    box.run(STEPS)
    assert not (is_interrupt and box.errors)
    box.run(6)
    assert box.acknowledged[1] > (STEPS + 3) * 23, "the recording did not go on"
    crashed = root.with_name(root.name + "-crashed")
    shutil.copytree(root, crashed)
    recover(crashed)
    check(crashed, box.acknowledged)
    try:
        box.stop()
    except StorageError:
        recover(root)
    check(root, box.acquired)
    shutil.rmtree(root)
    shutil.rmtree(crashed)
