"""Streams as no device of ours makes them: each format holds them, or refuses with the reason.

Read back by programs that are not ours: MNE, pyxdf, pyarrow, and Python's own csv.
"""

import csv
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cbor2
import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
import pyxdf
from numpy.typing import NDArray

from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.stream import ChannelInfo, Dtype, StreamInfo
from brainforge_edge.emulators.source import optical_channels
from brainforge_edge.export.formats import FORMATS, export_recording
from brainforge_edge.recorder.chunk import Chunk
from brainforge_edge.recorder.cut import make_chunk
from tests.unit.bids_material import ANNA, CYTON, add_segment, close, device_stream
from tests.unit.export_brainvision_test import KILLED
from tests.unit.export_test import DISK, expected, markers, recording
from tests.unit.recorder_box import encode
from tests.unit.recorder_material import IDENTITY, NO_FLAGS, stream, t_of

LINES = ("bdf", "edf", "fif", "brainvision")  # formats that MNE reads as a line of rows
ODD_NAMES = [
    ("left-frontal-polar-1", "left-frontal-polar-2"),
    ("Ü1", "🧠"),
    ("", " "),
    ("A", "A"),
    ("A\tb", "A\nb"),
    ("A\x00", "\x7fA"),
    (" A", "A "),
    ("1 A", "A"),
    ("EDF Annotations", "BDF Annotations"),
    ("t_ns", "seq"),
    ("n/a", '"A,'),
    ("A\r", "A\x85b"),
]


def eeg(names: Sequence[str] = ("A", "B"), **changes: Any) -> StreamInfo:
    channel = ChannelInfo("", "eeg", "V", 1e-6)
    own = {key: changes.pop(key) for key in ("scale", "offset", "unit") if key in changes}
    channels = [msgspec.structs.replace(channel, name=name, **own) for name in names]
    return device_stream("dev-eeg", channels, **changes)


def made(root: Path, info: StreamInfo, rows: NDArray[Any], *more: Chunk) -> Path:
    data = np.ascontiguousarray(rows.astype(info.dtype.memory))
    packed = data.tobytes()
    if info.dtype is Dtype.I24:
        packed = data.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    chunk = make_chunk(
        packed, info=info, number=1, identity=IDENTITY, incarnation=1, seq=0,
        t_first_ns=t_of(info, 0), flags=NO_FLAGS, gap=None, encode=encode,
    )  # fmt: skip
    add_segment(root, info, ANNA, [chunk, *more])
    return close(root)


def counts(n_rows: int = 30, n_channels: int = 2) -> NDArray[np.int64]:
    return np.arange(n_rows * n_channels).reshape(n_rows, n_channels) % 20_000


def _file(folder: Path, format_name: str) -> Path:
    target = folder.parent / format_name
    return export_recording(folder, format_name=format_name, target=target, disk=DISK).files[-1]


