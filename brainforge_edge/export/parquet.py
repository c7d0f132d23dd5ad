"""Parquet (zstd) for tables, the only door of pyarrow; imported only when an export asks for it. Runs in: `brainforge-edge export`.

One row per recorded row, none for a gap: `seq` jumps and `gap_before` is true. Values are the recorded
integers; unit, scale and offset are in each field's metadata, the rest of the stream in the schema's.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.stream import Dtype
from brainforge_edge.export.recording import Run, StreamRows

SUFFIX = ".parquet"
GROUP_BYTES = 8 * 2**20  # of a row group before it is compressed; memory is a few of these
_TIMES = ("t_ns", "incarnation", "seq")
_GAP = "gap_before"


def write(rows: StreamRows, path: Path) -> None:
    """Write all rows; needs memory for a row group and one chunk. StorageError without pyarrow."""
    try:
        import pyarrow as pa  # noqa: PLC0415 (an extra; takes a while to import)
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError as error:
        raise StorageError(
            "no_pyarrow",
            "cannot export as parquet",
            why="pyarrow is not installed",
            remedy="Install the extra: pip install 'brainforge-edge[export]'",
        ) from error
    names = columns(rows.info.ch_names)
    schema = _schema(pa, rows, names)
    values = "DELTA_BINARY_PACKED" if rows.info.dtype.is_integer else "BYTE_STREAM_SPLIT"
    encodings = dict.fromkeys(_TIMES, "DELTA_BINARY_PACKED") | dict.fromkeys(names, values)
    group: list[Any] = []
    with pq.ParquetWriter(
        path, schema, compression="zstd", use_dictionary=False, column_encoding=encodings
    ) as file:
        before: Run | None = None
        for run in rows.runs():
            group.append(_batch(pa, run, before, rows.info.sfreq, schema))
            before = run
            if sum(batch.nbytes for batch in group) >= GROUP_BYTES:
                file.write_table(pa.Table.from_batches(group))
                group.clear()
        if group:
            file.write_table(pa.Table.from_batches(group))


def columns(ch_names: list[str]) -> list[str]:
    """Channel names as column names: numbered where they would not be unique beside the fixed ones."""
    fixed = (*_TIMES, _GAP)
    if len({*ch_names, *fixed}) == len(ch_names) + len(fixed):
        return ch_names
    return [f"{k} {name}" for k, name in enumerate(ch_names)]


def _schema(pa: Any, rows: StreamRows, names: list[str]) -> Any:
    info = rows.info
    kinds = {Dtype.I16: pa.int16(), Dtype.F32: pa.float32(), Dtype.F64: pa.float64()}
    kind = kinds.get(info.dtype, pa.int32())
    fields = [pa.field(name, pa.int64(), nullable=False) for name in _TIMES]
    fields.append(pa.field(_GAP, pa.bool_(), nullable=False))
    for name, channel in zip(names, info.channels, strict=True):
        described = {
            "name": channel.name,
            "type": channel.type,
            "unit": channel.unit,
            "scale": repr(channel.scale),
            "offset": repr(channel.offset),
        }
        fields.append(pa.field(name, kind, nullable=False, metadata=described))
    stream = {
        "stream_id": info.stream_id,
        "device": info.device,
        "sfreq": info.sfreq,
        "dtype": info.dtype.name,
        "participant": rows.identity.participant,
        "utc_first_ns": rows.utc_ns,
        "markers": [[mark.t_ns, mark.duration_s, mark.description] for mark in rows.markers],
    }
    return pa.schema(fields, metadata={"brainforge_edge": json.dumps(stream)})


def _batch(pa: Any, run: Run, before: Run | None, sfreq: float, schema: Any) -> Any:
    n = len(run.data)
    index = np.arange(n)
    has_gap = np.zeros(n, bool)
    has_gap[0] = before is not None and (
        run.incarnation != before.incarnation or run.seq != before.seq + len(before.data)
    )
    found = [
        run.t_first_ns + np.rint(index * (1e9 / sfreq)).astype(np.int64),
        np.full(n, run.incarnation, np.int64),
        run.seq + index.astype(np.int64),
        has_gap,
        *np.ascontiguousarray(run.data.T),
    ]
    return pa.record_batch([pa.array(column) for column in found], schema=schema)
