"""SNIRF exports, read by MNE and, field by field, as plain HDF5."""

import sys
import warnings
from pathlib import Path
from typing import Any

import h5py
import msgspec
import numpy as np
import pytest

from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.stream import Dtype, StreamInfo
from brainforge_edge.emulators.source import optical_channels
from brainforge_edge.export.formats import export_recording
from brainforge_edge.export.recording import read_parts
from tests.unit.export_test import DISK, expected, recording
from tests.unit.recorder_material import stream


def light(group: str = "flow", dtype: Dtype = Dtype.I24, sfreq: float = 10.0) -> StreamInfo:
    info = stream("flow", dtype=dtype, sfreq=sfreq, n_channels=4)
    return msgspec.structs.replace(info, channels=optical_channels(4, group))


def _export(folder: Path, target: Path) -> Path:
    (path,) = export_recording(folder, format_name="snirf", target=target, disk=DISK).files
    return path


def _read(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mne  # noqa: PLC0415
    return mne.io.read_raw_snirf(path, preload=True, verbose="ERROR")


@pytest.mark.parametrize("dtype", [Dtype.I16, Dtype.I24, Dtype.I32])
@pytest.mark.parametrize("sfreq", [10.0, 50.0])
def test_snirf_holds_the_light_as_it_was_recorded(
    tmp_path: Path, dtype: Dtype, sfreq: float
) -> None:
    info = light(dtype=dtype, sfreq=sfreq)
    raw = _read(_export(recording(tmp_path, info), tmp_path / "out"))
    assert raw.ch_names == info.ch_names
    assert set(raw.get_channel_types()) == {"fnirs_cw_amplitude"}
    assert raw.info["sfreq"] == pytest.approx(sfreq, rel=1e-12)
    integers = raw.get_data() / 1e-6
    assert np.array_equal(np.rint(integers).astype(int), expected(info).T)
    assert np.abs(integers - np.rint(integers)).max() < 1e-5


def test_snirf_names_gaps_markers_participant_and_start(tmp_path: Path) -> None:
    info = light()
    folder = recording(tmp_path, info, participant="p-anna")
    raw = _read(_export(folder, tmp_path / "out"))
    found = sorted((n["onset"], n["duration"], n["description"]) for n in raw.annotations)
    assert found == [
        (2.0, 1.5, "eyes closed"), (6.0, 3.0, "BAD_ACQ_SKIP"), (10.3, 1.0, "BAD_ACQ_SKIP"),
    ]  # fmt: skip
    assert raw.info["subject_info"]["his_id"] == "p-anna"
    (rows,) = read_parts(folder, info.stream_id, DISK)
    assert rows.utc_ns is not None
    assert raw.info["meas_date"].timestamp() == pytest.approx(rows.utc_ns / 1e9, abs=1e-6)


def test_optodes_lie_where_the_helmet_says(tmp_path: Path) -> None:
    info = light()
    path = _export(recording(tmp_path, info), tmp_path / "out")
    for channel, found in zip(info.channels, _read(path).info["chs"], strict=True):
        assert isinstance(channel.detail, msgspec.Struct)
        assert found["loc"][3:6] == pytest.approx(channel.detail.source_m)
        assert found["loc"][6:9] == pytest.approx(channel.detail.detector_m)
        assert found["loc"][9] == channel.detail.wavelength_nm


def test_every_field_that_the_format_requires_is_there(tmp_path: Path) -> None:
    info = light()
    with h5py.File(_export(recording(tmp_path, info), tmp_path / "out")) as file:
        assert file["formatVersion"][()] == b"1.1"
        nirs = file["nirs"]
        assert set(nirs["metaDataTags"]) == {
            "SubjectID", "MeasurementDate", "MeasurementTime", "LengthUnit", "TimeUnit",
            "FrequencyUnit",
        }  # fmt: skip
        assert nirs["data1/time"][:].tolist() == [0.0, 0.1]
        assert nirs["data1/dataTimeSeries"].shape == (len(expected(info)), 4)
        for k in range(1, 5):
            assert set(nirs[f"data1/measurementList{k}"]) == {
                "sourceIndex", "detectorIndex", "wavelengthIndex", "dataType", "dataTypeIndex",
                "dataUnit",
            }  # fmt: skip
        assert nirs["probe/wavelengths"][:].tolist() == [760.0, 850.0]
        assert [label.decode() for label in nirs["probe/sourceLabels"]] == ["S1"]
        assert [label.decode() for label in nirs["probe/detectorLabels"]] == ["D1", "D2"]
        assert nirs["stim1/data"].shape[1] == 3


@pytest.mark.parametrize(
    ("info", "why"),
    [
        (stream("eeg"), "is eeg, and this export holds amplitudes of light alone"),
        (light("flux"), "is fnirs_fd_phase, and"),
        (
            msgspec.structs.replace(
                light(),
                channels=tuple(
                    msgspec.structs.replace(channel, detail=msgspec.UNSET)
                    for channel in light().channels
                ),
            ),
            "has no wavelength, or its optodes no places",
        ),
    ],
)
def test_what_is_no_light_of_known_optodes_is_no_snirf(
    tmp_path: Path, info: StreamInfo, why: str
) -> None:
    folder = recording(tmp_path, info)
    with pytest.raises(StorageError, match=f"{why}.*Export it as parquet or fif") as caught:
        _export(folder, tmp_path / "out")
    assert caught.value.code == "storage.export_misfit"
    assert not list((tmp_path / "out").iterdir())


def test_without_h5py_the_refusal_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = recording(tmp_path, light())
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(StorageError, match=r"h5py is not installed.*brainforge-edge\[export\]"):
        _export(folder, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
