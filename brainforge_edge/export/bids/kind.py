"""Which modality a stream is, or why BIDS has no place for it. Pure. Runs in: `brainforge-edge export`."""

from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.stream import RAW, StreamInfo
from brainforge_edge.export.stim import is_trigger

MAGNETIC = frozenset({"mag", "grad", "ref_meg"})
MOTION_UNITS = {"m/s^2": "ACCEL", "rad/s": "GYRO"}
_LIGHT = "fnirs_"
CHANNEL_TYPES = {
    "eeg": "EEG", "eog": "EOG", "ecg": "ECG", "emg": "EMG", "stim": "TRIG", "mag": "MEGMAG",
    "grad": "MEGOTHER", "ref_meg": "MEGREFMAG", "resp": "RESP", "gsr": "GSR",
    "ecog": "ECOG", "seeg": "SEEG",
}  # fmt: skip


def datatype_of(info: StreamInfo) -> str:
    """`eeg`, `meg`, `nirs` or `motion`; StorageError `export_misfit`."""
    types = {channel.type for channel in info.channels}
    if RAW in types:
        why = "its rows are a device's own bytes, not samples"
        raise misfit(info.stream_id, why, "Export it as csv or parquet")
    if types & MAGNETIC:
        return "meg"
    if "eeg" in types:
        return "eeg"
    if any(each.startswith(_LIGHT) for each in types):
        return "nirs"
    if all(channel.unit in MOTION_UNITS for channel in info.channels):
        return "motion"
    if is_trigger(info):
        why = "its trigger words go with magnetic samples of the same rows, and none are here"
    else:
        why = f"its channels are {', '.join(sorted(types))}: none of EEG, MEG, fNIRS and motion"
    raise misfit(info.stream_id, why, "Export it as csv or parquet")


def bids_type(kind: str) -> str:
    return CHANNEL_TYPES.get(kind, "MISC")


def misfit(stream_id: str, why: str, remedy: str) -> StorageError:
    return StorageError(
        "export_misfit",
        f"stream {stream_id} has no place in a BIDS dataset",
        why=why,
        remedy=remedy,
    )
