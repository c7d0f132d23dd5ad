"""BIDS datasets that grow: recording by recording, each as a whole, and nothing is replaced."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from brainforge_edge.cli.export import export
from brainforge_edge.core.errors import StorageError
from brainforge_edge.export.bids.dataset import Setting, export_dataset
from brainforge_edge.export.bids.folder import LOCK, PART, WHOLE
from brainforge_edge.export.formats import Exported
from brainforge_edge.recorder.exports import ExportNote, is_called_so, read_notes
from tests.unit.bids_material import ANNA, BERT, CYTON, HAT, OPM, bedside
from tests.unit.bids_schema import faults
from tests.unit.export_test import DISK

KILLED = """
import os, signal, sys
from pathlib import Path
from brainforge_edge.export.bids.dataset import export_dataset
from brainforge_edge.storage.files import SystemDisk
left = [int(sys.argv[3])]
def killing(real):
    def moved(self, target):
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return real(self, target)
    return moved
Path.rename, Path.replace = killing(Path.rename), killing(Path.replace)
export_dataset(Path(sys.argv[1]), target=Path(sys.argv[2]), disk=SystemDisk())
"""
LIMITED = """
import resource, sys
from pathlib import Path
import mne, h5py
from brainforge_edge.core.errors import StorageError
from brainforge_edge.export.bids.dataset import export_dataset
from brainforge_edge.storage.files import SystemDisk
most = int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
try:
    export_dataset(Path(sys.argv[1]), target=Path(sys.argv[2]), disk=SystemDisk())
except StorageError as error:
    print(error.code)
