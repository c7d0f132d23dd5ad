"""Parquet exports, read by pyarrow alone."""

import json
import sys
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.stream import Dtype
from brainforge_edge.export import parquet
from brainforge_edge.export.formats import export_recording
from tests.unit.export_test import DISK, recording
from tests.unit.recorder_material import rows_of, stream, t_of

KINDS = {
    Dtype.I16: pa.int16(), Dtype.I24: pa.int32(), Dtype.I32: pa.int32(),
    Dtype.F32: pa.float32(), Dtype.F64: pa.float64(),
}  # fmt: skip


def _exported(folder: Path, target: Path) -> Path:
    (path,) = export_recording(folder, format_name="parquet", target=target, disk=DISK).files
    return path


@pytest.mark.parametrize("dtype", list(Dtype))
def test_parquet_holds_every_row_in_its_own_type(tmp_path: Path, dtype: Dtype) -> None:
    info = stream("eeg", dtype=dtype, n_channels=3)
    table = pq.read_table(_exported(recording(tmp_path, info), tmp_path / "out"))
    assert table.column_names == ["t_ns", "incarnation", "seq", "gap_before", "C0", "C1", "C2"]
    assert table.schema.field("C1").type == KINDS[dtype]
    parts = [rows_of(info, 0, 60), rows_of(info, 90, 13), rows_of(info, 0, 10)]
    values = np.stack([table[name].to_numpy() for name in info.ch_names], axis=1)
    assert np.array_equal(values, np.concatenate(parts))


def test_parquet_shows_gaps_times_and_new_incarnations(tmp_path: Path) -> None:
    info = stream("eeg")
    table = pq.read_table(_exported(recording(tmp_path, info), tmp_path / "out"))
    assert table["seq"].to_pylist() == [*range(60), *range(90, 103), *range(10)]
    assert table["incarnation"].to_pylist() == [1] * 73 + [2] * 10
    gaps = [i for i, has in enumerate(table["gap_before"].to_pylist()) if has]
    assert gaps == [60, 73]
    restart = t_of(info, 103) + 1_000_000_000
    expected = [t_of(info, seq) for seq in [*range(60), *range(90, 103)]]
    expected += [restart + seq * 100_000_000 for seq in range(10)]
    assert table["t_ns"].to_pylist() == expected


def test_parquet_says_what_the_numbers_mean(tmp_path: Path) -> None:
    info = stream("eeg")
    folder = recording(tmp_path, info, participant="p-anna")
    schema = pq.read_schema(_exported(folder, tmp_path / "out"))
    assert schema.field("C1").metadata == {
        b"name": b"C1", b"type": b"eeg", b"unit": b"V", b"scale": b"1e-06", b"offset": b"0.0",
    }  # fmt: skip
    told = json.loads(schema.metadata[b"brainforge_edge"])
    assert told["markers"] == [[t_of(info, 20), 1.5, "eyes closed"]]
    assert (told["stream_id"], told["sfreq"], told["dtype"]) == ("dev-eeg", 10.0, "I24")
    assert told["participant"] == "p-anna"
    assert told["utc_first_ns"] // 10**9 in range(1_800_000_000, 1_800_000_010)


def test_parquet_is_written_in_row_groups_so_that_memory_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "GROUP_BYTES", 1)
    file = pq.ParquetFile(_exported(recording(tmp_path, stream("eeg")), tmp_path / "out"))
    groups = [file.metadata.row_group(k) for k in range(file.metadata.num_row_groups)]
    assert [group.num_rows for group in groups] == [60, 13, 10]
    assert {group.column(4).compression for group in groups} == {"ZSTD"}


def test_channels_named_like_a_column_of_times_are_numbered(tmp_path: Path) -> None:
    info = stream("eeg")
    channels = (msgspec.structs.replace(info.channels[0], name="seq"), info.channels[1])
    info = msgspec.structs.replace(info, channels=channels)
    schema = pq.read_schema(_exported(recording(tmp_path, info), tmp_path / "out"))
    assert schema.names[4:] == ["0 seq", "1 C1"]
    assert schema.field("0 seq").metadata[b"name"] == b"seq"


def test_without_pyarrow_the_refusal_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = recording(tmp_path, stream("eeg"))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(StorageError, match=r"pyarrow is not installed.*brainforge-edge\[export\]"):
        export_recording(folder, format_name="parquet", target=tmp_path / "out", disk=DISK)
    assert not list((tmp_path / "out").iterdir())
