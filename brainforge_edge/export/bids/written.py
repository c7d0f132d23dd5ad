"""What a modality made of a stream. Runs in: `brainforge-edge export`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from brainforge_edge.export.bids.table import Table


class Written(NamedTuple):
    scans: tuple[Path, ...]  # the files that scans.tsv names
    channels: Table
    sidecar: Mapping[str, Any]  # beside what every modality has
    optodes: Table | None = None
    n_filled: int = 0  # rows that the format put behind the last one