"""
WORN = {CYTON: ANNA, HAT: BERT}


def _export(folder: Path, target: Path, **options: Any) -> Exported:
    return export_dataset(folder, target=target, disk=DISK, **options)


def _files(target: Path) -> dict[str, bytes]:
    return {
        path.relative_to(target).as_posix(): path.read_bytes()
        for path in target.rglob("*")
        if path.is_file() and path.name != LOCK
    }


def _participants(target: Path) -> list[str]:
    return (target / "participants.tsv").read_text().splitlines()


def test_a_second_recording_is_the_next_session_and_changes_no_file_but_the_participants(
    tmp_path: Path,
) -> None:
    target = tmp_path / "out"
    _export(bedside(tmp_path, {CYTON: ANNA}), target)
    before = _files(target)
    _export(bedside(tmp_path, WORN, recording="rec-2"), target)
    after = _files(target)
    changed = {name for name, data in before.items() if after[name] != data}
    assert changed == {"participants.tsv"}
    assert _participants(target)[1:] == ["sub-panna\tp-anna", "sub-pbert\tp-bert"]
    sessions = sorted(path.relative_to(target).as_posix() for path in target.glob("sub-*/ses-*"))
    assert sessions == ["sub-panna/ses-01", "sub-panna/ses-02", "sub-pbert/ses-02"]
    assert faults(target) == []


def test_what_others_wrote_into_the_dataset_stays(tmp_path: Path) -> None:
    target = tmp_path / "out"
    _export(bedside(tmp_path, {CYTON: ANNA}), target)
    (target / "README").write_text("ours\n")
    theirs = "\ufeffparticipant_id\tnote\r\nsub-x7\t a  b\u2028c \r\nsub-x8\t\r\n\r\n"
    (target / "participants.tsv").write_text(theirs, encoding="utf-8", newline="")
    _export(bedside(tmp_path, {HAT: BERT}, recording="rec-2"), target)
    assert (target / "README").read_text() == "ours\n"
    assert (target / "participants.tsv").read_text(encoding="utf-8").split("\n") == [
        "participant_id\tnote\tpseudonym", "sub-x7\t a  b\u2028c \tn/a", "sub-x8\t\tn/a",
        "sub-pbert\tn/a\tp-bert", "",
    ]  # fmt: skip


def test_a_recording_is_in_a_dataset_once_whatever_its_folder_is_called(tmp_path: Path) -> None:
    folder, target = bedside(tmp_path, WORN), tmp_path / "out"
    _export(folder, target)
    before = _files(target)
    moved = folder.rename(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="in the dataset already") as caught:
        _export(moved, target)
    assert caught.value.code == "storage.in_dataset"
    assert _files(target) == before


@pytest.mark.parametrize("n_moved", range(4))
def test_an_export_that_is_killed_leaves_the_dataset_as_it_was_or_the_next_one_ends_it(
    tmp_path: Path, n_moved: int
) -> None:
    """Moves: the whole, participants.tsv, a session of each participant."""
    target = tmp_path / "out"
    _export(bedside(tmp_path, {OPM: ANNA}), target)
    before = _files(target)
    folder = bedside(tmp_path, WORN, recording="rec-2")
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, folder, target, str(n_moved)],
        env=dict(os.environ), cwd=Path(__file__).parents[2], check=False, capture_output=True,
    )  # fmt: skip
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert (target / PART).exists() == (n_moved == 0)
    assert (target / WHOLE).exists() == (n_moved > 0)
    left = {k: v for k, v in _files(target).items() if not k.startswith(".")}
    assert all(left[name] == before[name] for name in before if name != "participants.tsv")
    for session in target.glob("sub-*/ses-02"):
        assert list(session.glob("*_scans.tsv"))
    if n_moved:
        with pytest.raises(StorageError, match="in the dataset already"):
            _export(folder, target)
    else:
        assert left == before
        _export(folder, target)
    assert faults(target) == []
    assert sorted(path.name for path in target.glob(".*")) == [LOCK]
    assert len(list(target.glob("sub-*/ses-02"))) == 2


def test_what_waits_to_be_moved_replaces_no_session(tmp_path: Path) -> None:
    target = tmp_path / "out"
    _export(bedside(tmp_path, {CYTON: ANNA}), target)
    before = _files(target)
    (target / WHOLE / "sub-panna" / "ses-01").mkdir(parents=True)
    with pytest.raises(StorageError, match="ses-01 is there already") as caught:
        _export(bedside(tmp_path, {HAT: BERT}, recording="rec-2"), target)
    assert caught.value.code == "storage.target_exists"
    assert _files(target) == before


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("photo.jpg", "x", "no_dataset"),
        ("dataset_description.json", "[1", "dataset_damaged"),
        ("dataset_description.json", "[]", "dataset_damaged"),
        ("dataset_description.json", "[" * 100_000, "dataset_damaged"),
        ("participants.tsv", "", "dataset_damaged"),
        ("participants.tsv", "name\nx\n", "dataset_damaged"),
        ("participants.tsv", "participant_id\tage\nsub-x\n", "dataset_damaged"),
        ("participants.tsv", "participant_id\tparticipant_id\n", "dataset_damaged"),
    ],
)
def test_a_folder_that_is_no_dataset_is_left_as_it_is(
    tmp_path: Path, name: str, text: str, code: str
) -> None:
    target = tmp_path / "out"
    target.mkdir()
    if name == "participants.tsv":
        (target / "dataset_description.json").write_text('{"BIDSVersion": "1.8.0"}')
    (target / name).write_text(text)
    before = {path.name for path in target.iterdir()}
    with pytest.raises(StorageError) as caught:
        _export(bedside(tmp_path, WORN), target)
    assert caught.value.code == f"storage.{code}"
    assert {path.name for path in target.iterdir()} == before


def test_one_label_stands_for_one_pseudonym(tmp_path: Path) -> None:
    target = tmp_path / "out"
    _export(bedside(tmp_path, {CYTON: "p-1"}), target)
    for recording, pseudonym in (("rec-2", "p1"), ("rec-3", "P1")):
        folder = bedside(tmp_path, {CYTON: pseudonym}, recording=recording)
        with pytest.raises(StorageError, match="sub-p1 is 'p-1' there") as caught:
            _export(folder, target)
        assert caught.value.code == "storage.label_taken"
    both = bedside(tmp_path, {CYTON: "p-2", HAT: "p2"}, recording="rec-4")
    with pytest.raises(StorageError, match="sub-p2 is 'p-2' there"):
        _export(both, target)


@pytest.mark.parametrize("pseudonym", ["żaneta", "---", "a/b", "a\tb"])
def test_a_pseudonym_that_is_no_label_is_refused(tmp_path: Path, pseudonym: str) -> None:
    with pytest.raises(StorageError, match="letters a-z and digits alone") as caught:
        _export(bedside(tmp_path, {CYTON: pseudonym}), tmp_path / "out")
    assert caught.value.code == "storage.bad_label"


def test_where_nobody_is_noted_the_pseudonym_must_be_said(tmp_path: Path) -> None:
    folder = bedside(tmp_path, {CYTON: "", HAT: BERT})
    (left,) = _export(folder, tmp_path / "one").left_out
    assert "Name the pseudonym with --participant" in str(left)
    exported = _export(folder, tmp_path / "two", setting=Setting(participant=ANNA))
    assert not exported.left_out
    assert _participants(tmp_path / "two")[1:] == ["sub-panna\tp-anna", "sub-pbert\tp-bert"]


def test_the_command_exports_several_recordings_and_notes_what_belongs_to_whom(
    tmp_path: Path,
) -> None:
    one, two = bedside(tmp_path, WORN), bedside(tmp_path, {OPM: BERT}, recording="rec-2")
    target = tmp_path / "out"
    arguments = [str(one), str(two), "--format", "bids", "--output", str(target), "--json"]
    done = CliRunner().invoke(export, [*arguments, "--task", "p300", "--line-freq", "60"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    notes = [*read_notes(one, DISK), *read_notes(two, DISK)]
    assert sorted(note.path for note in notes) == sorted(told["files"])
    assert len(list(target.glob("sub-*/ses-*"))) == 3
    for note in notes:
        found = Path(note.path).stat()
        assert (note.size, note.mtime_ns) == (found.st_size, found.st_mtime_ns)
        assert note.participants == (ANNA if "/sub-panna/" in note.path else BERT,)
        assert is_called_so(note, "rec-1")
    (sidecar,) = target.rglob("*_eeg.json")
    assert json.loads(sidecar.read_text())["PowerLineFrequency"] == 60.0


def test_a_recording_that_is_refused_leaves_those_before_it_in_the_dataset(
    tmp_path: Path,
) -> None:
    one, two = bedside(tmp_path, WORN), bedside(tmp_path, {OPM: "ż"}, recording="rec-2")
    target = tmp_path / "out"
    arguments = [str(one), str(two), "--format", "bids", "--output", str(target)]
    done = CliRunner().invoke(export, arguments)
    assert isinstance(done.exception, StorageError)
    assert done.exception.code == "storage.bad_label"
    assert {line for line in done.stdout.splitlines() if "/sub-" in line} == {
        str(path) for path in target.glob("sub-*/**/*") if path.is_file()
    }
    assert faults(target) == []


@pytest.mark.parametrize("most", [0, 100, 4000])
def test_an_export_that_finds_no_room_says_so_and_leaves_the_dataset_as_it_was(
    tmp_path: Path, most: int
) -> None:
    folder, target = bedside(tmp_path), tmp_path / "out"
    _export(bedside(tmp_path, {CYTON: ANNA}, recording="rec-2"), target)
    before = _files(target)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LIMITED, folder, target, str(most)],
        env=dict(os.environ), cwd=Path(__file__).parents[2], check=False, capture_output=True,
        text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, "storage.export_write"), done.stderr
    assert _files(target) == before


@pytest.mark.parametrize(
    "path",
    ["/x/sub-a/ses-01/eeg/sub-b_ses-01_eeg.edf", "/x/sub-a_ses-01_eeg.edf", "/etc/passwd",
     "/x/sub-a/ses-01/eeg/../../sub-a_ses-01_x"],
)  # fmt: skip
def test_a_note_of_a_dataset_that_names_another_file_is_not_believed(path: str) -> None:
    assert not is_called_so(ExportNote(path, "bids", "eeg", ("p",), None, 0, 0), "rec-1")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--format", "csv", "--task", "rest"], "go with --format bids alone"),
        (["--format", "bids", "--lossy"], "--lossy goes with --format edf alone"),
        (["--format", "bids", "--line-freq", "nan"], "is not a number"),
        (["--to", "x", "also"], "one recording at a time"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    tmp_path: Path, arguments: list[str], why: str
) -> None:
    done = CliRunner().invoke(export, [str(tmp_path), *arguments])
    assert done.exit_code == 2
    assert why in done.stderr


@pytest.mark.parametrize("task", ["", "eyes-closed", "öffnen"])
def test_a_task_is_a_label(tmp_path: Path, task: str) -> None:
    folder = bedside(tmp_path, {CYTON: ANNA})
    if task == "eyes-closed":
        _export(folder, tmp_path / "out", setting=Setting(task))
        assert list((tmp_path / "out").rglob("*_task-eyesclosed_*_eeg.vhdr"))
        return
    with pytest.raises(StorageError, match="letters a-z and digits alone"):
        _export(folder, tmp_path / "out", setting=Setting(task))
