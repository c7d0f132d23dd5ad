"""EDF exports, read by MNE: integers come back exactly, or the loss was asked for."""

import warnings
from pathlib import Path
from typing import Any

import edfio
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from brainforge_edge.cli.export import export
from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.stream import Dtype
from brainforge_edge.export.formats import export_recording
from tests.unit.export_test import DISK, expected, recording
from tests.unit.recorder_material import stream


def _export(folder: Path, target: Path, *, is_lossy: bool = False) -> Path:
    (path,) = export_recording(
        folder, format_name="edf", target=target, disk=DISK, is_lossy=is_lossy
    ).files
    return path


def _read(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mne  # noqa: PLC0415
    return mne.io.read_raw_edf(path, preload=True, verbose="ERROR")


@pytest.mark.parametrize("sfreq", [10.0, 125.0, 1000.0])
def test_edf_holds_16_bit_integers_and_names_the_gaps(tmp_path: Path, sfreq: float) -> None:
    info = stream("eeg", dtype=Dtype.I16, sfreq=sfreq, n_channels=3)
    path = _export(recording(tmp_path, info), tmp_path / "out")
    line, raw = expected(info), _read(path)
    assert raw.ch_names == info.ch_names
    assert raw.info["sfreq"] == sfreq
    integers = raw.get_data()[:, : len(line)] / 1e-6
    assert np.array_equal(np.rint(integers).astype(int), line.T)
    found = [(round(n["onset"] * sfreq), n["description"]) for n in raw.annotations]
    assert found[:3] == [(20, "eyes closed"), (60, "BAD_ACQ_SKIP"), (103, "BAD_ACQ_SKIP")]
    assert all(signal.prefiltering == "" for signal in edfio.read_edf(path).signals)


def test_wider_integers_are_refused_unless_the_loss_is_asked_for(tmp_path: Path) -> None:
    info = stream("eeg", dtype=Dtype.I24, n_channels=3)
    folder = recording(tmp_path, info)
    with pytest.raises(StorageError, match=r"lose up to 8 bits.*bdf, or give --lossy") as caught:
        _export(folder, tmp_path / "out")
    assert caught.value.code == "storage.export_misfit"
    assert not list((tmp_path / "out").iterdir())
    path = _export(folder, tmp_path / "out", is_lossy=True)
    signals = edfio.read_edf(path).signals
    assert {signal.prefiltering for signal in signals} == {"lowest 8 bits rounded off"}
    line = expected(info)
    integers = _read(path).get_data()[:, : len(line)].T / 1e-6
    assert np.abs(integers - line).max() <= 2**7 + 1


@pytest.mark.parametrize("lossy", [False, True])
@pytest.mark.parametrize(
    ("changes", "dtype", "why"),
    [
        ({"type": "mag", "unit": "T"}, Dtype.I24, "magnetic channels.*Export it as fif"),
        ({}, Dtype.F32, "F32, not integers.*fif or csv"),
    ],
)
def test_what_edf_cannot_hold_is_refused_whatever_is_asked_for(
    tmp_path: Path, changes: dict[str, Any], dtype: Dtype, why: str, lossy: bool
) -> None:
    plain = stream("eeg", dtype=dtype)
    channels = tuple(msgspec.structs.replace(channel, **changes) for channel in plain.channels)
    info = msgspec.structs.replace(plain, channels=channels)
    with pytest.raises(StorageError, match=why):
        _export(recording(tmp_path, info), tmp_path / "out", is_lossy=lossy)


def test_lossy_is_for_edf_alone(tmp_path: Path) -> None:
    folder = recording(tmp_path, stream("eeg"))
    out = tmp_path / "out"
    arguments = [str(folder), "--output", str(out), "--lossy", "--format"]
    refused = CliRunner().invoke(export, [*arguments, "bdf"])
    assert refused.exit_code == 2
    assert "--lossy goes with --format edf alone" in refused.stderr
    assert CliRunner().invoke(export, [*arguments, "edf"]).exit_code == 0
    assert [path.name for path in out.iterdir()] == ["rec-1_dev-eeg.edf"]
