"""`eeg/`: BrainVision, else EDF+, else BDF+, whichever holds the stream exactly. Runs in: `brainforge-edge export`."""

from collections.abc import Sequence
from pathlib import Path

from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.stream import ChannelDetail, StreamInfo
from brainforge_edge.export import bdf, brainvision, edf, edfplus
from brainforge_edge.export.bids.kind import bids_type, misfit
from brainforge_edge.export.bids.table import ABSENT, Table, number
from brainforge_edge.export.bids.written import Written
from brainforge_edge.export.recording import StreamRows

_FORMATS = (("BrainVision", brainvision), ("EDF", edf), ("BDF", bdf))


def write(rows: StreamRows, folder: Path, stem: str) -> Written:
    """StorageError `export_misfit` where none of the formats holds the stream."""
    reasons = []
    for name, module in _FORMATS:
        path = folder / f"{stem}_eeg{module.SUFFIX}"
        try:
            module.write(rows, path)
        except StorageError as error:
            if error.code != "storage.export_misfit":
                raise
            reasons.append(f"not as {name}, for {error.why}")
            for left in folder.glob(f"{stem}_eeg.*"):
                left.unlink()  # a half
            continue
        return _told(rows, path)
    why = (
        f"BIDS takes EEG as BrainVision, EDF or BDF, and each would change it: {'; '.join(reasons)}"
    )
    raise misfit(rows.info.stream_id, why, "Export it as fif or parquet")


def _told(rows: StreamRows, path: Path) -> Written:
    """Channels are called as readers of the file get them."""
    info, n_filled = rows.info, 0
    if path.suffix == brainvision.SUFFIX:
        names = brainvision.labels(info)
        units = [brainvision.resolution(channel)[1] for channel in info.channels]
    else:
        width = edfplus.EDF if path.suffix == edf.SUFFIX else edfplus.BDF
        names = edfplus.labels(info.ch_names)
        units = [edfplus.physical(channel, width)[0] for channel in info.channels]
        n_filled = edfplus.filled_at_the_end(info, rows.n_rows, width)
    return Written((path,), table(info, names, units), _sidecar(info), n_filled=n_filled)


def table(info: StreamInfo, names: Sequence[str], units: Sequence[str]) -> Table:
    """Of EEG and MEG. `description` is the recorded name where the file's is another one."""
    columns = (
        "name", "type", "units", "description", "sampling_frequency", "low_cutoff", "high_cutoff",
    )  # fmt: skip
    rows = [
        (
            name,
            bids_type(channel.type),
            ABSENT if unit == "1" else unit,
            ABSENT if name == channel.name else channel.name,
            number(info.sfreq),
            ABSENT,
            ABSENT,
        )
        for name, unit, channel in zip(names, units, info.channels, strict=True)
    ]
    return Table.of(columns, rows)


def _sidecar(info: StreamInfo) -> dict[str, object]:
    details = [channel.detail for channel in info.channels if channel.type == "eeg"]
    references = {
        detail.front_end.reference if detail.front_end is not None else ""
        for detail in details
        if isinstance(detail, ChannelDetail)
    } or {""}
    known = [each for each in sorted(references) if each]
    reference = known[0] if len(references) == 1 and known else ABSENT
    return {"EEGReference": reference, **counts(info)}


def counts(info: StreamInfo) -> dict[str, object]:
    """How many channels of each type there are."""
    types = [bids_type(channel.type) for channel in info.channels]
    named = {
        "EEG": "EEGChannelCount", "EOG": "EOGChannelCount", "ECG": "ECGChannelCount",
        "EMG": "EMGChannelCount", "MISC": "MiscChannelCount", "TRIG": "TriggerChannelCount",
    }  # fmt: skip
    return {key: types.count(kind) for kind, key in named.items() if kind in types}
