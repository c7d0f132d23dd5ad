"""BrainVision (Core Data Format 1.0): header, samples and markers as three files. Runs in: `brainforge-edge export`.

The format knows INT_16 and IEEE_FLOAT_32 alone. 16-bit streams are INT_16; wider integers are written
as floats, which hold each of them up to 2^24: what needs more is refused, never rounded. Gaps hold the
last value under a marker `Bad Interval`, and where rows go on there is a `New Segment`.
"""

import datetime
from pathlib import Path

from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.stream import RAW, ChannelInfo, Dtype, StreamInfo
from brainforge_edge.export.label import numbered, one_line
from brainforge_edge.export.line import pieces
from brainforge_edge.export.recording import StreamRows
from brainforge_edge.export.scale import without_value

SUFFIX = ".vhdr"
SKIP = "BAD_ACQ_SKIP"
EXACT = 2**24  # integers up to here are exact in 32-bit floats
_MEG = {"mag", "grad", "ref_meg"}


def write(rows: StreamRows, path: Path) -> None:
    """Write `path` and, beside it, `.eeg` and `.vmrk`; needs memory for one chunk.

    StorageError where the format cannot hold the stream as it was recorded.
    """
    _check(rows)
    is_short = rows.info.dtype is Dtype.I16
    with path.with_suffix(".eeg").open("wb") as file:
        for block in pieces(rows):
            if rows.info.dtype is Dtype.I32 and (block.min() < -EXACT or block.max() > EXACT):
                raise _misfit(
                    rows.info.stream_id,
                    "some of its values need more than the 24 bits that its floats hold exactly",
                    "fif or parquet",
                )
            file.write(block.astype("<i2" if is_short else "<f4").tobytes())
    # CRLF: the format is at home on Windows.
    with path.with_suffix(".vmrk").open("w", encoding="utf-8", newline="\r\n") as text:
        text.write(_markers(rows, path.with_suffix(".eeg").name))
    with path.open("w", encoding="utf-8", newline="\r\n") as text:
        text.write(_header(rows, path, is_short=is_short))


def _check(rows: StreamRows) -> None:
    info = rows.info
    kinds = {channel.type for channel in info.channels}
    if kinds & _MEG:
        why = "it has magnetic channels, and the format has electrodes only: no coil, no place"
        raise _misfit(info.stream_id, why, "fif")
    if RAW in kinds:
        why = "its rows are a device's own bytes, not samples"
        raise _misfit(info.stream_id, why, "csv or parquet")
    if info.dtype is Dtype.F64:
        why = "its values are 64-bit floats, and the format would round them to 32"
        raise _misfit(info.stream_id, why, "fif or parquet")
    if why := without_value(info):
        raise _misfit(info.stream_id, why, "csv or parquet")
    if any(channel.offset for channel in info.channels):
        why = "its channels have an offset, and the format has a resolution only"
        raise _misfit(info.stream_id, why, "bdf or parquet")


def _header(rows: StreamRows, path: Path, *, is_short: bool) -> str:
    info = rows.info
    lines = [
        "Brain Vision Data Exchange Header File Version 1.0",
        "",
        "[Common Infos]",
        "Codepage=UTF-8",
        f"DataFile={path.with_suffix('.eeg').name}",
        f"MarkerFile={path.with_suffix('.vmrk').name}",
        "DataFormat=BINARY",
        "DataOrientation=MULTIPLEXED",
        f"NumberOfChannels={info.n_channels}",
        f"SamplingInterval={1e6 / info.sfreq!r}",
        "",
        "[Binary Infos]",
        f"BinaryFormat={'INT_16' if is_short else 'IEEE_FLOAT_32'}",
        "",
        "[Channel Infos]",
    ]
    for k, (name, channel) in enumerate(zip(labels(info), info.channels, strict=True), 1):
        size, unit = resolution(channel)
        lines.append(f"Ch{k}={_plain(name)},,{size!r},{_plain(unit)}")
    return "\n".join([*lines, ""])


def labels(info: StreamInfo) -> list[str]:
    """Names of channels as readers of the file get them."""
    return numbered(one_line(name) for name in info.ch_names)


def resolution(channel: ChannelInfo) -> tuple[float, str]:
    """Volts as µV, the unit that every reader of the format knows, and takes for one that is not given."""
    if channel.unit == "V":
        return channel.scale * 1e6, "µV"
    return channel.scale, one_line(channel.unit) or "1"


def _markers(rows: StreamRows, data_file: str) -> str:
    sfreq = rows.info.sfreq
    found = [(0, 0, "New Segment", "", 1)]
    for skip in rows.skips:
        found.append((skip.row, 1, "Bad Interval", SKIP, skip.n))
        found.append((skip.row + skip.n, 0, "New Segment", "", 1))
    for mark in rows.markers:
        n = max(1, round(mark.duration_s * sfreq))
        row = min(round(mark.row), rows.n_rows - 1)  # the format has no place beyond
        found.append((row, 2, "Comment", _plain(mark.description), n))
    lines = [
        "Brain Vision Data Exchange Marker File, Version 1.0",
        "",
        "[Common Infos]",
        "Codepage=UTF-8",
        f"DataFile={data_file}",
        "",
        "[Marker Infos]",
    ]
    for number, (row, _, kind, text, n) in enumerate(sorted(found), 1):
        date = f",{_date(rows.utc_ns)}" if number == 1 and rows.utc_ns is not None else ""
        lines.append(f"Mk{number}={kind},{text},{row + 1},{n},0{date}")
    return "\n".join([*lines, ""])


def _plain(text: str) -> str:
    r"""One line; the format writes a comma as \1."""
    return one_line(text).replace(",", r"\1")


def _date(utc_ns: int) -> str:
    seconds, rest = divmod(utc_ns, 1_000_000_000)
    start = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return f"{start:%Y%m%d%H%M%S}{rest // 1000:06d}"


def _misfit(stream_id: str, why: str, other: str) -> StorageError:
    return StorageError(
        "export_misfit",
        f"stream {stream_id} cannot be exported as BrainVision",
        why=why,
        remedy=f"Export it as {other}",
    )