def _read(folder: Path, format_name: str) -> Any:
    path = _file(folder, format_name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mne  # noqa: PLC0415

        readers: dict[str, Callable[..., Any]] = {
            "bdf": mne.io.read_raw_bdf, "edf": mne.io.read_raw_edf, "fif": mne.io.read_raw_fif,
            "brainvision": mne.io.read_raw_brainvision, "snirf": mne.io.read_raw_snirf,
        }  # fmt: skip
        return readers[format_name](path, preload=True, verbose="ERROR")


@pytest.mark.parametrize("sfreq", [10.0, 125.0])
def test_bdf_is_read_by_a_program_that_did_not_write_it(tmp_path: Path, sfreq: float) -> None:
    info = stream("eeg", dtype=Dtype.I24, sfreq=sfreq, n_channels=3)
    raw = _read(recording(tmp_path, info), "bdf")
    line = expected(info)
    assert raw.ch_names == info.ch_names
    assert raw.info["sfreq"] == sfreq
    found = raw.get_data().T[: len(line)] / 1e-6
    # The header has 8 characters for the ends of a range, hence not the last digit of a value.
    assert np.abs(found - line).max() < 2
    notes = [(round(n["onset"] * sfreq), n["description"]) for n in raw.annotations]
    assert notes[:3] == [(20, "eyes closed"), (60, "BAD_ACQ_SKIP"), (103, "BAD_ACQ_SKIP")]


@pytest.mark.parametrize("names", ODD_NAMES)
def test_names_that_a_format_has_no_letters_for_are_changed_and_stay_apart(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    rows = counts()
    folder = made(tmp_path, eeg(names), rows)
    for format_name in LINES:
        raw = _read(folder, format_name)
        assert len(set(raw.ch_names)) == 2
        assert all(name == " ".join(name.split()) != "" for name in raw.ch_names)
        assert np.allclose(raw.get_data().T[:30] / 1e-6, rows, atol=0.51)
    table = pq.read_table(_file(folder, "parquet"))
    assert len(set(table.column_names)) == 6
    lines = _file(folder, "csv").read_text(encoding="utf-8").split("\n")
    assert [line[0] for line in lines[:3]] == ["#", "#", "t"]
    assert {len(row) for row in csv.reader(lines[2:-1])} == {5}
    (samples,) = pyxdf.load_xdf(_file(folder, "xdf"), dejitter_timestamps=False)[0]
    assert np.array_equal(samples["time_series"], rows)


@pytest.mark.parametrize("format_name", LINES)
@pytest.mark.parametrize("scale", [float("nan"), float("inf"), 0.0])
def test_numbers_without_a_value_are_refused_where_values_are_written(
    tmp_path: Path, format_name: str, scale: float
) -> None:
    folder = made(tmp_path, eeg(scale=scale, dtype=Dtype.I16), counts())
    with pytest.raises(StorageError, match=r"no value\. Export it as csv or parquet") as caught:
        _file(folder, format_name)
    assert caught.value.code == "storage.export_misfit"
    assert pq.read_table(_file(folder, "parquet")).num_rows == 30


@pytest.mark.parametrize(
    ("format_name", "changes", "why"),
    [
        ("edf", {"scale": 1e-30}, "8 characters for each end of a channel's range"),
        ("edf", {"scale": 1e300}, "8 characters for each end of a channel's range"),
        ("bdf", {"offset": 1e9}, "8 characters for each end of a channel's range"),
        ("fif", {"scale": 1e-50}, "32-bit floats for scales"),
        ("fif", {"scale": 1e300}, "32-bit floats for scales"),
        ("edf", {"sfreq": 33.3333333}, "8 characters for a duration"),
        ("bdf", {"sfreq": 128.0000001}, "8 characters for a duration"),
    ],
)
def test_what_a_header_has_no_digits_for_is_refused(
    tmp_path: Path, format_name: str, changes: dict[str, Any], why: str
) -> None:
    folder = made(tmp_path, eeg(**({"dtype": Dtype.I16} | changes)), counts())
    with pytest.raises(StorageError, match=why) as caught:
        _file(folder, format_name)
    assert caught.value.code == "storage.export_misfit"


@pytest.mark.parametrize("format_name", LINES)
def test_a_negative_scale_turns_a_channel_round(tmp_path: Path, format_name: str) -> None:
    """As in the accelerometer of a Ganglion."""
    raw = _read(made(tmp_path, eeg(scale=-1e-6, dtype=Dtype.I16), counts()), format_name)
    assert np.allclose(raw.get_data().T[:30] / -1e-6, counts(), atol=0.01)


@pytest.mark.parametrize("format_name", ["bdf", "edf", "brainvision"])
@pytest.mark.parametrize("sfreq", [249.99, 1 / 3, 0.1, 7.7, 512.5, 16_000.0, 99_999.0])
def test_rates_that_are_no_whole_numbers_come_back(
    tmp_path: Path, format_name: str, sfreq: float
) -> None:
    raw = _read(made(tmp_path, eeg(sfreq=sfreq, dtype=Dtype.I16), counts()), format_name)
    assert raw.info["sfreq"] == pytest.approx(sfreq, rel=1e-12)
    assert np.allclose(raw.get_data().T[:30] / 1e-6, counts(), atol=0.01)


def test_a_record_stays_as_short_as_can_be_with_many_channels(tmp_path: Path) -> None:
    info = eeg([f"C{k:03d}" for k in range(306)], sfreq=16_000.0, dtype=Dtype.I16)
    raw = _read(made(tmp_path, info, counts(200, 306)), "bdf")
    assert raw.n_times == 320
    assert np.allclose(raw.get_data().T[:200] / 1e-6, counts(200, 306), atol=0.01)


@pytest.mark.parametrize("dtype", [Dtype.F32, Dtype.F64])
def test_nan_and_infinity_come_back_where_floats_are_held(tmp_path: Path, dtype: Dtype) -> None:
    rows = counts().astype(float)
    rows[3, 0], rows[4, 0], rows[5, 1] = np.nan, np.inf, -np.inf
    folder = made(tmp_path, eeg(scale=1.0, dtype=dtype), rows)
    for format_name in ("fif", "brainvision") if dtype is Dtype.F32 else ("fif",):
        assert np.allclose(_read(folder, format_name).get_data().T, rows, equal_nan=True)
    table = pq.read_table(_file(folder, "parquet"))
    assert np.array_equal(table["A"].to_numpy(), rows[:, 0], equal_nan=True)
    (samples,) = pyxdf.load_xdf(_file(folder, "xdf"), dejitter_timestamps=False)[0]
    assert np.array_equal(samples["time_series"], rows, equal_nan=True)
    for format_name in ("bdf", "edf"):
        with pytest.raises(StorageError, match="not integers"):
            _file(folder, format_name)


def test_a_unit_that_is_not_given_is_not_taken_for_microvolts(tmp_path: Path) -> None:
    raw = _read(made(tmp_path, eeg(scale=1.0, unit=""), counts()), "brainvision")
    assert np.array_equal(raw.get_data().T, counts())


@pytest.mark.parametrize("format_name", LINES)
def test_markers_outside_the_rows_and_with_odd_texts_are_there(
    tmp_path: Path, format_name: str
) -> None:
    info = eeg(dtype=Dtype.I16)
    texts = [(-500, "before"), (12, '\tq\n"x"\0\x14🧠'), (13, "n/a"), (29, "last"), (900, "behind")]
    said = [[t_of(info, row), 0.0, text] for row, text in texts]
    noted = replace(markers(info), body=cbor2.dumps(said))
    raw = _read(made(tmp_path, info, counts(), noted), format_name)
    found = [n["description"].removeprefix("Comment/") for n in raw.annotations]
    rows = [round(n["onset"] * 100) for n in raw.annotations]
    assert "🧠" in found[rows.index(12)] or "&#129504;" in found[rows.index(12)]
    assert {"before", "n/a", "last"} <= set(found)
    assert rows[found.index("before")] == 0
    if format_name in {"fif", "brainvision"}:  # in the others it has its time, which MNE leaves out
        assert rows[found.index("behind")] == 29


@pytest.mark.parametrize("format_name", FORMATS)
def test_one_row_is_a_recording(tmp_path: Path, format_name: str) -> None:
    light = device_stream("fnirs-flow", optical_channels(2, "flow"), sfreq=10.0, dtype=Dtype.I16)
    folder = made(tmp_path, light, counts(1))
    if format_name in {*LINES, "snirf"}:
        assert np.allclose(_read(folder, format_name).get_data().T[:1] / 1e-6, counts(1), atol=0.01)
    else:
        assert _file(folder, format_name).stat().st_size


def test_a_fif_file_does_not_say_on_which_machine_it_was_made(tmp_path: Path) -> None:
    from uuid import getnode  # noqa: PLC0415 - as mne finds it

    data = _file(made(tmp_path, CYTON, counts(9, 4)), "fif").read_bytes()
    assert getnode().to_bytes(6, "big")[::-1] not in data
    assert getnode().to_bytes(6, "big") not in data


@pytest.mark.parametrize("format_name", ["bdf", "edf", "fif", "snirf", "csv"])
def test_a_kill_leaves_no_half_file_under_its_name(tmp_path: Path, format_name: str) -> None:
    light = device_stream("fnirs-flow", optical_channels(2, "flow"), sfreq=10.0, dtype=Dtype.I16)
    folder, out = made(tmp_path, light, counts()), tmp_path / "out"
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, folder, out, "0", format_name],
        env=dict(os.environ), cwd=Path(__file__).parents[2], check=False,
    )  # fmt: skip
    assert ended.returncode == -signal.SIGKILL
    assert not [path for path in out.iterdir() if path.is_file()]
