"""Between append and sync of a segment: no acknowledged row is lost there, none is stored twice."""

import contextlib
import errno
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from brainforge_edge.acquisition.streamarchive import SYNC_S
from brainforge_edge.recorder.reader import iter_heads
from brainforge_edge.storage.files import Disk
from tests.unit.archive_box import (
    CHUNK_BYTES,
    FAST,
    ArchiveBox,
    account,
    check_announced,
    check_stored,
    recover,
    repair,
)
from tests.unit.recorder_faulty_disk import FaultyDisk, Killed, UnsyncedDisk
from tests.unit.recorder_powercut_disk import PowerCutDisk

SECONDS = 42  # three files, syncs by time and by rotation, the journal's files used again
OPENING_SYNCS = 2  # of the journal's zeros: if they fail no recording begins
SYNC_CHUNKS = round(SYNC_S)


@contextlib.contextmanager
def opened(tmp_path: Path, disk: Disk, **options: float) -> Iterator[ArchiveBox]:
    box = ArchiveBox(tmp_path / "r", tmp_path / "rings", disk, **options)  # type: ignore[arg-type]
    try:
        yield box
    finally:
        box.close()
        shutil.rmtree(box.ring_folder)


def life(box: ArchiveBox, seconds: int = SECONDS) -> None:
    with contextlib.suppress(Killed):
        box.start()
        box.seconds(seconds)
        box.finish()


def made(tmp_path: Path) -> Path:
    root = tmp_path / "r"
    root.mkdir()
    return root


def check_after_a_cut(
    tmp_path: Path, disk: PowerCutDisk, box: ArchiveBox, put_right: Callable[[Path], None] = recover
) -> None:
    after = tmp_path / "after"
    try:
        disk.platter(after)
        check_announced(after, box.announced)
        put_right(after)
        if box.stream.ring.durable:
            check_stored(after, box.stream.ring.durable, box.stream.ring.head)
    finally:
        shutil.rmtree(after)
        shutil.rmtree(disk.root)


def test_a_power_cut_at_any_moment_between_append_and_sync_loses_and_doubles_nothing(
    tmp_path: Path,
) -> None:
    at = 0
    while True:
        disk = PowerCutDisk(made(tmp_path), at=at, seed=at)
        with opened(tmp_path, disk) as box:
            life(box)
            check_after_a_cut(tmp_path, disk, box)
        if not disk.is_dead:
            break
        at += 1
    assert at > 100


