"""A recording of two participants at a bedside, with a device of each modality."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from brainforge_edge.core.stream import ChannelInfo, Dtype, StreamInfo
from brainforge_edge.emulators.source import (
    cyton_channels,
    hat_channels,
    helmet_channels,
    optical_channels,
)
from brainforge_edge.recorder.catalog import RecordingFile, write_recording_file
from brainforge_edge.recorder.chunk import Chunk
from brainforge_edge.recorder.segment import SegmentWriter
from tests.unit.export_test import DISK, chunk, markers
from tests.unit.recorder_material import IDENTITY, seeded

ANNA, BERT = "p-anna", "p-bert"
_MUSE_V = 4.8828125e-07


def device_stream(
    stream_id: str,
    channels: Sequence[ChannelInfo],
    *,
    sfreq: float = 100.0,
    dtype: Dtype = Dtype.I24,
) -> StreamInfo:
    return StreamInfo(stream_id, stream_id.partition("-")[0], sfreq, dtype, tuple(channels))


CYTON = device_stream("cyton-eeg", cyton_channels(4))
MUSE = device_stream(
    "muse-eeg",
    [ChannelInfo(name, "eeg", "V", _MUSE_V, -2048 * _MUSE_V) for name in ("TP9", "AF7")],
    sfreq=256.0,
    dtype=Dtype.I16,
)
OPM = device_stream("opm-mag", helmet_channels(3))
TRIG = device_stream("opm-trig", [ChannelInfo("STIM", "stim", "1")])
LIGHT = device_stream("fnirs-flow", optical_channels(4, "flow"), sfreq=10.0)
HAT = device_stream("hat-acc1", hat_channels(1), sfreq=200.0)
PULSE = device_stream("muse-ppg", [ChannelInfo("PPG", "misc", "1")], sfreq=64.0)
WORN = {
    CYTON: ANNA, MUSE: BERT, OPM: BERT, TRIG: BERT, LIGHT: ANNA, HAT: ANNA, PULSE: BERT,
}  # fmt: skip


def add_segment(
    root: Path,
    info: StreamInfo,
    participant: str,
    chunks: Sequence[Chunk],
    *,
    recording: str = "rec-1",
    ordinal: int = 1,
    number: int = 1,
    **identity: Any,
) -> None:
    said = msgspec.structs.replace(
        IDENTITY, participant=participant, recording=recording, **identity
    )
    writer = SegmentWriter.create(
        root / recording / info.stream_id, ordinal, info=info, number=number, identity=said,
        size=400_000, disk=DISK, random=seeded(100 * number + ordinal),
    )  # fmt: skip
    for item in chunks:
        writer.append(item)
    writer.close()


def close(root: Path, recording: str = "rec-1") -> Path:
    write_recording_file(root, RecordingFile(recording, None, "node-1", closed=True), DISK)
    return root / recording


def bedside(
    root: Path,
    worn: dict[StreamInfo, str] = WORN,
    *,
    recording: str = "rec-1",
    has_date: bool = True,
) -> Path:
    """Of each stream rows 0..60, a marker, a gap of 30, rows 90..103."""
    identity: dict[str, Any] = {} if has_date else {"anchors": ()}
    for number, (info, who) in enumerate(worn.items(), 1):
        chunks = [chunk(info, 0, 60), markers(info), chunk(info, 90, 13)]
        if not has_date:
            chunks = [replace(item, t_first_utc_ns=None) for item in chunks]
        add_segment(root, info, who, chunks, recording=recording, number=number, **identity)
    return close(root, recording)
