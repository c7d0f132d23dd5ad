"""Exports of a participant who is erased at a box: those that are there as they were written, and nothing else."""

import os
from pathlib import Path

import msgspec
import pytest

from brainforge_edge.core.errors import StorageError
from brainforge_edge.recorder.exports import COPY, ExportNote, add_note, mark_erased, read_notes
from brainforge_edge.recorder.keyfile import UNKNOWN
from brainforge_edge.storage.files import SystemDisk
from brainforge_edge.storage.wipe import wipe
from tests.unit.erasure_material import (
    ORDER_ID,
    PEOPLE,
    RECORDING,
    Make,
    erase,
    noted,
)
from tests.unit.sealed_material import DISK


def test_exports_of_the_participant_are_overwritten_and_removed_others_are_not(
    tmp_path: Path, make: Make
) -> None:
    made = make(tmp_path / "box")
    mine, theirs = noted(made, "rec-1_a.csv"), noted(made, "rec-1_b.csv", "p3")
    fd = os.open(mine, os.O_RDONLY)
    try:
        erasure = erase(made)
        assert os.pread(fd, 100, 0) == bytes(len(b"plain rows of p2"))
    finally:
        os.close(fd)
    assert not mine.exists()
    assert theirs.read_bytes() == b"plain rows of p3"
    assert [each.what for each in erasure.erased if each.kind == "export"] == [str(mine)]
    assert [note.order for note in read_notes(made.folder, DISK)] == [ORDER_ID, ""]


def test_an_export_that_is_not_there_or_not_the_same_any_more_is_listed_and_left_alone(
    tmp_path: Path, make: Make
) -> None:
    made = make(tmp_path / "box")
    moved, edited = noted(made, "rec-1_a.csv"), noted(made, "rec-1_b.csv")
    linked, foreign = noted(made, "rec-1_c.csv"), noted(made, "other.csv")
    moved.rename(moved.with_name("elsewhere.csv"))
    edited.write_bytes(b"somebody's own work")
    target = linked.rename(linked.with_name("target.csv"))
    linked.symlink_to(target)
    erasure = erase(made)
    left = {each.what: each.why for each in erasure.not_reached if each.kind == "export"}
    assert sorted(left) == sorted(map(str, (moved, edited, linked, foreign)))
    assert "it is not there" in left[str(moved)]
    assert "changed since" in left[str(edited)]
    assert edited.read_bytes() == b"somebody's own work"
    assert target.read_bytes() == b"plain rows of p2"
    assert foreign.exists()


def test_a_note_that_names_the_order_already_costs_no_other_file(
    tmp_path: Path, make: Make
) -> None:
    """Whoever may write to the recording could have written it; a file that was begun is as long as before."""
    made = make(tmp_path / "box")
    foreign, longer = noted(made, "precious.txt"), noted(made, "rec-1_a.csv")
    begun, gone = noted(made, "rec-1_b.csv"), noted(made, "rec-1_c.csv")
    for path in (foreign, longer, begun, gone):
        mark_erased(made.folder, str(path), ORDER_ID, DISK)
    longer.write_bytes(b"somebody's own work, and more of it")
    begun.write_bytes(bytes(begun.stat().st_size))
    gone.unlink()
    erasure = erase(made)
    left = {each.what: each.why for each in erasure.not_reached if each.kind == "export"}
    assert left == {
        str(foreign): "what is there is no exported file of this recording",
        str(longer): "it was changed since: look at it, and remove it by hand",
    }
    assert foreign.read_bytes() == b"plain rows of p2"
    assert longer.exists()
    assert not begun.exists()
    erased = [each.what for each in erasure.erased if each.kind == "export"]
    assert erased == [str(begun), str(gone)]


def test_a_note_of_what_can_be_no_path_is_listed(tmp_path: Path, make: Make) -> None:
    made = make(tmp_path / "box")
    for name in ("/" + "x" * 5000, "", "."):
        add_note(made.folder, ExportNote(name, "csv", "", ("p2",), None, 0, 0, ORDER_ID), DISK)
    erasure = erase(made)
    left = {each.what: each.why for each in erasure.not_reached if each.kind == "export"}
    assert "file name too long" in left["/" + "x" * 5000]
    assert [each.kind for each in erasure.erased] == ["key"]


def test_a_link_that_takes_the_place_of_an_export_leads_to_nothing(tmp_path: Path) -> None:
    """Between the look at it and its being overwritten."""
    target, link = tmp_path / "target", tmp_path / "rec-1_a.csv"
    target.write_bytes(b"somebody's own work")
    link.symlink_to(target)
    with pytest.raises(StorageError) as caught:
        wipe(link, SystemDisk())
    assert caught.value.code == "storage.symlink"
    assert caught.value.why == "it is a symbolic link"
    assert "Put the file itself there" in caught.value.remedy
    assert target.read_bytes() == b"somebody's own work"


def test_a_file_that_was_exported_twice_is_erased_once_and_not_listed_as_changed(
    tmp_path: Path, make: Make
) -> None:
    made = make(tmp_path / "box")
    path = noted(made, "rec-1_a.csv")
    path.write_bytes(b"again")
    found = path.stat()
    (note,) = read_notes(made.folder, DISK)
    now = msgspec.structs.replace(note, size=found.st_size, mtime_ns=found.st_mtime_ns)
    add_note(made.folder, now, DISK)
    erasure = erase(made)
    assert [each.what for each in erasure.erased if each.kind == "export"] == [str(path)]
    assert [each for each in erasure.not_reached if each.kind == "export"] == []
    assert not path.exists()


@pytest.mark.parametrize("whose", [tuple(PEOPLE), ("p1", UNKNOWN)])
def test_a_copy_on_another_medium_is_named_and_left_alone(
    tmp_path: Path, make: Make, whose: tuple[str, ...]
) -> None:
    """It has the others' keys too; and where the keys could not all be read, perhaps his."""
    made = make(tmp_path / "box")
    copy = tmp_path / "medium" / RECORDING
    copy.mkdir(parents=True)
    note = ExportNote(str(copy), COPY, "", whose, None, size=0, mtime_ns=0)
    add_note(made.folder, note, DISK)
    erasure = erase(made)
    (left,) = (each for each in erasure.not_reached if each.what == str(copy))
    assert "run the order there too" in left.why
    assert copy.is_dir()
