"""What a killed export into a dataset has left there is found by an erasure of the participant."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from brainforge_edge.cli.export import export
from brainforge_edge.core.clock import SystemClock
from brainforge_edge.export.bids.folder import LOCK, PART, WHOLE
from brainforge_edge.export.notes import RecordingNotes
from brainforge_edge.fleet.erasure import BoxErasure
from brainforge_edge.recorder.exports import read_notes
from brainforge_edge.recorder.log import RecordingLog
from tests.unit.bids_material import ANNA, BERT, CYTON, HAT, OPM, bedside
from tests.unit.bids_schema import faults
from tests.unit.erasure_material import NOW_NS, ORDER_ID, Make, Session, erase, info_of
from tests.unit.erasure_material import order as order_of
from tests.unit.export_test import DISK
from tests.unit.recorder_faulty_disk import FaultyDisk, Killed

# At the n-th move, or (-1) when the first stream is written.
KILLED = """
import os, signal, sys
from pathlib import Path
from brainforge_edge.cli.main import main
from brainforge_edge.export.bids import eeg
left = [int(sys.argv[3])]
def killing(real):
    def moved(*arguments):
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return real(*arguments)
    return moved
Path.rename, Path.replace = killing(Path.rename), killing(Path.replace)
write = eeg.write
def written(*arguments):
    write(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
if left[0] < 0:
    eeg.write = written
main(["export", sys.argv[1], "--output", sys.argv[2], "--format", "bids"])
"""
ROWS = b"plain rows of p2"


def _erased(recordings: Path) -> BoxErasure:
    RecordingLog(recordings, disk=DISK, random=os.urandom)
    erasure = BoxErasure(
        recordings, order_of(ANNA), order_id=ORDER_ID, utc_ns=NOW_NS, disk=DISK,
        written=lambda _: [],
    )  # fmt: skip
    erasure.run()
    return erasure


def _export(folder: Path, target: Path) -> None:
    done = CliRunner().invoke(export, [str(folder), "--output", str(target), "--format", "bids"])
    assert done.exit_code == 0, done.output


def _of(target: Path, name: str) -> list[Path]:
    return [path for path in target.rglob("*") if path.is_file() and name in path.name]


def _files(folder: Path) -> dict[str, bytes]:
    found = [path for path in folder.rglob("*") if path.is_file() and path.name != LOCK]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.mark.parametrize("n_moved", range(-1, 4))
def test_wherever_the_export_is_killed_nothing_of_the_participant_stays_and_the_next_one_ends_it(
    tmp_path: Path, n_moved: int
) -> None:
    """Moves: the whole, participants.tsv, a session of each participant."""
    target = tmp_path / "out"
    recordings = tmp_path / "box"
    _export(bedside(recordings, {OPM: BERT}), target)
    before = _files(target)
    folder = bedside(recordings, {CYTON: ANNA, HAT: BERT}, recording="rec-2")
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, folder, target, str(n_moved)],
        env=dict(os.environ), cwd=Path(__file__).parents[2], check=False, capture_output=True,
    )  # fmt: skip
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    mine = _of(target, "sub-panna")
    assert mine
    fds = [os.open(path, os.O_RDONLY) for path in mine]
    try:
        erasure = _erased(recordings)
        for fd in fds:
            size = os.fstat(fd).st_size
            assert os.pread(fd, size, 0) == bytes(size)
    finally:
        for fd in fds:
            os.close(fd)
    assert not _of(target, "sub-panna")
    assert not [each for each in erasure.not_reached if each.kind == "export"]
    assert [each for each in erasure.erased if each.kind == "export"]
    assert not (target / PART).exists()
    assert all(_files(target)[name] == before[name] for name in before if name.startswith("sub-"))
    _export(bedside(recordings, {HAT: BERT}, recording="rec-3"), target)
    assert sorted(path.name for path in target.glob(".*")) == [LOCK]
    assert not _of(target, "sub-panna")
    sessions = 2 if n_moved <= 0 else 3  # whether the killed one was whole
    assert len([each for each in target.glob("sub-pbert/ses-*") if any(each.iterdir())]) == sessions
    if n_moved <= 0:
        assert faults(target) == []
    again = _erased(recordings)
    assert not [each for each in again.not_reached if each.kind == "export"]


def test_the_folders_are_noted_before_the_first_byte_and_forgotten_when_all_is_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = (tmp_path / "out").absolute()
    folder = bedside(tmp_path, {CYTON: ANNA, HAT: BERT})
    seen: list[tuple[str, int]] = []
    begins = RecordingNotes.begins

    def looked(notes: RecordingNotes, stream_id: str, part: Path) -> None:
        begins(notes, stream_id, part)
        is_noted = str(part) in {note.path for note in read_notes(folder, DISK)}
        seen.append((part.relative_to(target).as_posix(), len(_files(part)) if is_noted else -1))

    monkeypatch.setattr(RecordingNotes, "begins", looked)
    _export(folder, target)
    wholes = [(f"{WHOLE}/sub-panna", 0), (f"{WHOLE}/sub-pbert", 0)]
    assert seen == [(PART, 0), (PART, 0), *wholes]
    assert {note.format for note in read_notes(folder, DISK)} == {"bids"}


def left_by_export(made: Session) -> Path:
    """As one leaves it that is killed before it moves the participants' folders."""
    target = made.root.parent / "dataset"
    stem = "ses-01/eeg/sub-p2_ses-01_eeg.vhdr"
    waiting = target / WHOLE / "sub-p2"
    (waiting / stem).parent.mkdir(parents=True)
    (target / LOCK).touch()
    (waiting / stem).write_bytes(ROWS)
    notes = RecordingNotes(made.folder, "bids", clock=SystemClock(), disk=DISK)
    notes.is_whole(info_of("p2").stream_id, waiting / stem, target / "sub-p2" / stem)
    notes.begins(info_of("p2").stream_id, waiting)
    assert notes.failed is None
    return waiting


def test_while_an_export_holds_the_dataset_it_is_listed_and_left_alone(
    tmp_path: Path, make: Make
) -> None:
    made = make(tmp_path / "box")
    waiting = left_by_export(made)
    with DISK.exclusive(waiting.parents[1] / LOCK):
        erasure = erase(made)
    left = {each.what: each.why for each in erasure.not_reached if each.kind == "export"}
    assert "an export is going on" in left[str(waiting)]
    assert [path.read_bytes() for path in waiting.rglob("*_eeg.vhdr")] == [ROWS]
    erase(made)
    assert not waiting.exists()


@pytest.mark.parametrize("what", ["link", "link above", "folder in it", "link in it", "name"])
def test_what_no_killed_export_leaves_there_is_listed_and_left_alone(
    tmp_path: Path, make: Make, what: str
) -> None:
    made = make(tmp_path / "box")
    waiting = left_by_export(made)
    if what == "link":
        waiting.symlink_to(waiting.rename(tmp_path / "elsewhere"))
    elif what == "link above":
        waiting.parent.symlink_to(waiting.parent.rename(tmp_path / "elsewhere"))
    elif what == "folder in it":
        (waiting / "photos").mkdir()
    elif what == "link in it":
        (waiting / "ses-01" / "link").symlink_to(tmp_path)
    else:
        waiting = waiting.rename(waiting.with_name("photos"))
        notes = RecordingNotes(made.folder, "bids", clock=SystemClock(), disk=DISK)
        notes.begins(info_of("p2").stream_id, waiting)
    erasure = erase(made)
    assert str(waiting) in [each.what for each in erasure.not_reached if each.kind == "export"]
    assert (waiting / "ses-01" / "eeg" / "sub-p2_ses-01_eeg.vhdr").read_bytes() == ROWS


def test_killed_at_any_call_to_the_disk_the_next_run_ends_it(tmp_path: Path, make: Make) -> None:
    at = 0
    while True:
        made = make(tmp_path / str(at) / "box")
        waiting = left_by_export(made)
        place = waiting.parents[1] / "sub-p2" / "ses-01" / "eeg" / "sub-p2_ses-01_eeg.vhdr"
        disk = FaultyDisk(at=at, fault="kill")
        is_dead = False
        try:
            erase(made, disk)
        except Killed:
            is_dead = True
        disk.bury()
        again = erase(made)
        assert not waiting.exists(), at
        assert {str(waiting), str(place)} <= {each.what for each in again.erased}, at
        assert not [each for each in again.not_reached if each.kind == "export"], at
        if not is_dead:
            break
        at += 4
    assert at > 20
