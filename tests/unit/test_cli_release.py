"""`export --to` and `release`, with a folder that passes for a medium."""

import json
import shutil
from pathlib import Path

import pytest

from brainforge_edge.cli import main as cli
from brainforge_edge.core.errors import ExitStatus
from brainforge_edge.recorder import medium
from brainforge_edge.recorder.exports import COPY, read_notes
from brainforge_edge.recorder.freed import RELEASED_FILE
from brainforge_edge.recorder.medium import Place
from brainforge_edge.storage.audit import AUDIT_FILE
from brainforge_edge.storage.files import SystemDisk
from tests.unit.retention_material import Stand

ALL = ["0001.seg", "0002.seg", "0003.seg", "0004.seg"]


@pytest.fixture
def stick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "stick"
    folder.mkdir()

    def look(path: Path) -> Place:
        return Place(2 if path.is_relative_to(folder) else 1, "vfat", "")

    monkeypatch.setattr(medium, "place_of", look)
    return folder


def test_the_two_commands_and_what_the_audit_file_keeps_of_them(
    tmp_path: Path, stick: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path = tmp_path / "box"
    stand = Stand(tmp_path)
    stand.close()
    size = sum(entry.size for entry in stand.chain)
    assert cli.main(["export", str(stand.folder), "--to", str(stick)]) == ExitStatus.OK
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{stick}/rec-1: 4 segments, {size} bytes, read back and the same"
    (note,) = read_notes(stand.folder, SystemDisk())  # an erasure is to name the copy
    assert (note.path, note.format) == (f"{stick}/rec-1", COPY)
    command = said[1].partition("brainforge-edge ")[2].split()
    wrong = [*command[:-1], "ffffffff"]
    assert cli.main(wrong) == ExitStatus.SESSION
    assert "is not the code of that copy" in capsys.readouterr().err
    assert cli.main(command) == ExitStatus.OK
    assert "4 segments freed" in capsys.readouterr().out
    assert stand.here == []
    assert cli.main(["verify", str(tmp_path)]) == ExitStatus.OK
    said = capsys.readouterr().out.splitlines()
    assert "    freed: 4 segments, copied to a medium and released; rows 1:0–160, 1:180–340" in said  # fmt: skip
    assert "audit.log: 3 lines, each follows from the one before" in said
    steps = [json.loads(line) for line in (tmp_path / AUDIT_FILE).read_text().splitlines()]
    assert [step["step"] for step in steps] == ["copied", "released", "freed"]
    assert all(step["facts"]["medium"] == str(stick) for step in steps)
    assert cli.main(["verify", str(stick / "rec-1")]) == ExitStatus.OK


def test_the_commands_refuse_in_one_sentence(
    tmp_path: Path, stick: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stand = Stand(tmp_path)
    stand.close()
    folder = str(stand.folder)
    assert cli.main(["export", folder]) == ExitStatus.USAGE
    assert cli.main(["export", folder, "--to", str(stick), "--format", "csv"]) == ExitStatus.USAGE
    assert cli.main(["export", folder, "--to", str(tmp_path)]) == ExitStatus.STORAGE
    assert cli.main(["export", folder, "--to", str(stick / "none")]) == ExitStatus.STORAGE
    assert cli.main(["release", folder, "--medium", str(stick), "--confirm", "1"]) == ExitStatus.STORAGE  # fmt: skip
    said = capsys.readouterr().err
    assert said.count("\n") == 5
    for words in ("on the disk of the recordings", "there is no such folder", "was read back"):
        assert words in said
    assert stand.here == ALL


def test_a_second_release_says_that_nothing_is_left_and_adds_no_lines(
    tmp_path: Path, stick: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stand = Stand(tmp_path / "box")
    stand.close()
    assert cli.main(["export", str(stand.folder), "--to", str(stick)]) == ExitStatus.OK
    command = capsys.readouterr().out.splitlines()[1].partition("brainforge-edge ")[2].split()
    assert cli.main(command) == ExitStatus.OK
    files = [stand.root / AUDIT_FILE, stand.folder / RELEASED_FILE, stand.folder / "freed"]
    before = [path.read_bytes() for path in files]
    capsys.readouterr()
    assert cli.main(command) == ExitStatus.OK
    assert capsys.readouterr().out == "rec-1: nothing is left to free\n"
    assert cli.main([*command, "--json"]) == ExitStatus.OK
    assert json.loads(capsys.readouterr().out)["freed"] == 0
    assert [path.read_bytes() for path in files] == before


def test_a_recording_that_lies_elsewhere_is_copied_without_an_audit_file_and_never_released(
    tmp_path: Path, stick: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stand = Stand(tmp_path / "box")
    stand.close()
    other = tmp_path / "usb" / "rec-1"
    shutil.copytree(stand.folder, other)
    assert cli.main(["export", str(other), "--to", str(stick)]) == ExitStatus.OK
    assert "nothing can be released here" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["box", "stick", "usb"]
    arguments = ["release", str(other), "--medium", str(stick), "--confirm", "1"]
    assert cli.main(arguments) == ExitStatus.STORAGE
    assert "not among the recordings of a box" in capsys.readouterr().err
    arguments[1] = str(stand.recordings / "none")
    assert cli.main(arguments) == ExitStatus.STORAGE
    assert "there is no such folder" in capsys.readouterr().err