class ForgetsSegments(PowerCutDisk):
    """The mutant: segments are announced and the journal is released as if they had been synced."""

    def syscall(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        if name == "fdatasync" and self.files[args[0]][0].suffix == ".seg":
            return None
        return super().syscall(name, function, *args)


def test_the_harness_finds_the_loss_when_segments_are_not_synced(tmp_path: Path) -> None:
    found = 0
    for at in range(60, 100, 4):
        disk = ForgetsSegments(made(tmp_path), at=at, seed=at)
        with opened(tmp_path, disk) as box:
            life(box)
            try:
                check_after_a_cut(tmp_path, disk, box)
            except AssertionError:
                found += 1
    assert found > 5


@pytest.mark.parametrize("ring_s", [64.0, 4.0])
def test_rows_of_a_sync_that_failed_are_archived_again_elsewhere(
    tmp_path: Path, ring_s: float
) -> None:
    """From the ring, and, where newer rows have taken their place in it, from the journal."""
    bad_sync = OPENING_SYNCS
    while True:
        disk = PowerCutDisk(made(tmp_path), bad_sync=bad_sync, seed=bad_sync)
        with opened(tmp_path, disk, ring_s=ring_s) as box:
            life(box)
            assert box.recording.finished.is_set()
            assert box.stream.ring.durable == box.stream.ring.head == SECONDS * 1000
            # If it was the sync of a file that was cut, its length is what the power cut takes back.
            check_after_a_cut(tmp_path, disk, box, repair)
        if disk.syncs <= bad_sync:
            break
        bad_sync += 1
    assert bad_sync > 30


def test_a_sync_that_fails_announces_nothing_of_what_it_was_for(tmp_path: Path) -> None:
    disk = FaultyDisk(watched=set())
    made(tmp_path)
    with opened(tmp_path, disk) as box:
        box.start()
        box.seconds(SYNC_CHUNKS - 1)
        assert not box.heard
        disk.watched, disk.at, disk.fault = {"fdatasync"}, 1, errno.EIO  # 0 is the journal's
        box.seconds(1)
        first = tmp_path / "r" / "rec-1" / FAST.stream_id / "0001.seg"
        assert first.stat().st_size < CHUNK_BYTES  # its descriptor alone
        assert box.heard[0] == ("0001.seg", first.stat().st_size)
        box.seconds(1)
        assert box.announced["0002.seg"] > SYNC_CHUNKS * 1900
        box.finish()
        rows = (SYNC_CHUNKS + 1) * 1000
        check_stored(tmp_path / "r", rows, rows)
        assert not (tmp_path / "r" / "rec-1" / "dev.journal").exists()


def test_chunks_are_synced_together_and_no_row_waits_longer_than_it_may(tmp_path: Path) -> None:
    made(tmp_path)
    disk = FaultyDisk(watched={"fdatasync"})
    with opened(tmp_path, disk) as box:
        box.start()
        before = disk.count
        box.seconds(SYNC_CHUNKS)
        assert disk.count - before == SYNC_CHUNKS + 2  # the journal's, the descriptor's, theirs
        assert box.archived[-2:] == [0, SYNC_CHUNKS * 1000]
        box.seconds(3 * SYNC_CHUNKS)
        lags = [1000 * (i + 1) - row for i, row in enumerate(box.archived)]
        assert max(lags) < SYNC_S * 1000
        box.finish()


def test_closing_and_rotation_sync_what_is_pending(tmp_path: Path) -> None:
    disk = PowerCutDisk(made(tmp_path))
    with opened(tmp_path, disk) as box:
        box.start()
        box.seconds(14)
        assert "0001.seg" in box.announced
        full = tmp_path / "r" / "rec-1" / FAST.stream_id / "0001.seg"
        assert box.announced["0001.seg"] == full.stat().st_size  # cut, so nothing was left out
        assert box.part.archived < 14_000
        box.finish()
        assert box.part.archived == 14_000
        disk.platter(tmp_path / "after")
        check_stored(tmp_path / "after", 14_000, 14_000)
        assert not (tmp_path / "after" / "rec-1" / "dev.journal").exists()


def test_a_journal_that_is_nearly_used_up_hurries_the_sync(tmp_path: Path) -> None:
    made(tmp_path)
    with opened(tmp_path, UnsyncedDisk(), journal_bytes=5000) as box:  # 2 s a file
        box.start()
        box.seconds(12)
        assert box.part.archived >= 10_000
        names = [path.name for path in (tmp_path / "r" / "rec-1" / "dev.journal").iterdir()]
        assert len(names) <= 2  # and so the record thread never had to make a file
        box.finish()


def test_damage_before_chunks_that_no_journal_holds_stays_and_is_named(tmp_path: Path) -> None:
    """It is no power cut's doing: what lies behind it is not cut off."""
    made(tmp_path)
    with opened(tmp_path, UnsyncedDisk(), journal_bytes=5000) as box:
        box.start()
        box.seconds(9)
        path = tmp_path / "r" / "rec-1" / FAST.stream_id / "0001.seg"
        first = [located.offset for located in iter_heads(path)][1]
        damaged = bytearray(path.read_bytes())
        damaged[first + 200] ^= 1
        path.write_bytes(damaged)
        recover(tmp_path / "r")
        stream = account(tmp_path / "r")
        assert [item.numbers for item in stream.damaged] == [(1,)]
        assert (stream.rows, stream.duplicates) == (8000, 0)


def test_an_archive_that_lags_gives_the_journal_back_as_it_catches_up(tmp_path: Path) -> None:
    made(tmp_path)
    with opened(tmp_path, UnsyncedDisk()) as box:
        box.start()
        box.seconds(30, archives=False)
        assert not box.announced
        box.seconds(1)
        assert box.part.archived > 20_000
        box.finish()
        check_stored(tmp_path / "r", 31_000, 31_000)
