"""BrainVision exports, read by MNE."""

import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.stream import Dtype, StreamInfo
from brainforge_edge.export import line
from brainforge_edge.export.formats import export_recording
from brainforge_edge.export.recording import read_parts
from brainforge_edge.storage.files import SystemDisk
from tests.unit.export_test import DISK, expected, recording
from tests.unit.recorder_material import stream

KILLED = """
import os, signal, sys
from pathlib import Path
from brainforge_edge.export.formats import export_recording
from brainforge_edge.storage.files import SystemDisk
real, left = Path.replace, [int(sys.argv[3])]
def replace(self, target):
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return real(self, target)
Path.replace = replace
export_recording(Path(sys.argv[1]), format_name=sys.argv[4], target=Path(sys.argv[2]), disk=SystemDisk())
"""


def _export(folder: Path, target: Path) -> list[Path]:
    return export_recording(folder, format_name="brainvision", target=target, disk=DISK).files


def _read(folder: Path, target: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mne  # noqa: PLC0415
    return mne.io.read_raw_brainvision(_export(folder, target)[-1], preload=True, verbose="ERROR")


def _with(info: StreamInfo, **changes: Any) -> StreamInfo:
    channels = tuple(msgspec.structs.replace(channel, **changes) for channel in info.channels)
    return msgspec.structs.replace(info, channels=channels)


@pytest.mark.parametrize("dtype", [Dtype.I16, Dtype.I24])
@pytest.mark.parametrize("sfreq", [10.0, 256.0, 1000.0])
def test_brainvision_holds_the_integers_as_they_were_recorded(
    tmp_path: Path, dtype: Dtype, sfreq: float
) -> None:
    info = stream("eeg", dtype=dtype, sfreq=sfreq, n_channels=3)
    raw = _read(recording(tmp_path, info), tmp_path / "out")
    assert raw.ch_names == info.ch_names
    assert raw.info["sfreq"] == pytest.approx(sfreq, rel=1e-12)
    integers = raw.get_data() / 1e-6
    assert np.array_equal(np.rint(integers).astype(int), expected(info).T)
    assert np.abs(integers - np.rint(integers)).max() < 1e-6
    on_disk = np.fromfile(
        tmp_path / "out" / "rec-1_dev-eeg.eeg", "<i2" if dtype is Dtype.I16 else "<f4"
    )
    assert np.array_equal(on_disk.reshape(-1, 3), expected(info))


def test_brainvision_names_gaps_markers_and_the_start(tmp_path: Path) -> None:
    info = stream("eeg", sfreq=250.0)
    raw = _read(recording(tmp_path, info), tmp_path / "out")
    found = [
        (round(n["onset"] * 250), round(n["duration"] * 250), n["description"])
        for n in raw.annotations
    ]
    assert found == [
        (20, 343, "Comment/eyes closed"),  # MNE ends it with the rows
        (60, 30, "Bad Interval/BAD_ACQ_SKIP"),
        (90, 1, "New Segment/"),
        (103, 250, "Bad Interval/BAD_ACQ_SKIP"),
        (353, 1, "New Segment/"),
    ]
    (rows,) = read_parts(tmp_path / "rec-1", info.stream_id, DISK)
    assert rows.utc_ns is not None
    assert raw.info["meas_date"].timestamp() == pytest.approx(rows.utc_ns / 1e9, abs=1e-6)


def test_a_long_gap_is_filled_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "FILL_ROWS", 7)
    info = stream("eeg", sfreq=250.0)
    raw = _read(recording(tmp_path, info), tmp_path / "out")
    assert np.array_equal(np.rint(raw.get_data() / 1e-6).astype(int), expected(info).T)


def test_commas_line_breaks_and_double_names_come_back_on_one_line(tmp_path: Path) -> None:
    info = _with(stream("eeg"), name="Fz, left\nµ")
    raw = _read(recording(tmp_path, info), tmp_path / "out")
    assert raw.ch_names == ["0 Fz, left µ", "1 Fz, left µ"]


@pytest.mark.parametrize(
    ("info", "why"),
    [
        (_with(stream(), type="mag", unit="T"), "magnetic channels.*Export it as fif"),
        (_with(stream(), type="raw"), "own bytes.*csv or parquet"),
        (_with(stream(), offset=1.0), "have an offset.*bdf or parquet"),
        (stream(dtype=Dtype.F64), "64-bit floats.*round.*fif or parquet"),
        (stream(dtype=Dtype.I32), "more than the 24 bits.*fif or parquet"),
    ],
)
def test_what_brainvision_cannot_hold_is_refused_with_the_reason(
    tmp_path: Path, info: StreamInfo, why: str
) -> None:
    folder = recording(tmp_path, info)
    with pytest.raises(StorageError, match=why) as caught:
        export_recording(
            folder, format_name="brainvision", target=tmp_path / "out", disk=DISK,
            stream_id=info.stream_id,
        )  # fmt: skip
    assert caught.value.code == "storage.export_misfit"
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("format_name", "n_moved", "left"),
    [
        ("brainvision", 0, set()),
        ("brainvision", 1, {"rec-1_dev-eeg.eeg"}),
        ("brainvision", 2, {"rec-1_dev-eeg.eeg", "rec-1_dev-eeg.vmrk"}),
        ("parquet", 0, set()),
        ("xdf", 0, set()),
    ],
)
def test_an_export_that_is_killed_leaves_nothing_that_looks_whole(
    tmp_path: Path, format_name: str, n_moved: int, left: set[str]
) -> None:
    folder, out = recording(tmp_path, stream("eeg")), tmp_path / "out"
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, folder, out, str(n_moved), format_name],
        env=dict(os.environ), cwd=Path(__file__).parents[2], check=False,
    )  # fmt: skip
    assert ended.returncode == -signal.SIGKILL
    assert {path.name for path in out.iterdir() if path.is_file()} == left
    with pytest.raises(StorageError, match="was cut off, or is going on") as caught:
        export_recording(folder, format_name=format_name, target=out, disk=DISK)
    assert caught.value.code == "storage.export_cut_off"


def test_no_file_of_another_export_is_replaced(tmp_path: Path) -> None:
    folder = recording(tmp_path, stream("eeg"))
    *_, header = _export(folder, tmp_path / "out")
    header.unlink()
    before = header.with_suffix(".eeg").stat().st_ino
    with pytest.raises(StorageError, match=r"\.eeg is there already"):
        _export(folder, tmp_path / "out")
    assert header.with_suffix(".eeg").stat().st_ino == before
    assert not header.exists()


def test_files_are_on_the_disk_before_the_first_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []

    class Watched(SystemDisk):
        def fdatasync(self, fd: int) -> None:
            steps.append("synced")
            super().fdatasync(fd)

        def fsync_folder(self, path: Path) -> None:
            steps.append(f"folder {path.name}")
            super().fsync_folder(path)

    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        steps.append(self.suffix)
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    folder, out = recording(tmp_path, stream("eeg")), tmp_path / "out"
    out.mkdir()
    export_recording(folder, format_name="brainvision", target=out, disk=Watched())
    assert steps[-7:] == ["synced"] * 3 + [".eeg", ".vmrk", ".vhdr", "folder out"]
