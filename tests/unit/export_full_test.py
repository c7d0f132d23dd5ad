"""Exports where a file cannot grow any more, as on a full disk."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from brainforge_edge.emulators.source import optical_channels
from tests.unit.export_test import recording
from tests.unit.recorder_material import stream

LIMITED = """
import resource, sys
from pathlib import Path
from brainforge_edge.core.errors import StorageError
from brainforge_edge.export.formats import export_recording
from brainforge_edge.storage.files import SystemDisk
if sys.argv[3] == "parquet":
    import pyarrow.parquet
if sys.argv[3] == "snirf":
    import h5py
most = int(sys.argv[4])
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
try:
    export_recording(Path(sys.argv[1]), format_name=sys.argv[3], target=Path(sys.argv[2]), disk=SystemDisk())
except StorageError as error:
    print(error.code)
"""


@pytest.mark.parametrize("most", [0, 500, 900])
@pytest.mark.parametrize("format_name", ["csv", "parquet", "brainvision", "xdf", "snirf"])
def test_an_export_that_finds_no_room_says_so_and_leaves_nothing(
    tmp_path: Path, format_name: str, most: int
) -> None:
    info = stream("flow", n_channels=4)
    info = msgspec.structs.replace(info, channels=optical_channels(4, "flow"))
    folder, out = recording(tmp_path, info), tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, folder, out, format_name, str(most)],
        env=dict(os.environ), cwd=Path(__file__).parents[2], check=False, capture_output=True,
        text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, "storage.export_write"), done.stderr
    assert not list(out.iterdir())
