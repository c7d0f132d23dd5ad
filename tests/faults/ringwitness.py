"""What a box said it has, as another process sees it: read from the rings, whatever is killed meanwhile.

Rows before `durable` of an open recording were acknowledged; rows before `written` are said to survive
the death of any process. Both are kept as (stream, incarnation) → sequence numbers.
"""

import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.ranges import Intervals
from brainforge_edge.kernels.ring import RECORDING
from brainforge_edge.rings.layout import NO_ROW, named_runs
from brainforge_edge.rings.reader import RingReader

LOOK_S = 0.005
Rows = dict[tuple[str, int], Intervals]


class _Followed:
    """One ring: up to which row it was noted."""

    def __init__(self, path: Path) -> None:
        self.reader = RingReader(path)
        self.stream = path.stem
        self.recording = NO_ROW
        self.has_recorded = False
        self.durable = 0
        self.written = 0

    def look(self, durable: Rows, written: Rows) -> None:
        """The recording's row is moved before the cursors are, and is read on both sides of them."""
        first = self._recording_row()
        upto, came = self.reader.durable, self.reader.written
        if self._recording_row() != first:
            return
        if first != NO_ROW and self.recording == NO_ROW:
            # A recording began: `written` was ahead of the rows that it takes from before.
            self.durable, self.written = first, max(first, came)
            self.has_recorded = True
        self.recording = first
        if self.has_recorded:  # one that was ended is synced to its end
            self.durable = self._note(durable, self.durable, upto)
        if first != NO_ROW:
            self.written = self._note(written, self.written, came)

    def _recording_row(self) -> int:
        return self.reader._ring.cursor(RECORDING)

    def _note(self, rows: Rows, first: int, end: int) -> int:
        """Rows from `first` to `end`; up to where they are noted."""
        if end <= first:
            return first
        found = self.reader._ring.read(first, end - first)
        if found is None:
            raise AssertionError(f"the witness of {self.stream} was lapped at row {first}")
        for run in named_runs(found):
            samples = rows.setdefault((self.stream, run.incarnation), Intervals())
            samples.add(run.seq, run.seq + run.n)
        return end


class RingWitness:
    """`with RingWitness(folder) as witness`: every ring in it, also those that come later."""

    def __init__(self, rings: Path) -> None:
        self.durable: Rows = {}
        self.written: Rows = {}
        self.failed: AssertionError | None = None
        self._rings = rings
        self._followed: dict[Path, _Followed] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="witness")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Idempotent. Raises if it could not keep up: then it has seen nothing for a while."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._followed.clear()
        if self.failed is not None:
            raise self.failed

    def _watch(self) -> None:
        looks = 0
        while not self._stop.wait(LOOK_S):
            if looks % 20 == 0:
                self._find()
            looks += 1
            try:
                for followed in self._followed.values():
                    followed.look(self.durable, self.written)
            except AssertionError as error:
                self.failed = error
                return

    def _find(self) -> None:
        for path in self._rings.glob("*.ring"):
            known = self._followed.get(path)
            if known is not None and not known.reader.is_replaced:
                continue
            try:
                self._followed[path] = _Followed(path)
            except StorageError:
                continue  # being made, or removed again


def n_rows(rows: Rows, stream: str) -> int:
    return sum(samples.total for (name, _), samples in rows.items() if name == stream)


def missing(rows: Rows, stream: str, kept: Rows) -> int:
    """Rows of a stream that are not among the kept ones."""
    return sum(
        end - first
        for key, samples in rows.items()
        if key[0] == stream
        for low, high in samples
        for first, end in kept.get(key, Intervals()).missing(low, high)
    )
