"""`verify` and `repair` on recordings that are whole, damaged, crashed and in use."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from brainforge_edge.cli import main as cli
from brainforge_edge.core.errors import ExitStatus
from brainforge_edge.recorder.catalog import RecordingFile, read_recording, write_recording_file
from brainforge_edge.recorder.cut import make_chunk
from brainforge_edge.recorder.log import RecordingLog
from brainforge_edge.recorder.reader import iter_heads
from brainforge_edge.recorder.segment import SegmentWriter
from brainforge_edge.storage.files import SystemDisk
from tests.unit.recorder_box import Box, encode
from tests.unit.recorder_material import IDENTITY, NO_FLAGS, packed, seeded, stream, t_of

DISK = SystemDisk()
INFO = stream("eeg")


def _recording(root: Path) -> tuple[Path, Path]:
    """A closed one with 240 rows in three chunks: its folder and its segment."""
    writer = SegmentWriter.create(
        root / "rec-1" / INFO.stream_id,
        1,
        info=INFO,
        number=1,
        identity=IDENTITY,
        size=200_000,
        disk=DISK,
        random=seeded(),
    )
    for seq in (0, 80, 160):
        made = make_chunk(
            packed(INFO, seq, 80),
            info=INFO,
            number=1,
            identity=IDENTITY,
            incarnation=1,
            seq=seq,
            t_first_ns=t_of(INFO, seq),
            flags=NO_FLAGS,
            gap=None,
            encode=encode,
        )
        writer.append(made)
    writer.close()
    write_recording_file(root, RecordingFile("rec-1", None, "node-1", closed=True), DISK)
    return root / "rec-1", writer.path


def _json(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    return said


@pytest.mark.parametrize("below", ["", "rec-1"])
def test_a_whole_recording_is_clean_named_itself_or_by_its_root(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], below: str
) -> None:
    _recording(tmp_path)
    assert cli.main(["verify", str(tmp_path / below), "--json"]) == ExitStatus.OK
    said = _json(capsys)
    (stream_account,) = said["recordings"][0]["streams"]
    assert said["ok"]
    assert (stream_account["rows"], stream_account["spans"]) == (240, [[1, 0, 240]])


@pytest.mark.parametrize("damage", ["garbage", "absent"])
def test_repair_remakes_the_table_of_streams_from_their_segments(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    log = RecordingLog(tmp_path, disk=DISK, random=seeded())
    assert log.stream_number("other") == 1  # has no segment: its number may be given again
    table = tmp_path / "streams.json"
    table.write_text("{") if damage == "garbage" else table.unlink()
    folder, _ = _recording(tmp_path)
    assert cli.main(["repair", str(folder), "--json"]) == ExitStatus.OK
    assert _json(capsys)["streams_remade"] == []  # not while others may hold journals
    assert cli.main(["repair", str(tmp_path), "--json"]) == ExitStatus.OK
    assert _json(capsys)["streams_remade"] == [INFO.stream_id]
    again = RecordingLog(tmp_path, disk=DISK, random=seeded())
    assert again.stream_number(INFO.stream_id) == 1
    assert again.stream_number("other") == 2
    assert again.open_incarnation(INFO.stream_id, "") > 1000  # rings may know some of them
    before = table.read_bytes()
    assert cli.main(["repair", str(tmp_path), "--json"]) == ExitStatus.OK
    assert table.read_bytes() == before


def test_a_flipped_bit_is_named_by_file_offset_and_chunk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, segment = _recording(tmp_path)
    second = [located.offset for located in iter_heads(segment)][2]
    data = bytearray(segment.read_bytes())
    data[second + 200] ^= 1
    segment.write_bytes(data)
    assert cli.main(["verify", str(folder), "--json"]) == ExitStatus.FAILED
    (account,) = _json(capsys)["recordings"][0]["streams"]
    (damaged,) = account["damaged"]
    assert (damaged["file"], damaged["offset"], damaged["chunks"]) == (str(segment), second, [2])
    assert account["missing"] == [[1, 80, 160]]
    assert cli.main(["verify", str(folder)]) == ExitStatus.FAILED
    text = capsys.readouterr().out
    assert f"damaged chunk 2: {segment}, bytes {second}" in text
    assert text.endswith("damaged\n")


def test_a_torn_tail_is_named_then_cut_then_clean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, segment = _recording(tmp_path)
    segment.write_bytes(segment.read_bytes()[:-10])
    assert cli.main(["verify", str(folder), "--json"]) == ExitStatus.FAILED
    assert len(_json(capsys)["recordings"][0]["streams"][0]["torn"]) == 1
    assert cli.main(["repair", str(folder), "--json"]) == ExitStatus.OK
    assert len(_json(capsys)["recordings"][0]["cut"]) == 1
    assert cli.main(["verify", str(folder), "--json"]) == ExitStatus.OK
    assert _json(capsys)["recordings"][0]["streams"][0]["rows"] == 160


def test_what_a_crash_left_in_the_journal_is_archived_and_the_recording_closed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    box = Box(tmp_path, DISK)
    box.start()
    box.run(3)
    write_recording_file(tmp_path, RecordingFile("rec-1", None, "node-1"), DISK)
    held = box.journalled[1]
    del box  # the journal's descriptors would count as a recorder at work
    _close_files_below(tmp_path)
    assert cli.main(["repair", str(tmp_path / "rec-1"), "--json"]) == ExitStatus.OK
    assert _json(capsys)["recordings"][0]["rows_from_journal"]["dev-eeg"] == held > 0
    assert cli.main(["verify", str(tmp_path / "rec-1"), "--json"]) == ExitStatus.OK
    assert _json(capsys)["recordings"][0]["closed"]


def test_a_copy_under_another_name_is_repaired_and_its_neighbour_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    box = Box(tmp_path, DISK)
    box.start()
    box.run(3)
    write_recording_file(tmp_path, RecordingFile("rec-1", None, "node-1"), DISK)
    del box
    _close_files_below(tmp_path)
    shutil.copytree(tmp_path / "rec-1", tmp_path / "copy")
    assert cli.main(["repair", str(tmp_path / "copy")]) == ExitStatus.OK
    capsys.readouterr()
    assert cli.main(["verify", str(tmp_path / "copy"), "--json"]) == ExitStatus.OK
    assert _json(capsys)["recordings"][0]["closed"]
    assert not read_recording(tmp_path / "rec-1", DISK).is_closed
    output = tmp_path / "out"
    assert (
        cli.main(["export", str(tmp_path / "copy"), "--format", "csv", "--output", str(output)])
        == ExitStatus.OK
    )


def test_a_recording_in_use_is_not_repaired(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, segment = _recording(tmp_path)
    with segment.open("rb"):
        assert cli.main(["repair", str(folder)]) == ExitStatus.SESSION
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "has files of it open" in said


@pytest.mark.parametrize("verb", ["verify", "repair"])
def test_a_folder_that_is_no_recording_is_refused_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    assert cli.main([verb, str(tmp_path / "nowhere")]) == ExitStatus.STORAGE
    assert cli.main([verb, str(tmp_path)]) == ExitStatus.STORAGE
    assert capsys.readouterr().err.count("\n") == 2


def _close_files_below(folder: Path) -> None:
    """What the kernel does for a process that was killed."""
    for link in list(Path("/proc/self/fd").iterdir()):
        try:
            target = str(link.readlink())
        except OSError:
            continue
        if target.startswith(f"{folder}/"):
            os.close(int(link.name))
