"""The time line of a stream piece by piece, for formats that are written as they are read. Runs in: `brainforge-edge export`."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.export.recording import StreamRows

FILL_ROWS = 4096  # of a gap that are made at a time


def pieces(rows: StreamRows) -> Iterator[NDArray[Any]]:
    """`rows.line()` as blocks (n, n_channels), gaps filled with the row before them; one chunk in memory."""
    filled, last = 0, None
    for run in rows.runs():
        while last is not None and filled < run.row:
            n = min(FILL_ROWS, run.row - filled)
            yield np.repeat(last, n, axis=0)
            filled += n
        yield run.data
        filled, last = run.row + len(run.data), run.data[-1:]
