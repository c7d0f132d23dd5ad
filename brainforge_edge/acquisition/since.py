"""Where in a ring a time is, and where what is held already ends. Runs in: acquire process, main thread, under the lock of what enters."""

import math
from collections.abc import Mapping

from brainforge_edge.recorder.ranges import Ranges
from brainforge_edge.rings.ring import SampleRing

_NS = 1e9


def row_since(ring: SampleRing, oldest: int, head: int, since_ns: int) -> int:
    """The first row from `oldest` on that was sampled at `since_ns` or later; `head` if none was.

    By the times of the rows, not by counting back: with a gap in between the count reaches too far.
    """
    sfreq = ring.info.sfreq
    for run in ring.runs(oldest, head) if oldest < head else ():
        early_ns = since_ns - run.t_first_ns
        if early_ns <= 0:
            return run.row
        skipped = math.ceil(early_ns / _NS * sfreq) if sfreq > 0 else run.n
        if skipped < run.n:
            return run.row + skipped
    return head


def row_behind(ring: SampleRing, first: int, head: int, held: Mapping[int, Ranges]) -> int:
    """The first row from `first` on that is not `held`, by incarnation and seq."""
    row = first
    for run in ring.runs(first, head) if held and first < head else ():
        rows = held.get(run.incarnation, Ranges())
        missing = next(rows.missing(run.seq, run.seq + run.n), None)
        if missing is not None:
            return row + missing[0] - run.seq
        row += run.n
    return row
