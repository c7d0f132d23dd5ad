"""Comma-separated text: one line per recorded row, no line for a gap. Runs in: `brainforge-edge export`.

Columns: box time (s), incarnation, seq, then the raw values; a comment line per channel gives unit,
scale and offset (physical = raw * scale + offset).
"""

import csv
from pathlib import Path

from brainforge_edge.export.label import one_line
from brainforge_edge.export.recording import StreamRows

SUFFIX = ".csv"


def write(rows: StreamRows, path: Path) -> None:
    """Write all rows; needs memory for one chunk only."""
    info = rows.info
    with path.open("w", encoding="utf-8", newline="") as file:
        for channel in info.channels:
            file.write(
                f"# {one_line(channel.name)}: unit {one_line(channel.unit)}, scale {channel.scale!r}, offset {channel.offset!r}\n"
            )
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(["t_s", "incarnation", "seq", *map(one_line, info.ch_names)])
        for run in rows.runs():
            for i, values in enumerate(run.data.tolist()):
                t_s = run.t_first_ns / 1e9 + i / info.sfreq
                lines.writerow([f"{t_s:.6f}", run.incarnation, run.seq + i, *values])
