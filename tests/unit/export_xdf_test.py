"""XDF exports, read by pyxdf."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import pyxdf

from brainforge_edge.core.clock import Anchor
from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.stream import Dtype, StreamInfo
from brainforge_edge.export.formats import export_recording
from brainforge_edge.recorder.catalog import RecordingFile, write_recording_file
from brainforge_edge.recorder.segment import SegmentWriter
from tests.unit.export_test import DISK, chunk, recording
from tests.unit.recorder_material import IDENTITY, rows_of, seeded, stream, t_of

KINDS = {
    Dtype.I16: "int16", Dtype.I24: "int32", Dtype.I32: "int32",
    Dtype.F32: "float32", Dtype.F64: "float64",
}  # fmt: skip


def _read(folder: Path, target: Path) -> list[dict[str, Any]]:
    (path,) = export_recording(folder, format_name="xdf", target=target, disk=DISK).files
    streams, header = pyxdf.load_xdf(path, dejitter_timestamps=False)
    assert header["info"]["version"] == ["1.0"]
    return sorted(streams, key=lambda each: int(each["info"]["stream_id"]))


def _with(info: StreamInfo, **changes: Any) -> StreamInfo:
    channels = tuple(msgspec.structs.replace(channel, **changes) for channel in info.channels)
    return msgspec.structs.replace(info, channels=channels)


@pytest.mark.parametrize("dtype", list(Dtype))
def test_xdf_holds_every_row_as_it_was_recorded(tmp_path: Path, dtype: Dtype) -> None:
    info = stream("eeg", dtype=dtype, n_channels=3)
    samples, _ = _read(recording(tmp_path, info), tmp_path / "out")
    parts = [rows_of(info, 0, 60), rows_of(info, 90, 13), rows_of(info, 0, 10)]
    assert samples["time_series"].dtype == KINDS[dtype]
    assert np.array_equal(samples["time_series"], np.concatenate(parts))


@pytest.mark.parametrize("sfreq", [10.0, 250.0, 8000.0])
def test_times_in_xdf_are_the_box_clocks_within_a_microsecond(tmp_path: Path, sfreq: float) -> None:
    info = stream("eeg", sfreq=sfreq)
    samples, _ = _read(recording(tmp_path, info), tmp_path / "out")
    restart = t_of(info, 103) + 1_000_000_000
    expected = [t_of(info, seq) for seq in [*range(60), *range(90, 103)]]
    expected += [restart + round(seq * 1e9 / sfreq) for seq in range(10)]
    assert np.abs(samples["time_stamps"] - np.array(expected) / 1e9).max() < 1e-6


def test_markers_in_xdf_are_strings_on_the_same_clock(tmp_path: Path) -> None:
    info = stream("eeg")
    _, markers = _read(recording(tmp_path, info), tmp_path / "out")
    assert markers["time_series"] == [["eyes closed"]]
    assert markers["time_stamps"][0] == pytest.approx(t_of(info, 20) / 1e9, abs=1e-6)
    told = markers["info"]
    assert (told["type"], told["nominal_srate"]) == (["Markers"], ["0"])
    assert told["desc"][0]["durations"][0]["duration_s"] == ["1.5"]


def test_xdf_says_what_the_numbers_mean(tmp_path: Path) -> None:
    info = _with(stream("eeg"), name="F<z> & \x01µ")
    folder = recording(tmp_path, info, participant="p-anna")
    samples, _ = _read(folder, tmp_path / "out")
    told = samples["info"]
    assert (told["name"], told["type"]) == (["dev-eeg"], ["EEG"])
    assert told["desc"][0]["participant"] == ["p-anna"]
    channel = told["desc"][0]["channels"][0]["channel"][0]
    assert channel == {
        "label": ["F<z> &  µ"], "type": ["EEG"], "unit": ["count"],
        "physical_unit": ["V"], "scale": ["1e-06"], "offset": ["0.0"],
    }  # fmt: skip
    footer = samples["footer"]["info"]
    assert footer["sample_count"] == ["83"]
    assert float(footer["first_timestamp"][0]) == samples["time_stamps"][0]
    assert float(footer["last_timestamp"][0]) == samples["time_stamps"][-1]


def test_numbers_that_are_in_their_unit_already_say_so(tmp_path: Path) -> None:
    info = _with(stream("eeg", dtype=Dtype.F32), scale=1.0)
    samples, _ = _read(recording(tmp_path, info), tmp_path / "out")
    channel = samples["info"]["desc"][0]["channels"][0]["channel"][0]
    assert (channel["unit"], "scale" in channel) == (["V"], False)


def test_a_stream_of_raw_bytes_is_no_xdf(tmp_path: Path) -> None:
    info = _with(stream("eeg"), type="raw")
    folder = recording(tmp_path, info)
    with pytest.raises(StorageError, match=r"own bytes.*csv or parquet") as caught:
        export_recording(
            folder, format_name="xdf", target=tmp_path / "out", disk=DISK, stream_id=info.stream_id
        )
    assert caught.value.code == "storage.export_misfit"


def test_a_recording_over_a_restart_of_the_box_is_no_xdf(tmp_path: Path) -> None:
    info = stream("eeg")
    for number, boot in enumerate(("boot-1", "boot-2"), 1):
        anchor = Anchor(boot, 1_000_000_000, 1_800_000_000_000_000_000 + number * 10**11, 500)
        identity = msgspec.structs.replace(IDENTITY, anchors=(anchor,))
        writer = SegmentWriter.create(
            tmp_path / "rec-1" / info.stream_id, number, info=info, number=1, identity=identity,
            size=200_000, disk=DISK, random=seeded(number),
        )  # fmt: skip
        writer.append(chunk(info, 0, 10, incarnation=number))
        writer.close()
    write_recording_file(tmp_path, RecordingFile("rec-1", None, "node-1", closed=True), DISK)
    with pytest.raises(StorageError, match=r"started again.*its clock.*bdf or parquet") as caught:
        export_recording(tmp_path / "rec-1", format_name="xdf", target=tmp_path / "out", disk=DISK)
    assert caught.value.code == "storage.export_misfit"
    assert not list((tmp_path / "out").iterdir())
