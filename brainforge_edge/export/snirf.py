"""SNIRF 1.1 for continuous-wave fNIRS, the only door of h5py; imported only when an export asks for it. Runs in: `brainforge-edge export`.

Values are in the channel's unit. Gaps hold the last value under a stimulus BAD_ACQ_SKIP, as the other
readers of a line expect.
"""

import datetime
from pathlib import Path
from typing import Any

import numpy as np

from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.stream import ChannelDetail, ChannelInfo, Dtype, Place
from brainforge_edge.export.kept import KeptFile
from brainforge_edge.export.line import pieces
from brainforge_edge.export.recording import StreamRows
from brainforge_edge.export.scale import without_value

SUFFIX = ".snirf"
SKIP = "BAD_ACQ_SKIP"
AMPLITUDE = "fnirs_cw_amplitude"
_CW = 1  # the format's number of continuous-wave amplitudes
_CHUNK_BYTES = 256 * 1024
_Optode = tuple[str, Place]


def write(rows: StreamRows, path: Path) -> None:
    """Write all rows; needs memory for one chunk as float64. StorageError without h5py, and for a
    stream that is no light of known optodes."""
    try:
        import h5py  # noqa: PLC0415 (an extra; takes a while to import)
    except ImportError as error:
        raise StorageError(
            "no_h5py",
            "cannot export as snirf",
            why="h5py is not installed",
            remedy="Install the extra: pip install 'brainforge-edge[export]'",
        ) from error
    if why := without_value(rows.info):
        raise _misfit(rows.info.stream_id, why)
    details = [_detail(rows.info.stream_id, channel) for channel in rows.info.channels]
    kept = KeptFile(path)
    try:
        with h5py.File(kept, "w") as file:
            _fill(h5py, file, rows, details, kept)
        kept.check()
    finally:
        kept.close()


def _fill(
    h5py: Any, file: Any, rows: StreamRows, details: list[ChannelDetail], kept: KeptFile
) -> None:
    file["formatVersion"] = "1.1"
    nirs = file.create_group("nirs")
    _tags(nirs.create_group("metaDataTags"), rows)
    data = nirs.create_group("data1")
    data["time"] = np.array([0.0, 1 / rows.info.sfreq])  # start and spacing
    _series(data, rows, kept)
    sources, detectors = _probe(h5py, nirs.create_group("probe"), details)
    wavelengths = _wavelengths(details)
    for k, (channel, detail) in enumerate(zip(rows.info.channels, details, strict=True), 1):
        measured = data.create_group(f"measurementList{k}")
        source, detector = optodes(detail)
        measured["sourceIndex"] = np.int32(1 + sources.index(source))
        measured["detectorIndex"] = np.int32(1 + detectors.index(detector))
        measured["wavelengthIndex"] = np.int32(1 + wavelengths.index(detail.wavelength_nm))
        measured["dataType"] = np.int32(_CW)
        measured["dataTypeIndex"] = np.int32(1)
        measured["dataUnit"] = _plain(channel.unit)
    _stimuli(nirs, rows)


def _detail(stream_id: str, channel: ChannelInfo) -> ChannelDetail:
    if channel.type != AMPLITUDE:
        why = f"channel {channel.name} is {channel.type}, and this export holds amplitudes of light alone"
        raise _misfit(stream_id, why)
    detail = channel.detail
    if (
        not isinstance(detail, ChannelDetail)
        or not detail.wavelength_nm
        or detail.source_m is None
        or detail.detector_m is None
    ):
        why = f"channel {channel.name} has no wavelength, or its optodes no places"
        raise _misfit(stream_id, why)
    return detail


def optodes(detail: ChannelDetail) -> tuple[_Optode, _Optode]:
    """Source and detector of a channel."""
    assert detail.source_m is not None
    assert detail.detector_m is not None
    return (detail.source, detail.source_m), (detail.detector, detail.detector_m)


def all_optodes(details: list[ChannelDetail]) -> tuple[list[_Optode], list[_Optode]]:
    """Sources and detectors in the order of their numbers."""
    pairs = [optodes(detail) for detail in details]
    return list(dict.fromkeys(one for one, _ in pairs)), list(
        dict.fromkeys(two for _, two in pairs)
    )


def _wavelengths(details: list[ChannelDetail]) -> list[float]:
    return sorted({detail.wavelength_nm for detail in details})


def _tags(tags: Any, rows: StreamRows) -> None:
    tags["SubjectID"] = _plain(rows.identity.participant) or "unknown"
    date, time = "unknown", "unknown"
    if rows.utc_ns is not None:
        seconds, rest = divmod(rows.utc_ns, 1_000_000_000)
        start = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
        date, time = f"{start:%Y-%m-%d}", f"{start:%H:%M:%S}.{rest // 1000:06d}Z"
    tags["MeasurementDate"], tags["MeasurementTime"] = date, time
    tags["LengthUnit"], tags["TimeUnit"], tags["FrequencyUnit"] = "m", "s", "Hz"


def _series(data: Any, rows: StreamRows, kept: KeptFile) -> None:
    info = rows.info
    scale = np.array([channel.scale for channel in info.channels])
    offset = np.array([channel.offset for channel in info.channels])
    is_plain = info.dtype is Dtype.F32 and bool(np.all(scale == 1.0) and np.all(offset == 0.0))
    kind = np.dtype("<f4" if is_plain else "<f8")
    per_chunk = max(1, _CHUNK_BYTES // (info.n_channels * kind.itemsize))
    series = data.create_dataset(
        "dataTimeSeries",
        (rows.n_rows, info.n_channels),
        kind,
        chunks=(min(per_chunk, rows.n_rows), info.n_channels),
        compression="gzip",
        shuffle=True,
    )
    at = 0
    for piece in pieces(rows):
        series[at : at + len(piece)] = piece if is_plain else piece * scale + offset
        at += len(piece)
        kept.check()


def _probe(
    h5py: Any, probe: Any, details: list[ChannelDetail]
) -> tuple[list[_Optode], list[_Optode]]:
    """Sources and detectors in the order of their numbers."""
    sources, detectors = all_optodes(details)
    text = h5py.string_dtype()
    probe["wavelengths"] = np.array(_wavelengths(details), np.float64)
    for name, optodes in (("source", sources), ("detector", detectors)):
        probe[f"{name}Pos3D"] = np.array([place for _, place in optodes], np.float64)
        probe.create_dataset(
            f"{name}Labels", data=[_plain(label) for label, _ in optodes], dtype=text
        )
    return sources, detectors


def _stimuli(nirs: Any, rows: StreamRows) -> None:
    """A group for each text: start in s, duration in s, 1."""
    sfreq = rows.info.sfreq
    found: dict[str, list[tuple[float, float, float]]] = {}
    for skip in rows.skips:
        found.setdefault(SKIP, []).append((skip.row / sfreq, skip.n / sfreq, 1.0))
    for mark in rows.markers:
        found.setdefault(_plain(mark.description), []).append(
            (mark.row / sfreq, mark.duration_s, 1.0)
        )
    for k, (name, times) in enumerate(found.items(), 1):
        stimulus = nirs.create_group(f"stim{k}")
        stimulus["name"] = name
        stimulus["data"] = np.array(times, np.float64)


def _plain(text: str) -> str:
    """HDF5 ends a string at the first NUL."""
    return text.replace("\0", " ")


def _misfit(stream_id: str, why: str) -> StorageError:
    return StorageError(
        "export_misfit",
        f"stream {stream_id} cannot be exported as SNIRF",
        why=why,
        remedy="Export it as parquet or fif",
    )
