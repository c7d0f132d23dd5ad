"""`meg/`: FIF, with the trigger words of the same rows. Runs in: `brainforge-edge export`."""

from pathlib import Path

import msgspec

from brainforge_edge.export import fif
from brainforge_edge.export.bids import eeg
from brainforge_edge.export.bids.table import ABSENT
from brainforge_edge.export.bids.written import Written
from brainforge_edge.export.recording import StreamRows


def write(rows: StreamRows, words: StreamRows | None, folder: Path, stem: str) -> Written:
    """Above 2 GB MNE splits the file, and each part is in `scans.tsv`."""
    fif.write(rows, folder / f"{stem}_meg.fif", words, split_naming="bids")
    info = rows.info
    if words is not None:
        info = msgspec.structs.replace(info, channels=(*info.channels, words.info.channels[0]))
    channels = eeg.table(info, fif.labels(info), [channel.unit for channel in info.channels])
    types = channels.column("type")
    n_meg = sum(kind in {"MEGMAG", "MEGOTHER"} for kind in types)
    sidecar = {
        "DewarPosition": ABSENT,  # sensors on the head: there is none
        "DigitizedLandmarks": False,
        "DigitizedHeadPoints": False,
        "MEGChannelCount": n_meg,
        "MEGREFChannelCount": types.count("MEGREFMAG"),
        **eeg.counts(info),
    }
    scans = sorted(folder.glob(f"{stem}*_meg.fif"))
    return Written(tuple(scans), channels, sidecar)
