"""Every exported file is noted in its recording, so that an erasure finds it, whatever the format."""

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from brainforge_edge.cli.export import FORMATS, export
from brainforge_edge.core.stream import Dtype
from brainforge_edge.emulators.source import optical_channels
from brainforge_edge.export import formats
from brainforge_edge.recorder.exports import read_notes
from tests.unit.export_test import DISK, recording
from tests.unit.recorder_material import stream


@pytest.mark.parametrize("file_format", FORMATS)
def test_each_file_of_an_export_is_noted_with_its_size_and_time(
    tmp_path: Path, file_format: str
) -> None:
    info = stream("flow", dtype=Dtype.I16, n_channels=4)
    info = msgspec.structs.replace(info, channels=optical_channels(4, "flow"))
    folder = recording(tmp_path, info, participant="p-anna")
    arguments = [str(folder), "--output", str(tmp_path / "out"), "--format", file_format]
    done = CliRunner().invoke(export, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["noted"] is True
    notes = read_notes(folder, DISK)
    assert sorted(note.path for note in notes) == sorted(told["files"])
    assert len(notes) == (3 if file_format == "brainvision" else 1)
    for note in notes:
        found = Path(note.path).stat()
        assert (note.size, note.mtime_ns) == (found.st_size, found.st_mtime_ns)
        assert (note.format, note.stream_id) == (file_format, "dev-flow")
        assert note.participants == ("p-anna",)


def test_the_command_offers_every_format_that_there_is() -> None:
    assert FORMATS == formats.FORMATS
