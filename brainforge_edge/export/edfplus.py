"""EDF+ and BDF+, which differ in the width of their integers; the only door of edfio. Runs in: `brainforge-edge export`.

Gaps hold the last value under an annotation BAD_ACQ_SKIP; so do the rows that fill the last data
record. Physical ranges have 8 characters in the header, so physical values are rounded where integers
are not.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import edfio
import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.stream import ChannelInfo, StreamInfo
from brainforge_edge.export.label import numbered, one_line
from brainforge_edge.export.recording import StreamRows
from brainforge_edge.export.scale import without_value

RECORD_BYTES = 61_440  # the specification's limit for one data record
SKIP = "BAD_ACQ_SKIP"
_RESERVED = ("EDF Annotations", "BDF Annotations")
_EXACT = 1e-12  # of a rate, what floats cost
_STEP = 1e-4  # of a scale, what the header's 8 characters may cost
_PREFIXED_UNITS = ("V", "T", "T/m", "A")
_PREFIXES = (("", 1.0), ("m", 1e3), ("u", 1e6), ("n", 1e9), ("p", 1e12), ("f", 1e15))


@dataclass(frozen=True, slots=True)
class Width:
    """Integers of `n_bytes`, and what edfio makes of them."""

    name: str
    n_bytes: int
    memory: str
    signal: Any
    file: Any

    @property
    def least(self) -> int:
        return int(-(2 ** (8 * self.n_bytes - 1)))

    @property
    def most(self) -> int:
        return -self.least - 1


BDF = Width("BDF", 3, "<i4", edfio.BdfSignal, edfio.Bdf)
EDF = Width("EDF", 2, "<i2", edfio.EdfSignal, edfio.Edf)


def save(
    rows: StreamRows,
    line: NDArray[Any],
    channels: Sequence[ChannelInfo],
    path: Path,
    width: Width,
    *,
    remarks: Sequence[str] = (),
) -> None:
    """Write `line` (n_rows, n_channels), integers that fit `width` with the scales of `channels`.

    A channel's remark stands where the format has its filters. StorageError `export_misfit` for a rate
    or a range that its header has no room for.
    """
    info = rows.info
    if why := without_value(info):
        raise misfit(info.stream_id, width, why, "Export it as csv or parquet")
    per_record = _record_samples(info.sfreq, info.n_channels, width)
    if abs(float(_rate(info.sfreq)) - info.sfreq) > _EXACT * info.sfreq:
        why = (
            f"its header has 8 characters for a duration, and none is whole rows at {info.sfreq} Hz"
        )
        raise misfit(info.stream_id, width, why, "Export it as fif or csv")
    padding = filled_at_the_end(info, len(line), width)
    if padding:
        line = np.concatenate([line, np.repeat(line[-1:], padding, axis=0)])
    skips = [(skip.row, skip.n) for skip in rows.skips]
    if padding:
        skips.append((rows.n_rows, padding))
    names = labels([channel.name for channel in channels])
    ranges = [physical(channel, width) for channel in channels]
    try:
        signals = [
            width.signal.from_digital(
                np.ascontiguousarray(line[:, k], dtype=width.memory),
                info.sfreq,
                label=names[k],
                physical_dimension=dimension,
                physical_range=physical_range,
                digital_range=(width.least, width.most),
                prefiltering=remarks[k] if remarks else "",
            )
            for k, (dimension, physical_range) in enumerate(ranges)
        ]
        fit = not any(map(_has_lost_its_scale, signals, [between for _, between in ranges]))
    except ValueError:  # of edfio, where an end is longer
        fit = False
    if not fit:
        why = (
            "its header has 8 characters for each end of a channel's range, and they do not hold it"
        )
        raise misfit(info.stream_id, width, why, "Export it as csv or parquet")
    annotations = [edfio.EdfAnnotation(row / info.sfreq, n / info.sfreq, SKIP) for row, n in skips]
    annotations += [
        edfio.EdfAnnotation(
            mark.row / info.sfreq, mark.duration_s or None, one_line(mark.description)
        )
        for mark in rows.markers
    ]
    recording, starttime = _start(rows.utc_ns)
    width.file(
        signals,
        recording=recording,
        starttime=starttime,
        data_record_duration=float(per_record / _rate(info.sfreq)),
        annotations=annotations,
    ).write(path)


def filled_at_the_end(info: StreamInfo, n_rows: int, width: Width) -> int:
    """Rows that make the last data record whole."""
    return -n_rows % _record_samples(info.sfreq, info.n_channels, width)


def _has_lost_its_scale(signal: Any, physical_range: tuple[float, float]) -> bool:
    """Whether 8 characters for each end changed the step between two numbers."""
    low, high = physical_range
    kept = signal.physical_max - signal.physical_min
    return bool(abs(kept - (high - low)) > _STEP * abs(high - low))


def misfit(stream_id: str, width: Width, why: str, remedy: str) -> StorageError:
    return StorageError(
        "export_misfit",
        f"stream {stream_id} cannot be exported as {width.name}",
        why=why,
        remedy=remedy,
    )


def _rate(sfreq: float) -> Fraction:
    return Fraction(sfreq).limit_denominator(10_000)


def _record_samples(sfreq: float, n_channels: int, width: Width) -> int:
    """Rows of a data record: a duration with few digits, at most a second where that is possible."""
    rate = _rate(sfreq)
    durations = map(Fraction, ("1", "1/2", "1/4", "1/5", "1/10", "1/20", "1/50", "1/100"))
    whole = [int(n) for n in (rate * duration for duration in durations) if n.denominator == 1]
    short = [n for n in whole if n * n_channels * width.n_bytes <= RECORD_BYTES]
    return (short or whole[-1:] or [rate.numerator])[0]


def physical(channel: ChannelInfo, width: Width) -> tuple[str, tuple[float, float]]:
    """Dimension and range, with the SI prefix that leaves the most digits in 8 characters."""
    low = width.least * channel.scale + channel.offset
    high = width.most * channel.scale + channel.offset
    size = max(abs(low), abs(high))
    prefix, factor = "", 1.0
    if channel.unit in _PREFIXED_UNITS:
        prefix, factor = max(
            (item for item in _PREFIXES if size * item[1] < 9_999_999),
            key=lambda item: item[1],
            default=("", 1.0),
        )
    unit = channel.unit.replace("²", "2").encode("ascii", "replace").decode()
    # edfio rounds the lower one down and the upper one up: that of a float is no digit of ours.
    return f"{prefix}{unit}"[:8], (float(f"{low * factor:.12g}"), float(f"{high * factor:.12g}"))


def labels(names: list[str]) -> list[str]:
    """EDF labels are at most 16 printable ASCII characters; some mean something else."""
    plain = (one_line(name.encode("ascii", "replace").decode()) for name in names)
    return numbered(plain, 16, _RESERVED)


def _start(utc_ns: int | None) -> tuple[edfio.Recording, datetime.time | None]:
    if utc_ns is None:
        return edfio.Recording(), None
    start = datetime.datetime.fromtimestamp(utc_ns // 1_000_000_000, datetime.UTC)
    return edfio.Recording(startdate=start.date()), start.time()
