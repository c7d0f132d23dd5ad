"""Two steps of an operator free data without an aggregator: copy and read back, then release; each refusal keeps it."""

import contextlib
import errno
import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from brainforge_edge.core.errors import BrainforgeError, ExitStatus, StorageError
from brainforge_edge.core.wire import Range
from brainforge_edge.recorder.attested import FREEING_LOCK
from brainforge_edge.recorder.catalog import close_recording
from brainforge_edge.recorder.chain import read_lines
from brainforge_edge.recorder.copies import code_of, copy_recording, release_recording
from brainforge_edge.recorder.exports import EXPORTS_FILE
from brainforge_edge.recorder.freed import (
    COPIED_FILE,
    RELEASED_FILE,
    Copied,
    has_rows,
)
from brainforge_edge.recorder.freeing import free_segment
from brainforge_edge.recorder.medium import Place
from brainforge_edge.recorder.signers import NOBODY
from brainforge_edge.storage.audit import AUDIT_FILE, add_step, check_audit
from brainforge_edge.storage.files import Buffer
from tests.unit.recorder_faulty_disk import FaultyDisk, Killed, UnsyncedDisk
from tests.unit.recorder_material import LOG_ID
from tests.unit.retention_material import EEG, NOW, Stand, write_segment

ALL = ["0001.seg", "0002.seg", "0003.seg", "0004.seg"]


class Desk:
    """A box and a medium on what passes for another disk."""

    def __init__(self, root: Path) -> None:
        self.stand = Stand(root / "box")
        self.stand.close()
        self.is_same_disk = False
        self.medium = root / "medium"
        self.medium.mkdir()

    def look(self, path: Path) -> Place:
        is_there = path.is_relative_to(self.medium) and not self.is_same_disk
        return Place(2 if is_there else 1, "ext4", "")

    def copy(self) -> str:
        copied = copy_recording(
            self.stand.folder, self.medium, utc_ns=NOW, disk=UnsyncedDisk(), look=self.look
        )
        return code_of(copied)

    def release(self, code: str, disk: UnsyncedDisk | None = None) -> None:
        disk = disk or UnsyncedDisk()
        proof, entries = release_recording(
            self.stand.folder, self.medium, code, utc_ns=NOW, disk=disk, look=self.look
        )
        for entry in entries:
            free_segment(
                self.stand.folder, entry, log_id=LOG_ID, proof=proof, verifiers=NOBODY, utc_ns=NOW,
                disk=disk,
            )  # fmt: skip

    def refusal(self, code: str) -> BrainforgeError:
        with pytest.raises(BrainforgeError) as refused:
            self.release(code)
        assert self.stand.here == ALL
        assert not (self.stand.folder / RELEASED_FILE).exists()
        return refused.value


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_copy_that_was_read_back_is_released_and_the_account_stays_right(desk: Desk) -> None:
    code = desk.copy()
    assert code == desk.stand.chain[-1].head.hex()[:8]
    for path in desk.stand.folder.rglob("*"):
        if path.is_file() and path.name not in {COPIED_FILE, EXPORTS_FILE}:
            copy = desk.medium / "rec-1" / path.relative_to(desk.stand.folder)
            assert copy.read_bytes() == path.read_bytes()
    desk.release(code)
    assert desk.stand.here == []
    account = desk.stand.account()
    assert account.is_clean, account
    assert [line.segment for line in account.streams[0].freed] == ALL


def test_every_file_is_read_back_past_memory_in_both_steps(desk: Desk) -> None:
    counted = FaultyDisk(watched={"fadvise"})
    copied = copy_recording(
        desk.stand.folder, desk.medium, utc_ns=NOW, disk=counted, look=desk.look
    )
    assert counted.count == 7  # four segments, the card, the chain, the notes of exports
    desk.release(code_of(copied), counted)
    assert counted.count == 11


def test_segments_that_were_delivered_before_need_no_copy(desk: Desk) -> None:
    desk.stand.attest(desk.stand.chain[0])
    desk.stand.retention().once()
    desk.release(desk.copy())
    assert desk.stand.here == []
    assert desk.stand.account().is_clean


def test_a_wrong_code_releases_nothing(desk: Desk) -> None:
    desk.copy()
    error = desk.refusal("00000000")
    assert (error.code, error.exit_status) == ("session.wrong_code", ExitStatus.SESSION)


def test_without_a_copy_nothing_is_released(desk: Desk) -> None:
    assert desk.refusal("00000000").code == "storage.no_proof"


def test_a_copy_that_is_older_than_the_chain_releases_nothing(desk: Desk) -> None:
    code = desk.copy()
    write_segment(desk.stand.folder / EEG.stream_id, 5, desk.stand.disk)
    desk.stand.close()
    with pytest.raises(StorageError, match="after the copy was made"):
        desk.release(code)
    assert len(desk.stand.here) == 5


