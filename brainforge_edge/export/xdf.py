"""XDF 1.0: samples and markers with the times of the box clock. Runs in: `brainforge-edge export`.

Two streams in one file: 1 the samples, each with its time, raw as they were recorded; 2 the markers as
strings, where there are any. Both are on the box clock, so that clock offsets are zero. A gap is a
jump of the times.
"""

import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.stream import RAW, Dtype
from brainforge_edge.export.recording import Marker, Run, StreamRows

SUFFIX = ".xdf"
_FILE_HEADER, _STREAM_HEADER, _SAMPLES, _CLOCK_OFFSET, _BOUNDARY, _FOOTER = range(1, 7)
_BOUNDARY_ID = bytes.fromhex("43a546dccbf5410fb30ed5467383cbe4")
_SAMPLES_ID, _MARKERS_ID = 1, 2
_FORMATS = {Dtype.I16: "int16", Dtype.F32: "float32", Dtype.F64: "double64"}
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write(rows: StreamRows, path: Path) -> None:
    """Write all rows; needs memory for one chunk twice. StorageError for raw bytes and over a restart."""
    _check(rows)
    markers = sorted(rows.markers, key=lambda mark: mark.t_ns)
    with path.open("wb") as file:
        file.write(b"XDF:")
        _chunk(file, _FILE_HEADER, _xml({"version": "1.0"}))
        _chunk(file, _STREAM_HEADER, _xml(_described(rows)), _SAMPLES_ID)
        if markers:
            _chunk(file, _STREAM_HEADER, _xml(_marked(rows, markers)), _MARKERS_ID)
        first = last = None
        n = 0
        for run in rows.runs():
            times = _times(run, rows.info.sfreq)
            first = float(times[0]) if first is None else first
            last = float(times[-1])
            n += len(times)
            _chunk(file, _SAMPLES, _samples(run, times), _SAMPLES_ID)
            _chunk(file, _BOUNDARY, _BOUNDARY_ID)
        assert first is not None
        assert last is not None
        if markers:
            _chunk(file, _SAMPLES, _strings(markers), _MARKERS_ID)
        _end(file, _SAMPLES_ID, first, last, n)
        if markers:
            _end(file, _MARKERS_ID, markers[0].t_ns / 1e9, markers[-1].t_ns / 1e9, len(markers))


def _check(rows: StreamRows) -> None:
    why, other = "", ""
    if any(channel.type == RAW for channel in rows.info.channels):
        why, other = "its rows are a device's own bytes, not samples", "csv or parquet"
    elif len({item.boot for item in rows.placed}) > 1:
        why, other = "the box was started again in it, and its clock with it", "bdf or parquet"
    if why:
        raise StorageError(
            "export_misfit",
            f"stream {rows.info.stream_id} cannot be exported as XDF",
            why=why,
            remedy=f"Export it as {other}",
        )


def _times(run: Run, sfreq: float) -> NDArray[np.float64]:
    """(n,) box time in s."""
    return run.t_first_ns / 1e9 + np.arange(len(run.data)) / sfreq


def _samples(run: Run, times: NDArray[np.float64]) -> bytes:
    """Content of a chunk: each sample with the size of its time, its time and its values."""
    kind = np.dtype([("size", "u1"), ("t", "<f8"), ("x", run.data.dtype, run.data.shape[1:])])
    packed = np.empty(len(times), kind)
    packed["size"], packed["t"], packed["x"] = 8, times, run.data
    return _length(len(times)) + packed.tobytes()


def _strings(markers: list[Marker]) -> bytes:
    parts = [_length(len(markers))]
    for mark in markers:
        text = mark.description.encode("utf-8", "replace")
        parts += [struct.pack("<Bd", 8, mark.t_ns / 1e9), _length(len(text)), text]
    return b"".join(parts)


def _end(file: BinaryIO, stream_id: int, first: float, last: float, n: int) -> None:
    for t in (first, last):
        _chunk(file, _CLOCK_OFFSET, struct.pack("<dd", t, 0.0), stream_id)
    footer = {
        "first_timestamp": repr(first),
        "last_timestamp": repr(last),
        "sample_count": str(n),
    }
    _chunk(file, _FOOTER, _xml(footer), stream_id)


def _chunk(file: BinaryIO, tag: int, content: bytes, stream_id: int | None = None) -> None:
    head = struct.pack("<H", tag)
    if stream_id is not None:
        head += struct.pack("<I", stream_id)
    file.write(_length(len(head) + len(content)) + head)
    file.write(content)


def _length(n: int) -> bytes:
    """A length and, before it, how many bytes it has."""
    if n < 2**8:
        return struct.pack("<BB", 1, n)
    return struct.pack("<BI", 4, n) if n < 2**32 else struct.pack("<BQ", 8, n)


def _described(rows: StreamRows) -> dict[str, object]:
    info = rows.info
    channels = []
    for channel in info.channels:
        is_raw = channel.scale != 1.0 or bool(channel.offset)
        told = {"label": channel.name, "type": channel.type.upper()}
        told["unit"] = "count" if is_raw else channel.unit
        if is_raw:
            told |= {
                "physical_unit": channel.unit,
                "scale": repr(channel.scale),
                "offset": repr(channel.offset),
            }
        channels.append(told)
    kinds = {channel.type.upper() for channel in info.channels}
    return {
        "name": info.stream_id,
        "type": kinds.pop() if len(kinds) == 1 else "MISC",
        "channel_count": str(info.n_channels),
        "nominal_srate": repr(info.sfreq),
        "channel_format": _FORMATS.get(info.dtype, "int32"),
        "source_id": info.device,
        "desc": {
            "utc_first_ns": "" if rows.utc_ns is None else str(rows.utc_ns),
            "participant": rows.identity.participant,
            "channels": [("channel", told) for told in channels],
        },
    }


def _marked(rows: StreamRows, markers: list[Marker]) -> dict[str, object]:
    return {
        "name": f"{rows.info.stream_id} markers",
        "type": "Markers",
        "channel_count": "1",
        "nominal_srate": "0",
        "channel_format": "string",
        "source_id": rows.info.device,
        "desc": {"durations": [("duration_s", repr(mark.duration_s)) for mark in markers]},
    }


def _xml(content: Mapping[str, object]) -> bytes:
    root = ElementTree.Element("info")
    _fill(root, list(content.items()))
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0"?>{text}'.encode()


def _fill(parent: ElementTree.Element, content: list[tuple[str, object]]) -> None:
    for name, value in content:
        child = ElementTree.SubElement(parent, name)
        if isinstance(value, dict):
            _fill(child, list(value.items()))
        elif isinstance(value, list):
            _fill(child, value)
        else:
            child.text = _NOT_IN_XML.sub(" ", str(value))
