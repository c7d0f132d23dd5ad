"""What passes for a medium: only what is mounted, is not memory, and is neither the recordings' nor the system's disk."""

import tempfile
from pathlib import Path

import pytest

from brainforge_edge.core.errors import StorageError
from brainforge_edge.recorder import medium as mediums
from brainforge_edge.recorder.copies import copy_recording, release_recording
from brainforge_edge.recorder.medium import Place, check_medium, mounted_at, place_of
from tests.benchmarks.loopdisk import LoopDisk, is_possible
from tests.unit.recorder_faulty_disk import UnsyncedDisk
from tests.unit.retention_material import NOW, Stand

MOUNTS = r"""
22 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw
23 22 0:21 / /run rw,nosuid - tmpfs tmpfs rw,size=10%
24 22 8:3 / /var/lib/brainforge rw shared:2 master:1 - btrfs /dev/sda3 rw,subvol=/@data
25 23 8:17 / /run/media/nurse/BLUE\040DISK rw - vfat /dev/sdb1 rw
26 22 0:40 / /mnt/nas rw - nfs4 nas:/export rw
27 22 0:41 / /mnt/twice rw - autofs systemd-1 rw
28 22 8:33 / /mnt/twice rw - ext4 /dev/sdc1 rw
torn
"""


@pytest.mark.parametrize(
    ("path", "kind", "source"),
    [
        ("/", "ext4", "/dev/sda2"),
        ("/mnt/usb", "ext4", "/dev/sda2"),
        ("/run/media/nurse/other", "tmpfs", "tmpfs"),
        ("/run/media/nurse/BLUE DISK/night", "vfat", "/dev/sdb1"),
        ("/runs", "ext4", "/dev/sda2"),
        ("/mnt/nas/a", "nfs4", "nas:/export"),
        ("/mnt/twice/a", "ext4", "/dev/sdc1"),
    ],
)
def test_the_mount_that_a_path_is_on(path: str, kind: str, source: str) -> None:
    assert mounted_at(Path(path), MOUNTS) == (kind, source)


def test_without_any_mount_nothing_is_known() -> None:
    assert mounted_at(Path("/a"), "") == ("", "")


DATA = Place(1, "ext4", "/dev/sda3")
SYSTEM = Place(2, "ext4", "/dev/sda2")


def refusal(tmp_path: Path, there: Place, system: Place = SYSTEM) -> tuple[str, str]:
    places = {tmp_path / "usb": there, tmp_path / "rec-1": DATA, Path("/"): system}
    (tmp_path / "usb").mkdir(exist_ok=True)
    with pytest.raises(StorageError) as refused:
        check_medium(tmp_path / "rec-1", tmp_path / "usb", places.__getitem__)
    return refused.value.code, refused.value.why


@pytest.mark.parametrize("kind", ["tmpfs", "ramfs", "devtmpfs", "overlay", "rootfs"])
def test_memory_and_overlays_are_no_medium(tmp_path: Path, kind: str) -> None:
    code, why = refusal(tmp_path, Place(3, kind, kind))
    assert code == "storage.no_medium"
    assert kind in why


def test_a_medium_that_is_not_mounted_is_the_systems_disk(tmp_path: Path) -> None:
    code, why = refusal(tmp_path, SYSTEM)
    assert code == "storage.no_medium"
    assert "disk of the system" in why


def test_another_subvolume_of_the_same_disk_is_the_same_disk(tmp_path: Path) -> None:
    code, _ = refusal(tmp_path, Place(7, "btrfs", "/dev/sda3"))
    assert code == "storage.same_disk"
    code, _ = refusal(tmp_path, Place(7, "btrfs", "/dev/sda2"))
    assert code == "storage.no_medium"


@pytest.mark.parametrize(
    "there", [Place(5, "vfat", "/dev/sdb1"), Place(6, "nfs4", "nas:/a"), Place(8, "fuse", "")]
)
def test_a_medium_that_is_mounted_passes(tmp_path: Path, there: Place) -> None:
    places = {tmp_path: there, Path("/rec-1"): DATA, Path("/"): SYSTEM}
    check_medium(Path("/rec-1"), tmp_path, places.__getitem__)


def test_a_file_is_no_medium(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="no such folder"):
        check_medium(tmp_path, tmp_path / "file", place_of)


def test_memory_of_this_machine_is_refused_by_the_two_steps(tmp_path: Path) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or place_of(memory).kind != "tmpfs":
        pytest.skip("no tmpfs at /dev/shm on this machine")
    stand = Stand(tmp_path)
    stand.close()
    with tempfile.TemporaryDirectory(prefix="bf-memory-", dir=memory) as folder:
        with pytest.raises(StorageError, match="tmpfs"):
            copy_recording(stand.folder, Path(folder), utc_ns=NOW, disk=UnsyncedDisk())
        assert list(Path(folder).iterdir()) == []


def test_where_the_kernel_says_nothing_nothing_is_a_medium(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mediums, "MOUNTS", tmp_path / "none")
    with pytest.raises(StorageError, match="nobody can say what it is on"):
        place_of(tmp_path)


@pytest.mark.skipif(not is_possible(), reason="mounting a medium needs root and a loop device")
def test_a_medium_that_is_mounted_takes_the_recording_and_unmounted_releases_nothing(
    tmp_path: Path,
) -> None:
    stand = Stand(tmp_path / "box")
    stand.close()
    with LoopDisk(tmp_path / "image", tmp_path / "a b", mib=16) as disk:
        copied = copy_recording(stand.folder, disk.mount, utc_ns=NOW, disk=UnsyncedDisk())
        assert (disk.mount / copied.folder).is_dir()
        assert place_of(disk.mount / copied.folder).kind == "ext4"
    with pytest.raises(StorageError) as refused:
        release_recording(
            stand.folder, tmp_path / "a b", copied.head.hex()[:8], utc_ns=NOW, disk=UnsyncedDisk()
        )
    assert refused.value.code == "storage.same_disk"
    assert len(stand.here) == 4