def test_a_medium_that_is_gone_or_not_mounted_releases_nothing(desk: Desk) -> None:
    code = desk.copy()
    aside = desk.medium.rename(desk.medium.with_name("aside"))
    assert desk.refusal(code).code == "storage.no_medium"
    desk.medium.mkdir()  # the place it is mounted at
    assert desk.refusal(code).code == "storage.copy_differs"
    desk.medium.rmdir()
    aside.rename(desk.medium)
    desk.release(code)
    assert desk.stand.here == []


def test_a_medium_on_the_disk_of_the_recordings_is_refused(desk: Desk) -> None:
    code = desk.copy()
    desk.is_same_disk = True
    assert desk.refusal(code).code == "storage.same_disk"
    shutil.rmtree(desk.medium / "rec-1")
    with pytest.raises(StorageError) as refused:
        desk.copy()
    assert refused.value.code == "storage.same_disk"


def test_a_copy_that_changed_since_releases_nothing(desk: Desk) -> None:
    code = desk.copy()
    copy = desk.medium / "rec-1" / EEG.stream_id / "0002.seg"
    data = bytearray(copy.read_bytes())
    data[200] ^= 1
    copy.write_bytes(data)
    assert desk.refusal(code).code == "storage.copy_differs"


def test_a_recording_that_changed_is_neither_copied_nor_released(desk: Desk) -> None:
    code = desk.copy()
    path = desk.stand.path(desk.stand.chain[1])
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    assert desk.refusal(code).code == "storage.changed"
    shutil.rmtree(desk.medium / "rec-1")
    with pytest.raises(StorageError, match="not what was recorded"):
        desk.copy()
    assert not (desk.medium / "rec-1").exists()


def test_an_open_recording_is_not_copied(desk: Desk) -> None:
    card = desk.stand.folder / "recording.json"
    card.write_bytes(card.read_bytes().replace(b'"closed":true', b'"closed":false'))
    with pytest.raises(BrainforgeError) as refused:
        desk.copy()
    assert refused.value.code == "session.not_closed"


