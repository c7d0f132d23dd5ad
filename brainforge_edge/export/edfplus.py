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

from brainforge_edge.core.stream import ChannelInfo, StreamInfo
from brainforge_edge.export.recording import StreamRows

RECORD_BYTES = 61_440  # the specification's limit for one data record
SKIP = "BAD_ACQ_SKIP"
_PREFIXED_UNITS = ("V", "T", "T/m", "A")
_PREFIXES = (("", 1.0), ("m", 1e3), ("u", 1e6), ("n", 1e9), ("p", 1e12), ("f", 1e15))


@dataclass(frozen=True, slots=True)
class Width:
    """Integers of `n_bytes`, and what edfio makes of them."""

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


BDF = Width(3, "<i4", edfio.BdfSignal, edfio.Bdf)
EDF = Width(2, "<i2", edfio.EdfSignal, edfio.Edf)


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

    A channel's remark stands where the format has its filters.
    """
    info = rows.info
    per_record = _record_samples(info.sfreq, info.n_channels, width)
    padding = filled_at_the_end(info, len(line), width)
    if padding:
        line = np.concatenate([line, np.repeat(line[-1:], padding, axis=0)])
    skips = [(skip.row, skip.n) for skip in rows.skips]
    if padding:
        skips.append((rows.n_rows, padding))
    names = labels([channel.name for channel in channels])
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
        for k, (dimension, physical_range) in enumerate(
            physical(channel, width) for channel in channels
        )
    ]
    annotations = [edfio.EdfAnnotation(row / info.sfreq, n / info.sfreq, SKIP) for row, n in skips]
    annotations += [
        edfio.EdfAnnotation(mark.row / info.sfreq, mark.duration_s or None, mark.description)
        for mark in rows.markers
    ]
    recording, starttime = _start(rows.utc_ns)
    width.file(
        signals,
        recording=recording,
        starttime=starttime,
        data_record_duration=per_record / info.sfreq,
        annotations=annotations,
    ).write(path)


def filled_at_the_end(info: StreamInfo, n_rows: int, width: Width) -> int:
    """Rows that make the last data record whole."""
    return -n_rows % _record_samples(info.sfreq, info.n_channels, width)


def _record_samples(sfreq: float, n_channels: int, width: Width) -> int:
    """Rows of a data record: a duration with few digits, at most a second where that is possible."""
    rate = Fraction(sfreq).limit_denominator(10_000)
    for duration in map(Fraction, ("1", "1/2", "1/4", "1/5", "1/10", "1/20", "1/50", "1/100")):
        n = rate * duration
        if n.denominator == 1 and n >= 1 and n * n_channels * width.n_bytes <= RECORD_BYTES:
            return int(n)
    return rate.numerator if rate.denominator > 1 else 1


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
    return f"{prefix}{unit}"[:8], (low * factor, high * factor)


def labels(names: list[str]) -> list[str]:
    """EDF labels are at most 16 printable ASCII characters."""
    short = [name.encode("ascii", "replace").decode()[:16] for name in names]
    if len(set(short)) == len(short):
        return short
    return [f"{k} {label}"[:16] for k, label in enumerate(short)]


def _start(utc_ns: int | None) -> tuple[edfio.Recording, datetime.time | None]:
    if utc_ns is None:
        return edfio.Recording(), None
    start = datetime.datetime.fromtimestamp(utc_ns // 1_000_000_000, datetime.UTC)
    return edfio.Recording(startdate=start.date()), start.time()
