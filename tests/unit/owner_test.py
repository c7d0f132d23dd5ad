"""What root makes below the daemon's folders belongs to the daemon's user; what it makes elsewhere is its own."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from brainforge_edge.core.errors import StorageError
from brainforge_edge.recorder.keyfile import read_keys
from brainforge_edge.storage.audit import AUDIT_FILE, add_step
from brainforge_edge.storage.files import SystemDisk
from brainforge_edge.storage.sqlite import Database
from tests.unit import erasure_material as material
from tests.unit.recorder_faulty_disk import UnsyncedDisk

DAEMON = 65534
GROUP = 65533
needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can make files for another user"
)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder of the daemon's user, which that user can reach."""
    folder = Path(tempfile.mkdtemp(prefix="bf-owner-"))
    os.chown(folder, DAEMON, GROUP)
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def owner(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_uid, found.st_gid


def not_the_daemons(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if owner(path) != (DAEMON, GROUP)]


def give(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, DAEMON, GROUP)


def as_daemon(step: Callable[[], object]) -> int:
    """Exit status of a child of the daemon's user: 0 if the step went well."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(GROUP)
            os.setuid(DAEMON)
            step()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@needs_root
def test_all_that_a_disk_makes_belongs_to_whom_its_folder_belongs(place: Path) -> None:
    disk = UnsyncedDisk()
    disk.make_folder(place / "a" / "b")
    disk.atomic_write(place / "a" / "whole", b"1")
    disk.close(disk.open(place / "a" / "b" / "new", "new"))
    disk.write_new(place / "secret", b"1", 0o600)
    with disk.exclusive(place / ".lock"):
        pass
    Database(place / "db.sqlite").close()
    assert len(list(place.rglob("*"))) >= 7
    assert not_the_daemons(place) == []


@needs_root
def test_a_file_that_is_replaced_keeps_its_owner(place: Path, tmp_path: Path) -> None:
    disk = UnsyncedDisk()
    theirs = place / "of-root"
    theirs.write_bytes(b"1")
    disk.atomic_write(theirs, b"2")
    assert owner(theirs) == (0, 0)
    given = tmp_path / "given"  # in a folder of root's
    given.write_bytes(b"1")
    os.chown(given, DAEMON, GROUP)
    disk.atomic_write(given, b"2")
    assert owner(given) == (DAEMON, GROUP)


@needs_root
def test_what_lies_there_already_is_not_given_away(place: Path, tmp_path: Path) -> None:
    """Who owns the folder may have put a link to something of root's in the lock's place."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"1")
    (place / ".lock").symlink_to(secret)
    with SystemDisk().exclusive(place / ".lock"):
        pass
    assert owner(secret) == (0, 0)
    (place / ".other").symlink_to(tmp_path / "nothing")
    with pytest.raises(StorageError), SystemDisk().exclusive(place / ".other"):
        pass
    assert not (tmp_path / "nothing").exists()


@needs_root
def test_an_owner_that_cannot_be_set_leaves_no_file_behind(place: Path) -> None:
    class Stubborn(SystemDisk):
        def syscall(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
            if name == "fchown":
                raise PermissionError(errno.EPERM, "no")
            return super().syscall(name, function, *args)

    disk = Stubborn()
    with pytest.raises(StorageError, match="cannot set the owner of"):
        disk.atomic_write(place / "keys", b"1")
    with pytest.raises(StorageError, match="cannot set the owner of"):
        disk.make_folder(place / "folder")
    assert list(place.iterdir()) == []


@needs_root
def test_the_daemon_goes_on_after_root_erased_and_wrote_the_audit_file(
    place: Path, tmp_path: Path
) -> None:
    people = material.pairs(place / "private")
    made = material.session(place / "box", place / "private", people, UnsyncedDisk())
    give(place)
    material.erase(made, UnsyncedDisk())
    add_step(made.root, "copied", "rec-1", {}, utc_ns=1, disk=UnsyncedDisk())
    assert (made.root / AUDIT_FILE).exists()
    assert not_the_daemons(place) == []

    def goes_on() -> None:
        assert read_keys(made.folder, UnsyncedDisk()) is not None
        made.sealing("p5").key_for(material.RECORDING, "p5")
        add_step(made.root, "freed", "rec-1", {}, utc_ns=1, disk=UnsyncedDisk())

    assert as_daemon(goes_on) == 0


def test_another_process_may_make_the_lock_between_the_look_and_the_call(tmp_path: Path) -> None:
    class Late(SystemDisk):
        def syscall(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
            (tmp_path / ".lock").touch()
            return super().syscall(name, function, *args)

    with Late().exclusive(tmp_path / ".lock"):
        pass