def test_a_recording_whose_chain_is_not_complete_is_not_copied(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    write_segment(desk.stand.folder / EEG.stream_id, 5, desk.stand.disk)
    close_recording(desk.stand.folder, desk.stand.disk)
    with pytest.raises(StorageError) as refused:
        desk.copy()
    assert refused.value.code == "storage.not_chained"


def test_a_copy_never_replaces_one_and_goes_over_what_a_cut_off_one_left(desk: Desk) -> None:
    part = desk.medium / "rec-1.part"
    (part / EEG.stream_id).mkdir(parents=True)
    (part / EEG.stream_id / "0001.seg").write_bytes(bytes(1_000_000))
    desk.copy()
    assert not part.exists()
    with pytest.raises(StorageError) as refused:
        desk.copy()
    assert refused.value.code == "storage.copy_exists"


@pytest.mark.parametrize("fault", ["kill", "kill_torn", errno.EIO, errno.ENOSPC])
def test_an_end_or_an_error_anywhere_in_a_release_leaves_the_account_right(
    tmp_path: Path, fault: str | int
) -> None:
    at = 0
    while True:
        desk = Desk(tmp_path / f"r{at}")
        code = desk.copy()
        disk = FaultyDisk(at=at, fault=fault)
        with contextlib.suppress(Killed, StorageError):
            desk.release(code, disk)
        assert desk.stand.account().is_clean
        desk.stand.retention().finish()
        assert desk.stand.account().is_clean
        desk.release(code)
        assert desk.stand.here == []
        assert desk.stand.account().is_clean
        if disk.count <= at:
            break
        at += 1
    assert at > 20


def test_an_end_anywhere_in_a_copy_proves_nothing_that_is_not_there(tmp_path: Path) -> None:
    at = 0
    while True:
        root = tmp_path / f"r{at}"
        desk = Desk(root)
        disk = FaultyDisk(at=at)
        with contextlib.suppress(Killed):
            copy_recording(desk.stand.folder, desk.medium, utc_ns=NOW, disk=disk, look=desk.look)
        if not (desk.medium / "rec-1").exists():
            assert not (desk.stand.folder / COPIED_FILE).exists()
        if disk.count <= at:
            break
        at += 1
        shutil.rmtree(root)
    assert at > 15


def test_lines_are_added_under_the_lock_of_who_frees(desk: Desk) -> None:
    """Each line is written behind the end of the file as it is: of two at once one would be lost."""
    lock = desk.stand.recordings / FREEING_LOCK
    watched: dict[str, bool] = {}

    class Watching(UnsyncedDisk):
        def pwrite_all(self, fd: int, data: Buffer, at: int) -> None:
            name = self._paths[fd].name
            if name in {COPIED_FILE, RELEASED_FILE} and self._paths[fd].parent == desk.stand.folder:
                with lock.open() as file, pytest.raises(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                watched[name] = True
            super().pwrite_all(fd, data, at)

    disk = Watching()
    copied = copy_recording(desk.stand.folder, desk.medium, utc_ns=NOW, disk=disk, look=desk.look)
    desk.release(code_of(copied), disk)  # and frees under the same lock
    assert watched == {COPIED_FILE: True, RELEASED_FILE: True}
    assert desk.stand.here == []


def test_a_copy_keeps_what_a_line_in_freed_can_be_held_against(desk: Desk) -> None:
    desk.release(desk.copy())
    (copied,) = read_lines(desk.stand.folder / COPIED_FILE, UnsyncedDisk(), Copied)
    assert all(each.rows for each in copied.segments)
    assert all(has_rows(line, copied) for line in desk.stand.freed)
    third = desk.stand.freed[2]
    for changed in (
        msgspec.structs.replace(third, held=(Range(1, 180, 259),)),
        msgspec.structs.replace(third, named=()),
        msgspec.structs.replace(third, number=third.number + 1),
        msgspec.structs.replace(third, segment_id=bytes(16)),
    ):
        assert not has_rows(changed, copied)
    older = tuple(msgspec.structs.replace(each, rows=b"") for each in copied.segments)
    assert has_rows(third, msgspec.structs.replace(copied, segments=older))


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (errno.ENOSPC, "storage.full", "Free space on the medium"),
        (errno.EIO, "storage.io", "Check the medium"),
        (errno.EROFS, "storage.read_only", "Mount the medium"),
        (errno.EACCES, "storage.permission", "Name a folder of the medium"),
        (errno.ENODEV, "storage.failed", "and the system log"),
    ],
)
def test_a_medium_that_fails_is_named_in_the_remedy(
    desk: Desk, fault: int, code: str, words: str
) -> None:
    class Failing(UnsyncedDisk):
        def __init__(self, place: Path) -> None:
            super().__init__()
            self.place = place

        def syscall(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
            if name == "pwrite" and self._paths[args[0]].is_relative_to(self.place):
                raise OSError(fault, "")
            return super().syscall(name, function, *args)

    for place, is_medium in ((desk.medium, True), (desk.stand.folder, False)):
        with pytest.raises(StorageError) as failed:
            copy_recording(
                desk.stand.folder, desk.medium, utc_ns=NOW, disk=Failing(place), look=desk.look
            )
        assert failed.value.code == code
        assert (
            words in failed.value.remedy and str(desk.medium) in failed.value.remedy
        ) is is_medium
        assert "the disk" not in failed.value.why or not is_medium


# ---- the audit file ------------------------------------------------------------------------------


def test_lines_of_the_audit_file_that_were_changed_put_in_or_taken_out_are_named(
    tmp_path: Path,
) -> None:
    disk = UnsyncedDisk()
    for n in range(5):
        add_step(tmp_path, "freed", f"rec-{n}", {"segments": n}, utc_ns=None, disk=disk)
    path = tmp_path / AUDIT_FILE
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    assert check_audit(tmp_path, disk) == (5, (), ())
    path.write_bytes(whole.replace(b"rec-2", b"rec-7"))
    assert check_audit(tmp_path, disk).broken == (4,)
    path.write_bytes(b"".join(lines[:2] + lines[3:]))
    assert check_audit(tmp_path, disk).broken == (3,)
    path.write_bytes(b"".join([*lines[:2], lines[0], *lines[2:]]))
    assert check_audit(tmp_path, disk).broken == (3, 4)
    path.write_bytes(b"".join(lines[1:]))
    assert check_audit(tmp_path, disk).broken == (1,)


def test_a_torn_line_of_the_audit_file_is_cut_off_or_covered_by_the_next(tmp_path: Path) -> None:
    disk = UnsyncedDisk()
    add_step(tmp_path, "freed", "rec-1", {}, utc_ns=None, disk=disk)
    path = tmp_path / AUDIT_FILE
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:30])
    add_step(tmp_path, "freed", "rec-2", {}, utc_ns=None, disk=disk)
    assert check_audit(tmp_path, disk) == (2, (), ())
    with path.open("ab") as file:
        file.write(bytes(100) + b"\n")
    add_step(tmp_path, "freed", "rec-3", {}, utc_ns=None, disk=disk)
    assert check_audit(tmp_path, disk) == (4, (), (3,))
