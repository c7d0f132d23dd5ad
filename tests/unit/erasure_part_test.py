"""What an export that was killed has left is found by an erasure of the participant."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from brainforge_edge.cli.export import export
from brainforge_edge.core.clock import SystemClock
from brainforge_edge.export.notes import RecordingNotes
from brainforge_edge.fleet.erasure import BoxErasure
from brainforge_edge.recorder.exports import PART, read_notes
from brainforge_edge.recorder.log import RecordingLog
from tests.unit.erasure_material import NOW_NS, ORDER_ID, RECORDING, Make, Session, erase, info_of
from tests.unit.erasure_material import order as order_of
from tests.unit.export_test import DISK, recording
from tests.unit.recorder_faulty_disk import FaultyDisk, Killed
from tests.unit.recorder_material import stream

KILLED = """
import os, signal, sys
from brainforge_edge.cli.main import main
from brainforge_edge.export import csv
write = csv.write
def killed(rows, path, **options):
    write(rows, path, **options)
    os.kill(os.getpid(), signal.SIGKILL)
csv.write = killed
main(["export", sys.argv[1], "--output", sys.argv[2], "--format", "csv"])
"""


def left_by_export(made: Session, who: str = "p2") -> Path:
    """As one leaves it that is killed while it writes."""
    part = made.root.parent / "exported" / f"part-{RECORDING}_{info_of(who).stream_id}"
    part.mkdir(parents=True)
    notes = RecordingNotes(made.folder, "csv", clock=SystemClock(), disk=DISK)
    notes.begins(info_of(who).stream_id, part)
    assert notes.failed is None
    (part / f"{RECORDING}_{info_of(who).stream_id}.csv").write_bytes(
        b"plain rows of " + who.encode()
    )
    return part


def test_the_folder_of_a_killed_export_is_noted_before_it_has_a_row_and_forgotten_after(
    tmp_path: Path,
) -> None:
    folder = recording(tmp_path, stream("eeg"), participant="p-anna")
    RecordingLog(folder.parent, disk=DISK, random=os.urandom)
    out = tmp_path / "out"
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, folder, out],
        env=dict(os.environ), cwd=Path(__file__).parents[2], check=False,
    )  # fmt: skip
    assert ended.returncode == -signal.SIGKILL
    (part,) = out.iterdir()
    (note,) = read_notes(folder, DISK)
    assert (note.path, note.format, note.participants) == (str(part), PART, ("p-anna",))
    erasure = BoxErasure(
        folder.parent, order_of("p-anna"), order_id=ORDER_ID, utc_ns=NOW_NS, disk=DISK,
        written=lambda _: [],
    )  # fmt: skip
    erasure.run()
    assert [each.what for each in erasure.erased if each.kind == "export"] == [str(part)]
    assert list(out.iterdir()) == []
    done = CliRunner().invoke(export, [str(folder), "--output", str(out), "--format", "csv"])
    assert done.exit_code == 0, done.output
    assert [each.format for each in read_notes(folder, DISK)] == ["csv"]


def test_it_is_overwritten_and_removed_and_that_of_another_stays(
    tmp_path: Path, make: Make
) -> None:
    made = make(tmp_path / "box")
    mine, theirs = left_by_export(made), left_by_export(made, "p3")
    fd = os.open(next(mine.iterdir()), os.O_RDONLY)
    try:
        erasure = erase(made)
        assert os.pread(fd, 100, 0) == bytes(len(b"plain rows of p2"))
    finally:
        os.close(fd)
    assert not mine.exists()
    assert theirs.exists()
    assert [each.what for each in erasure.erased if each.kind == "export"] == [str(mine)]
    again = erase(made)
    assert not [each for each in again.not_reached if each.kind == "export"]


def test_a_folder_that_the_export_did_not_come_to_make_is_passed_by(
    tmp_path: Path, make: Make
) -> None:
    made = make(tmp_path / "box")
    part = left_by_export(made)
    next(part.iterdir()).unlink()
    part.rmdir()
    erasure = erase(made)
    assert "export" not in {each.kind for each in erasure.erased}
    assert "export" not in {each.kind for each in erasure.not_reached}


def test_one_on_a_medium_that_was_taken_out_is_listed(tmp_path: Path, make: Make) -> None:
    made = make(tmp_path / "box")
    part = left_by_export(made)
    part.parent.rename(tmp_path / "taken out")
    left = {each.what: each.why for each in erase(made).not_reached if each.kind == "export"}
    assert "is not there" in left[str(part)]
    (tmp_path / "taken out").rename(part.parent)
    assert not [each for each in erase(made).not_reached if each.kind == "export"]
    assert not part.exists()


@pytest.mark.parametrize("what", ["link", "folder in it", "another name", "written to"])
def test_what_no_killed_export_leaves_is_listed_and_left_alone(
    tmp_path: Path, make: Make, what: str
) -> None:
    made = make(tmp_path / "box")
    part = left_by_export(made)
    fd = -1
    if what == "link":
        part.rename(part.with_name("elsewhere"))
        part.symlink_to(part.with_name("elsewhere"))
    elif what == "folder in it":
        (part / "more").mkdir()
    elif what == "another name":
        notes = RecordingNotes(made.folder, "csv", clock=SystemClock(), disk=DISK)
        (part.parent / "photos").mkdir()
        (part.parent / "photos" / "one").write_bytes(b"not of an export")
        notes.begins(info_of("p2").stream_id, part.parent / "photos")
    else:
        fd = os.open(next(part.iterdir()), os.O_WRONLY)
    try:
        erasure = erase(made)
    finally:
        if fd >= 0:
            os.close(fd)
    left = [each.what for each in erasure.not_reached if each.kind == "export"]
    if what == "another name":
        assert left == [str(part.parent / "photos")]
        assert (part.parent / "photos" / "one").read_bytes() == b"not of an export"
        assert not part.exists()
    else:
        assert left == [str(part)]
        assert any(
            each.is_file() and each.read_bytes() == b"plain rows of p2" for each in part.iterdir()
        )


def test_killed_at_any_call_to_the_disk_the_next_run_removes_it(tmp_path: Path, make: Make) -> None:
    at = 0
    while True:
        made = make(tmp_path / str(at) / "box")
        part = left_by_export(made)
        disk = FaultyDisk(at=at, fault="kill")
        is_dead = False
        try:
            erase(made, disk)
        except Killed:
            is_dead = True
        disk.bury()
        again = erase(made)
        assert not part.exists(), at
        assert str(part) in [each.what for each in again.erased], at
        if not is_dead:
            break
        at += 4
    assert at > 20
