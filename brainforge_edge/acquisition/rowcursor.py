"""The rows of a stream on their way into chunks: from the ring, or from the journal once they left it.

Runs in: acquire process, archive thread of a recording.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from numpy.typing import NDArray

from brainforge_edge.acquisition.journalrows import Key, pieces
from brainforge_edge.acquisition.recording import OVERRUN, Part, Recording
from brainforge_edge.codec import registry
from brainforge_edge.core.block import Gap, GapBasis, GapCause
from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.stream import chunk_samples
from brainforge_edge.recorder.entry import Entry
from brainforge_edge.rings.layout import Run

STALE_S = 2.0  # a stream that fell silent is archived as far as it came, so that it is delivered

Rows = tuple[Run, NDArray[Any]]


class Place(NamedTuple):
    """Between two rows of a stream."""

    row: int  # of the ring: the one that comes next
    after: Key | None  # (incarnation, seq) that follows the last row before; None if there is none


class RowCursor:
    """`next` gives the rows of a chunk, `passed` goes on behind them, `go_back` gives them again."""

    def __init__(self, recording: Recording, part: Part) -> None:
        self.place = Place(part.first, part.after)
        self._recording = recording
        self._part = part
        self._journal: Iterator[tuple[Entry, int]] | None = None  # while the ring is ahead

    def next(self, *, is_last: bool) -> Rows | None:
        """Rows of the next chunk, None if none is due. May move over rows that nothing holds any more."""
        self._skip()
        try:
            return self._from_ring(is_last=is_last)
        except StorageError as error:
            if error.code != OVERRUN:
                raise
            return self._from_journal()

    def passed(self, run: Run) -> None:
        self.place = Place(run.row + run.n, (run.incarnation, run.seq + run.n))

    def go_back(self, place: Place) -> None:
        self.place = place
        self._journal = None

    def _skip(self) -> None:
        """Over rows that left the ring before they were journalled. They stay listed until what lies
        before them is synced: the cursor may come here again."""
        for i in range(len(self._part.skipped)):  # the record thread appends meanwhile
            first, end = self._part.skipped[i]
            if first <= self.place.row < end:
                self.place = self.place._replace(row=end)

    @property
    def _oldest(self) -> int:
        """Row of the ring before which newer ones may have taken the place."""
        ring = self._part.stream.ring
        return ring.head - ring.capacity + ring.guard

    def _from_ring(self, *, is_last: bool) -> Rows | None:
        if self._journal is not None:
            if self.place.row < self._oldest:
                return self._from_journal()
            self._journal = None
        run = self._due(is_last=is_last)
        if run is None:
            return None
        return self._joined_on(run), self._part.stream.ring.rows(run.row, run.n)

    def _joined_on(self, run: Run) -> Run:
        """A hole that the ring does not name: rows that were lost between ring and archive."""
        key = self.place.after
        if key is None or key[0] != run.incarnation or run.gap is not None or run.seq <= key[1]:
            return run
        gap = Gap(run.seq - key[1], 0, GapBasis.DEVICE_INDEX, GapCause.BOX)
        return run._replace(gap=gap)

    def _due(self, *, is_last: bool) -> Run | None:
        """The next run of rows that makes a chunk: up to the grid line, a gap, or the end."""
        part = self._part
        stream = part.stream
        row = self.place.row
        step = chunk_samples(stream.info)
        end = stream.ring.written if part.close_at is None else part.close_at
        end = min(end, part.journaled, row + step + 1)
        if end <= row:
            return None
        runs = stream.ring.runs(row, end)
        run = runs[0]
        to_grid = step - run.seq % step
        if run.n >= to_grid:
            return run._replace(n=to_grid)
        silent_s = (self._recording.env.clock.monotonic_ns() - stream.last_push_ns) / 1e9
        is_stale = end == stream.ring.head and silent_s > STALE_S + step / stream.info.sfreq
        if len(runs) > 1 or is_stale or (is_last and end == part.close_at):
            return run
        return None

    def _from_journal(self) -> Rows | None:
        """The next rows, which newer ones have replaced in the ring; None once they are passed."""
        found = None if self._journal is None else next(self._journal, None)
        if found is None:  # the first time, or it was read to where it ended then
            self._journal = self._read_journal()
            found = next(self._journal, None)
        if found is None:
            # Nothing can read them any more. What follows names the gap.
            self._journal = None
            row = min(self._oldest, self._part.journaled)
            self.place = self.place._replace(row=max(self.place.row, row))
            return None
        entry, lost = found
        self.place = self.place._replace(row=self.place.row + lost)
        run = Run(
            self.place.row,
            entry.n_samples,
            entry.incarnation,
            entry.seq,
            entry.t_first_ns,
            entry.flags,
            entry.gap,
        )
        info = self._part.stream.info
        return run, registry.unpack_rows(bytes(entry.payload), info.dtype, info.n_channels)

    def _read_journal(self) -> Iterator[tuple[Entry, int]]:
        recording, stream = self._recording, self._part.stream
        return pieces(
            recording.journal.paths(),
            stream.number,
            stream.info,
            after=self.place.after,
            disk=recording.env.disk,
            key=recording.key,
        )
