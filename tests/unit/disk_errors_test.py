"""Errors of the disk at places where a second try met what the first had left."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from brainforge_edge.acquisition.streams import Streams
from brainforge_edge.core.errors import StorageError
from brainforge_edge.recorder.log import RecordingLog
from brainforge_edge.recorder.recover import recover_device
from tests.unit.archive_box import FAST, ArchiveBox, check_stored
from tests.unit.recorder_box import encode
from tests.unit.recorder_faulty_disk import FaultyDisk, UnsyncedDisk
from tests.unit.recorder_material import seeded, stream
from tests.unit.recorder_powercut_disk import PowerCutDisk


class Fails(UnsyncedDisk):
    """So many calls of a name fail, on paths that end so."""

    def __init__(self, suffix: str) -> None:
        super().__init__()
        self.errors: dict[str, int] = {}
        self._suffix = suffix

    def syscall(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        if self.errors.get(name):
            path = self._paths.get(args[0], args[0])
            if str(path).endswith(self._suffix):
                self.errors[name] -= 1
                raise OSError(errno.EIO, "Input/output error")
        return super().syscall(name, function, *args)


def test_a_ring_is_let_go_when_its_stream_gets_no_number(tmp_path: Path) -> None:
    rings = tmp_path / "rings"
    rings.mkdir()
    disk = FaultyDisk(watched={"rename"}, fault=errno.EIO)
    log = RecordingLog(tmp_path / "r", disk=disk, random=seeded())
    streams = Streams("dev", rings=rings, log=log, ring_s=8.0)
    infos = (stream("eeg"), stream("accel"))
    for at in (
        0,
        1,
    ):  # the number of the first stream, and of the second when the first has its ring
        disk.at, disk.count = at, 0
        with pytest.raises(StorageError):
            streams.adopt(infos, layout_changes=lambda: None, is_recorded=lambda: False)
    adopted = streams.adopt(infos, layout_changes=lambda: None, is_recorded=lambda: False)
    assert [each.number for each in adopted.values()] == [1, 2]
    streams.close()


def test_a_journal_that_cannot_be_removed_does_not_end_the_process(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    disk = Fails(".jrn")
    box = ArchiveBox(tmp_path / "r", tmp_path / "rings", disk)
    try:
        box.start()
        box.seconds(3)
        disk.errors = {"unlink": 100}
        box.finish()
        assert box.recording.fault is not None
        assert box.recording.fault.code == "storage.io"
    finally:
        box.close()
        disk.errors = {}
    check_stored(tmp_path / "r", 3_000, 3_000)


def test_a_fault_of_the_segments_is_shown_while_the_journal_is_well(tmp_path: Path) -> None:
    """Each write of the journal took it away: an alarm that looks once a second could miss it."""
    (tmp_path / "r").mkdir()
    disk = Fails(".seg")
    box = ArchiveBox(tmp_path / "r", tmp_path / "rings", disk)
    try:
        box.start()
        disk.errors = {"open": 1}
        box.seconds(2, archives=False)
        box.archive.step(is_last=False)
        for _ in range(3):
            box.seconds(1, archives=False)
            assert box.recording.stats()["fault"]["code"] == "storage.io"
        box.seconds(10)
        assert box.recording.fault is None
        box.finish()
    finally:
        box.close()
    check_stored(tmp_path / "r", 15_000, 15_000)


def test_a_segment_that_could_not_be_cut_is_cut_later(tmp_path: Path) -> None:
    """Else its unsynced chunks stay, and their rows are in two files."""
    (tmp_path / "r").mkdir()
    disk = Fails(".seg")
    box = ArchiveBox(tmp_path / "r", tmp_path / "rings", disk)
    try:
        box.start()
        box.seconds(7)
        disk.errors = {"fdatasync": 1, "ftruncate": 1}
        box.seconds(3)
        assert not any(disk.errors.values())
        box.finish()
    finally:
        box.close()
    assert len(list((tmp_path / "r" / "rec-1" / FAST.stream_id).glob("*.seg"))) == 2
    check_stored(tmp_path / "r", 10_000, 10_000)


def test_a_folder_whose_name_was_not_synced_is_made_again(tmp_path: Path) -> None:
    root = tmp_path / "disk"
    root.mkdir()
    for seed in range(8):
        disk = PowerCutDisk(root, seed=seed)
        whole, errors = disk.syscall, [1]

        def fails(
            name: str, function: Callable[..., Any], *args: Any,
            whole: Any = whole, errors: list[int] = errors,
        ) -> Any:  # fmt: skip
            if name == "fsync" and errors:
                errors.pop()
                raise OSError(errno.EIO, "Input/output error")
            return whole(name, function, *args)

        disk.syscall = fails  # type: ignore[method-assign]
        with pytest.raises(StorageError):
            disk.make_folder(root / "rec-1")
        disk.make_folder(root / "rec-1")
        disk.platter(tmp_path / f"after-{seed}")
        assert (tmp_path / f"after-{seed}" / "rec-1").is_dir()
        (root / "rec-1").rmdir()


class NeverSynced(PowerCutDisk):
    """While it is armed the sync of a segment fails, and so does what would cut it."""

    is_armed = False

    def syscall(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        path = self._paths.get(args[0], args[0]) if isinstance(args[0], int) else args[0]
        if self.is_armed and str(path).endswith(".seg"):
            if name == "fdatasync":
                self.bad_sync = self.syncs
            if name == "open":
                raise OSError(errno.EIO, "Input/output error")
        return super().syscall(name, function, *args)


def test_rows_that_only_the_page_cache_of_a_failed_segment_has_are_written_again(
    tmp_path: Path,
) -> None:
    """Its process dies right then: recovery reads the chunks whole, and no sync would write them."""
    root = tmp_path / "r"
    root.mkdir()
    disk = NeverSynced(root)
    box = ArchiveBox(root, tmp_path / "rings", disk)
    try:
        box.start()
        box.seconds(7)
        box.seconds(1, archives=False)
        disk.is_armed = True
        box.archive.step(is_last=False)
        disk.is_armed = False
        assert box.recording.fault is not None
        disk.bad_sync = -1
        durable = box.stream.ring.durable
        recover_device(root, "dev", encode=encode, disk=disk, random=seeded(9))
        for seed in range(5):
            disk.random.seed(seed)
            after = tmp_path / f"after-{seed}"
            disk.platter(after)
            check_stored(after, durable, 8_000)
    finally:
        box.close()
    assert durable == 8_000
