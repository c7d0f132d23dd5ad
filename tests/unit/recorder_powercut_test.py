"""Power cuts: what was acknowledged is on the platter, whatever else is not; and the test would see if it were not."""

import contextlib
import shutil
from pathlib import Path

import pytest

from brainforge_edge.recorder.recover import recover_device
from brainforge_edge.storage.files import Disk
from tests.unit.recorder_box import SEGMENT_BYTES, Box, check, encode
from tests.unit.recorder_faulty_disk import Killed, UnsyncedDisk
from tests.unit.recorder_material import seeded
from tests.unit.recorder_powercut_disk import PowerCutDisk

STEPS = 26


def life(root: Path, disk: PowerCutDisk) -> Box:
    box = Box(root, disk)
    with contextlib.suppress(Killed):
        box.start()
        box.run(STEPS)
        box.stop()
    return box


def recover(root: Path, disk: Disk) -> None:
    recover_device(
        root, "dev", encode=encode, disk=disk, random=seeded(9), segment_bytes=SEGMENT_BYTES
    )


def cut(tmp_path: Path, at: int, mutant: str = "") -> None:
    root, after = tmp_path / "r", tmp_path / "after"
    root.mkdir()
    try:
        disk = PowerCutDisk(root, at=at, mutant=mutant, seed=at)
        box = life(root, disk)
        disk.platter(after)
        recover(after, UnsyncedDisk())
        check(after, box.acknowledged)
    finally:
        shutil.rmtree(root)
        shutil.rmtree(after, ignore_errors=True)


def calls(tmp_path: Path) -> int:
    root = tmp_path / "count"
    root.mkdir()
    disk = PowerCutDisk(root)
    life(root, disk)
    return disk.count


def test_a_power_cut_at_any_moment_loses_no_acknowledged_row(tmp_path: Path) -> None:
    n = calls(tmp_path)
    assert n > 60
    for at in range(n + 1):
        cut(tmp_path, at)


def test_pages_that_a_failed_sync_dropped_are_written_again_elsewhere(tmp_path: Path) -> None:
    count = PowerCutDisk(tmp_path / "count")
    count.root.mkdir()
    counted = Box(count.root, count)
    counted.start()
    counted.run(STEPS)
    for bad_sync in range(3, count.syncs):
        root, after = tmp_path / f"r{bad_sync}", tmp_path / f"after{bad_sync}"
        root.mkdir()
        disk = PowerCutDisk(root, bad_sync=bad_sync, seed=bad_sync)
        box = Box(root, disk)
        box.start()
        box.run(STEPS + bad_sync % 5)
        assert box.errors
        disk.platter(after)
        recover(after, UnsyncedDisk())
        check(after, box.acknowledged)
        assert box.acknowledged[1] > (STEPS - 4) * 23
        shutil.rmtree(root)
        shutil.rmtree(after)


def test_a_power_cut_in_recovery_is_made_good_by_the_next(tmp_path: Path) -> None:
    root, before = tmp_path / "r", tmp_path / "before"
    root.mkdir()
    disk = PowerCutDisk(root, at=calls(tmp_path) * 2 // 3, seed=4)
    box = life(root, disk)
    disk.platter(before)
    at = 0
    while True:
        again, after = tmp_path / "again", tmp_path / "after"
        again.mkdir()
        second = PowerCutDisk(again, seed=at)
        _lay_out(before, second)
        second.at, second.count = at, 0
        with contextlib.suppress(Killed):
            recover(again, second)
        second.platter(after)
        recover(after, UnsyncedDisk())
        check(after, box.acknowledged)
        shutil.rmtree(again)
        shutil.rmtree(after)
        if not second.is_dead:
            break
        at += 1
    assert at > 10


def _lay_out(source: Path, disk: PowerCutDisk) -> None:
    for path in sorted(source.rglob("*")):
        target = disk.root / path.relative_to(source)
        if path.is_dir():
            disk.make_folder(target)
        else:
            disk.atomic_write(target, path.read_bytes())


@pytest.mark.parametrize("mutant", ["no_sync", "no_folder_sync"])
def test_the_harness_finds_the_loss_when_a_sync_is_left_out(tmp_path: Path, mutant: str) -> None:
    found = 0
    for at in range(20, calls(tmp_path), 7):
        try:
            cut(tmp_path, at, mutant)
        except AssertionError:
            found += 1
    assert found > 1
