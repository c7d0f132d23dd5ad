"""FIF for MNE, one of mne's doors; mne is imported only when an export asks for it. Runs in: `brainforge-edge export`.

Integer streams are written as int32 with the channel's scale as `cal`: data / cal, rounded, are the
recorded integers. Gaps hold the last value under an annotation BAD_ACQ_SKIP.
"""

import datetime
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.stream import Dtype, StreamInfo
from brainforge_edge.export.label import numbered, one_line
from brainforge_edge.export.recording import StreamRows
from brainforge_edge.export.scale import without_value
from brainforge_edge.export.stim import column

SUFFIX = "_raw.fif"
SKIP = "BAD_ACQ_SKIP"
_TAG = struct.Struct(">4i")  # kind, type, size, where the next one is
_ID_TYPE, _MACHINE = (
    31,
    slice(4, 12),
)  # of an id the machine that made the file: its network address


def write(
    rows: StreamRows, path: Path, words: StreamRows | None = None, *, split_naming: str = "neuromag"
) -> None:
    """Write a FIF file; needs memory for all rows as float64, twice. StorageError without mne.

    Trigger `words` whose indices agree become the last channel, of type stim. Beyond 2 GB there are
    several files, whose names `split_naming` says.
    """
    try:
        import mne  # noqa: PLC0415 (an extra; takes a second to import)
    except ImportError as error:
        raise StorageError(
            "no_mne",
            "cannot export as fif",
            why="MNE-Python is not installed",
            remedy="Install the extra: pip install 'brainforge-edge[export]'",
        ) from error
    info = rows.info
    if why := without_value(info):
        raise _misfit(info.stream_id, why, "Export it as csv or parquet")
    if any(channel.offset for channel in info.channels):
        why = "its channels have an offset, and FIF has a scale only"
        raise _misfit(info.stream_id, why, "Export it as bdf or csv")
    line = rows.line().T.astype(np.float64)
    cals = _cals(info)
    types = [channel.type for channel in info.channels]
    names = labels(info)
    if words is not None:
        stim = column(words, rows)
        assert stim is not None  # or they would not go together
        line = np.vstack([line, stim.astype(np.float64)])
        cals = np.append(cals, 1.0)
        names, types = labels(info, words.info), [*types, "stim"]
    if info.dtype.is_integer:
        # mne cuts off decimals when it writes integers: stay away from the edge.
        line += 0.25 * np.sign(line)
    line *= cals[:, None]
    known = set(mne.io.get_channel_type_constants(include_defaults=True))
    types = [kind if kind in known else "misc" for kind in types]
    description: Any = mne.create_info(names, info.sfreq, types, verbose="ERROR")
    with description._unlock():
        for channel, cal in zip(description["chs"], cals, strict=True):
            channel["cal"], channel["range"] = cal, 1.0
        if rows.identity.participant:
            description["subject_info"] = {"his_id": rows.identity.participant}
    raw = mne.io.RawArray(line, description, copy=None, verbose="ERROR")
    if rows.utc_ns is not None:
        seconds = rows.utc_ns / 1e9
        raw.set_meas_date(datetime.datetime.fromtimestamp(seconds, datetime.UTC))
    onsets = [skip.row / info.sfreq for skip in rows.skips]
    durations = [skip.n / info.sfreq for skip in rows.skips]
    texts = [SKIP] * len(rows.skips)
    for mark in rows.markers:
        onsets.append(min(mark.row, rows.n_rows - 1) / info.sfreq)  # mne drops what lies behind
        durations.append(mark.duration_s)
        texts.append(mark.description)
    raw.set_annotations(
        mne.Annotations(onsets, durations, texts, orig_time=raw.info["meas_date"]), verbose="ERROR"
    )
    fmt = {Dtype.F32: "single", Dtype.F64: "double"}.get(info.dtype, "int")
    raw.save(path, fmt=fmt, split_naming=split_naming, verbose="ERROR")
    for made in path.parent.glob(f"{path.stem.rpartition('_')[0]}*.fif"):
        with made.open("rb+") as file:
            _forget_machine(file)


def labels(info: StreamInfo, words: StreamInfo | None = None) -> list[str]:
    """Names of channels in the file: printable ASCII, which MNE writes, and numbered where two are the same."""
    recorded = [*info.ch_names, *([] if words is None else words.ch_names[:1])]
    return numbered(one_line(name.encode("ascii", "replace").decode()) for name in recorded)


def _cals(info: StreamInfo) -> NDArray[np.float64]:
    """Scales as FIF keeps them, in float32: the same rounded value must be used for the rows."""
    with np.errstate(over="ignore"):
        short = np.array([channel.scale for channel in info.channels]).astype(np.float32)
    cals = short.astype(np.float64)
    if not (np.isfinite(cals) & (np.abs(cals) > np.finfo(np.float32).tiny)).all():
        why = "FIF has 32-bit floats for scales, and one of its channels has a scale beyond them"
        raise _misfit(info.stream_id, why, "Export it as csv or parquet")
    return cals


def _misfit(stream_id: str, why: str, remedy: str) -> StorageError:
    return StorageError(
        "export_misfit",
        f"stream {stream_id} cannot be exported as FIF",
        why=why,
        remedy=remedy,
    )


def _forget_machine(file: BinaryIO) -> None:
    """Zeros where mne writes the network address of the machine: the same rows give the same bytes."""
    at = 0
    while len(head := file.read(_TAG.size)) == _TAG.size:
        _, kind, size, following = _TAG.unpack(head)
        if kind == _ID_TYPE and size >= _MACHINE.stop:
            file.seek(at + _TAG.size + _MACHINE.start)
            file.write(bytes(_MACHINE.stop - _MACHINE.start))
        if following < 0:
            return
        at = following or at + _TAG.size + size
        file.seek(at)
