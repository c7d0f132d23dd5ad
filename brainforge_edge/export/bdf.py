"""BDF+ (24-bit EDF+), the only door of edfio. Runs in: `brainforge-edge export`.

Digital values are the recorded integers. Gaps hold the last value under an annotation BAD_ACQ_SKIP;
so do the rows that fill the last data record. Physical ranges have 8 characters in the header, so
physical values are rounded where integers are not.
"""

import datetime
from fractions import Fraction
from pathlib import Path

import edfio
import numpy as np

from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.stream import ChannelInfo, Dtype
from brainforge_edge.export.recording import StreamRows

SUFFIX = ".bdf"
LEAST, MOST = -(2**23), 2**23 - 1
RECORD_BYTES = 61_440  # the specification's limit for one data record
SKIP = "BAD_ACQ_SKIP"
_PREFIXED_UNITS = ("V", "T", "T/m", "A")
_PREFIXES = (("", 1.0), ("m", 1e3), ("u", 1e6), ("n", 1e9), ("p", 1e12), ("f", 1e15))


def write(rows: StreamRows, path: Path) -> None:
    """Write a BDF+ file; needs memory for all rows twice. StorageError if values do not fit 24 bits."""
    info = rows.info
    if not info.dtype.is_integer:
        raise _misfit(info.stream_id, f"its values are {info.dtype.name}, not integers")
    line = rows.line()
    if info.dtype is Dtype.I32 and len(line) and (line.min() < LEAST or line.max() > MOST):
        raise _misfit(info.stream_id, "some of its values need more than 24 bits")
    per_record = _record_samples(info.sfreq, info.n_channels)
    padding = -len(line) % per_record
    if padding:
        line = np.concatenate([line, np.repeat(line[-1:], padding, axis=0)])
    skips = [(skip.row, skip.n) for skip in rows.skips]
    if padding:
        skips.append((rows.n_rows, padding))
    labels = _labels([channel.name for channel in info.channels])
    signals = [
        edfio.BdfSignal.from_digital(
            np.ascontiguousarray(line[:, k], dtype=np.int32),
            info.sfreq,
            label=labels[k],
            physical_dimension=dimension,
            physical_range=physical_range,
            digital_range=(LEAST, MOST),
        )
        for k, (dimension, physical_range) in enumerate(map(_physical, info.channels))
    ]
    annotations = [edfio.EdfAnnotation(row / info.sfreq, n / info.sfreq, SKIP) for row, n in skips]
    annotations += [
        edfio.EdfAnnotation(mark.row / info.sfreq, mark.duration_s or None, mark.description)
        for mark in rows.markers
    ]
    recording, starttime = _start(rows.utc_ns)
    edfio.Bdf(
        signals,
        recording=recording,
        starttime=starttime,
        data_record_duration=per_record / info.sfreq,
        annotations=annotations,
    ).write(path)


def _record_samples(sfreq: float, n_channels: int) -> int:
    """Rows of a data record: a duration with few digits, at most a second where that is possible."""
    rate = Fraction(sfreq).limit_denominator(10_000)
    for duration in map(Fraction, ("1", "1/2", "1/4", "1/5", "1/10", "1/20", "1/50", "1/100")):
        n = rate * duration
        if n.denominator == 1 and n >= 1 and n * n_channels * 3 <= RECORD_BYTES:
            return int(n)
    return rate.numerator if rate.denominator > 1 else 1


def _physical(channel: ChannelInfo) -> tuple[str, tuple[float, float]]:
    """Dimension and range, with the SI prefix that leaves the most digits in 8 characters."""
    low = LEAST * channel.scale + channel.offset
    high = MOST * channel.scale + channel.offset
    size = max(abs(low), abs(high))
    prefix, factor = "", 1.0
    if channel.unit in _PREFIXED_UNITS:
        prefix, factor = max(
            (item for item in _PREFIXES if size * item[1] < 9_999_999),
            key=lambda item: item[1],
            default=("", 1.0),
        )
    unit = channel.unit.replace("²", "2").encode("ascii", "replace").decode()
    return f"{prefix}{unit}"[:8], (low * factor, high * factor)


def _labels(names: list[str]) -> list[str]:
    """EDF labels are at most 16 printable ASCII characters."""
    labels = [name.encode("ascii", "replace").decode()[:16] for name in names]
    if len(set(labels)) == len(labels):
        return labels
    return [f"{k} {label}"[:16] for k, label in enumerate(labels)]


def _start(utc_ns: int | None) -> tuple[edfio.Recording, datetime.time | None]:
    if utc_ns is None:
        return edfio.Recording(), None
    start = datetime.datetime.fromtimestamp(utc_ns // 1_000_000_000, datetime.UTC)
    return edfio.Recording(startdate=start.date()), start.time()


def _misfit(stream_id: str, why: str) -> StorageError:
    return StorageError(
        "export_misfit",
        f"stream {stream_id} cannot be exported as BDF",
        why=why,
        remedy="Export it as fif or csv",
    )
