"""A copy is noted before its first byte: wherever it ends, an erasure names each place where wrapped keys may lie."""

import contextlib
from pathlib import Path

import pytest

from brainforge_edge.core.errors import StorageError
from brainforge_edge.recorder.chain import CHAIN_FILE, ChainEntry, read_lines
from brainforge_edge.recorder.chaining import extend_chain
from brainforge_edge.recorder.copies import copy_recording
from brainforge_edge.recorder.exports import COPY, EXPORTS_FILE, read_notes
from brainforge_edge.recorder.freed import COPIED_FILE
from brainforge_edge.recorder.medium import Place
from brainforge_edge.storage.files import Disk
from tests.unit import erasure_material as material
from tests.unit.recorder_faulty_disk import FaultyDisk, Killed, UnsyncedDisk


class Ward:
    """A sealed session of four, and a medium."""

    def __init__(self, root: Path) -> None:
        self.made = material.session(
            root / "box", root / "private", material.pairs(root / "private"), UnsyncedDisk()
        )
        self.folder = self.made.folder
        for _ in extend_chain(self.folder, UnsyncedDisk()):
            pass
        self.medium = root / "medium"
        self.medium.mkdir()
        self.wrapped = self.made.secrets("p2")["wrapped"]

    def copy(self, disk: Disk | None = None) -> None:
        copy_recording(
            self.folder, self.medium, utc_ns=material.NOW_NS, disk=disk or UnsyncedDisk(),
            look=self.look,
        )  # fmt: skip

    def look(self, path: Path) -> Place:
        return Place(1 + path.is_relative_to(self.medium), "ext4", "")

    def named(self) -> set[str]:
        """Copies that an erasure of p2 names as not reached."""
        left = material.erase(self.made, UnsyncedDisk()).not_reached
        return {each.what for each in left if each.kind == "export"}

    def with_keys(self) -> set[str]:
        """Folders of the medium in which a wrapped key of p2 lies."""
        found = material.hits([self.medium], self.wrapped)
        return {str(Path(path).parent) for path in found}


@pytest.fixture
def ward(tmp_path: Path) -> Ward:
    return Ward(tmp_path)


def test_a_whole_copy_has_one_note(ward: Ward) -> None:
    ward.copy()
    (note,) = read_notes(ward.folder, UnsyncedDisk())
    assert (note.path, note.format) == (str(ward.medium / "rec-1"), COPY)
    assert set(note.participants) == {"", *material.PEOPLE}  # "" has the key of the markers
    assert ward.with_keys() == ward.named() == {str(ward.medium / "rec-1")}


def test_wherever_a_copy_ends_an_erasure_names_where_the_keys_lie(tmp_path: Path) -> None:
    lying = set()
    at = 0
    while True:
        ward = Ward(tmp_path / f"r{at}")
        disk = FaultyDisk(at=at)
        with contextlib.suppress(Killed):
            ward.copy(disk)
        here = ward.with_keys()
        assert here <= ward.named()
        lying |= {Path(path).name for path in here}
        if disk.count <= at:
            break
        at += 7 if at < 40 else 1  # the many writes of segments come after the note
    assert lying == {"rec-1.part", "rec-1"}


def test_a_copy_that_was_cut_off_by_an_error_is_named(ward: Ward) -> None:
    writes = FaultyDisk(watched={"pwrite"})
    ward.copy(writes)
    other = Ward(ward.medium.parent / "other")
    with pytest.raises(StorageError):
        other.copy(FaultyDisk(watched={"pwrite"}, at=writes.count - 3, fault=5))
    assert other.with_keys() == {str(other.medium / "rec-1.part")}
    assert other.with_keys() <= other.named()


def test_participants_whose_segments_are_gone_are_named_for_their_keys(ward: Ward) -> None:
    for entry in read_lines(ward.folder / CHAIN_FILE, UnsyncedDisk(), ChainEntry):
        if entry.stream_id == "head-p2-eeg":
            (ward.folder / entry.stream_id / entry.segment).unlink()
    ward.copy()
    assert ward.with_keys() == ward.named() == {str(ward.medium / "rec-1")}


def test_what_a_cut_off_copy_left_stays_named_when_the_next_one_ends_well(ward: Ward) -> None:
    """An older file in the part folder becomes part of the copy, though the box has it no more."""
    part = ward.medium / "rec-1.part"
    with pytest.raises(StorageError):
        ward.copy(FaultyDisk(watched={"rename"}, at=1, fault=5))
    (ward.folder / "keys").rename(part / "keys.damaged-1")
    for path in (ward.folder / "head-p2-eeg").iterdir():
        path.unlink()
    ward.copy()
    (note,) = read_notes(ward.folder, UnsyncedDisk())
    assert "p2" in note.participants
    assert ward.with_keys() == {note.path}


def test_notes_that_cannot_be_read_refuse_a_copy_before_anything_is_written(ward: Ward) -> None:
    (ward.folder / EXPORTS_FILE).write_bytes(b"x")
    with pytest.raises(StorageError) as refused:
        ward.copy()
    assert refused.value.code == "storage.exports_damaged"
    assert list(ward.medium.iterdir()) == []
    assert not (ward.folder / COPIED_FILE).exists()


def test_a_refused_copy_leaves_no_note(ward: Ward) -> None:
    (ward.medium / "rec-1").mkdir()
    with pytest.raises(StorageError, match="is there already"):
        ward.copy()
    assert read_notes(ward.folder, UnsyncedDisk()) == ()
