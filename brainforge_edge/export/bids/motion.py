"""`motion/`: accelerometers and gyroscopes as a table of values in their unit. Runs in: `brainforge-edge export`.

Each value is written with all digits of its float64, so that it comes back as it was. Gaps hold the
row before them, as everywhere, and are named in the events.
"""

from pathlib import Path

import numpy as np

from brainforge_edge.core.stream import StreamInfo
from brainforge_edge.export.bids.kind import MOTION_UNITS, misfit
from brainforge_edge.export.bids.table import ABSENT, Table, number
from brainforge_edge.export.bids.written import Written
from brainforge_edge.export.label import numbered, one_line
from brainforge_edge.export.line import pieces
from brainforge_edge.export.recording import StreamRows
from brainforge_edge.export.scale import without_value


def write(rows: StreamRows, folder: Path, stem: str, tracked: str) -> Written:
    """Needs memory for one chunk. `tracked` names the sensor. StorageError `export_misfit` for an infinity."""
    info = rows.info
    if why := without_value(info):
        raise misfit(info.stream_id, why, "Export it as csv or parquet")
    path = folder / f"{stem}_motion.tsv"
    scale = np.array([channel.scale for channel in info.channels])
    offset = np.array([channel.offset for channel in info.channels])
    with path.open("w", encoding="ascii", newline="") as file:
        for block in pieces(rows):
            values = block * scale + offset
            if np.isinf(values).any():
                why = "some of its values are infinite, and its tables have no word for that"
                raise misfit(info.stream_id, why, "Export it as parquet")
            for line in values.tolist():
                cells = (ABSENT if value != value else repr(value) for value in line)  # noqa: PLR0124 - NaN
                file.write("\t".join(cells) + "\n")
    sidecar = {"TrackingSystemName": tracked, "MissingValues": ABSENT, **_counts(info)}
    return Written((path,), _channels(info, tracked), sidecar)


def _channels(info: StreamInfo, tracked: str) -> Table:
    columns = ("name", "component", "type", "tracked_point", "units", "sampling_frequency")
    rows = []
    names = numbered((one_line(name) for name in info.ch_names), taken=(ABSENT,))
    for name, channel in zip(names, info.channels, strict=True):
        axis = channel.name[-1:].lower()
        rows.append(
            (
                name,
                axis if axis in {"x", "y", "z"} else ABSENT,
                MOTION_UNITS[channel.unit],
                tracked,
                channel.unit,
                number(info.sfreq),
            )
        )
    return Table.of(columns, rows)


def _counts(info: StreamInfo) -> dict[str, object]:
    types = [MOTION_UNITS[channel.unit] for channel in info.channels]
    each = {f"{kind}ChannelCount": types.count(kind) for kind in sorted(set(types))}
    return {"MotionChannelCount": len(types), "TrackedPointsCount": 1, **each}
