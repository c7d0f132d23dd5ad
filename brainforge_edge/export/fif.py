"""FIF for MNE, one of mne's doors; mne is imported only when an export asks for it. Runs in: `brainforge-edge export`.

Integer streams are written as int32 with the channel's scale as `cal`: data / cal, rounded, are the
recorded integers. Gaps hold the last value under an annotation BAD_ACQ_SKIP.
"""

import datetime
from pathlib import Path
from typing import Any

import numpy as np

from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.stream import Dtype
from brainforge_edge.export.recording import StreamRows
from brainforge_edge.export.stim import column

SUFFIX = "_raw.fif"
SKIP = "BAD_ACQ_SKIP"


def write(rows: StreamRows, path: Path, words: StreamRows | None = None) -> None:
    """Write a FIF file; needs memory for all rows as float64, twice. StorageError without mne.

    Trigger `words` whose indices agree become the last channel, of type stim.
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
    if any(channel.offset for channel in info.channels):
        raise StorageError(
            "export_misfit",
            f"stream {info.stream_id} cannot be exported as FIF",
            why="its channels have an offset, and FIF has a scale only",
            remedy="Export it as bdf or csv",
        )
    line = rows.line().T.astype(np.float64)
    # FIF keeps cals as float32; the same rounded value must be used here.
    cals = np.array([channel.scale for channel in info.channels], np.float32).astype(np.float64)
    types = [channel.type for channel in info.channels]
    names = info.ch_names
    if words is not None:
        stim = column(words, rows)
        assert stim is not None  # or they would not go together
        line = np.vstack([line, stim.astype(np.float64)])
        cals = np.append(cals, 1.0)
        names, types = [*names, words.info.ch_names[0]], [*types, "stim"]
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
        onsets.append(mark.row / info.sfreq)
        durations.append(mark.duration_s)
        texts.append(mark.description)
    raw.set_annotations(
        mne.Annotations(onsets, durations, texts, orig_time=raw.info["meas_date"]), verbose="ERROR"
    )
    fmt = {Dtype.F32: "single", Dtype.F64: "double"}.get(info.dtype, "int")
    raw.save(path, fmt=fmt, verbose="ERROR")
