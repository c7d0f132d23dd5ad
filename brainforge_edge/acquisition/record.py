"""Ring → journal, then `written`. Never syncs, never encodes.

Runs in: acquire process, record thread of a recording. Wakes for each frame and coalesces what
comes within 5 ms of the last write.
"""

from brainforge_edge.acquisition.recording import JOURNAL, OVERRUN, RETRY_S, Part, Recording
from brainforge_edge.core.block import BlockFlag, Gap, GapBasis, GapCause
from brainforge_edge.core.errors import StorageError
from brainforge_edge.recorder.journal import Entry, Journal

COALESCE_NS = 5_000_000
WAIT_S = 0.1
MAX_ROWS = 2048  # a burst (preroll, stalled disk) is written in pieces
MAX_BYTES = 4 * 1024 * 1024  # … none so large that a reader of the journal would refuse it


class Record:
    """Thread body: call `run`, or `turn` by `turn` where a test has the clock."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._parts = [
            (part, _most_rows(part, recording.journal)) for part in recording.parts.values()
        ]
        self._buffer = bytearray()
        self._last_write_ns = 0
        # By stream: (incarnation, seq) after the last journalled row, and before rows left out.
        self._last: dict[str, tuple[int, int]] = {}
        self._skipped_from: dict[str, tuple[int, int]] = {}

    def run(self) -> None:
        recording = self._recording
        try:
            while not recording.abort.is_set() and not self.turn():
                self._sleep()
        except Exception as error:  # noqa: BLE001  outermost loop: main ends the process
            recording.crashed = error

    def turn(self) -> bool:
        """Journal what there is; True when the recording is over."""
        recording = self._recording
        if recording.rewrite.is_set():
            self._go_back()
        is_closing = recording.is_closing  # before the look: then nothing comes after it
        if self._write_all() and is_closing:
            recording.poke()
            return False
        if not is_closing or recording.rewrite.is_set():
            return False
        if not recording.drained.is_set():
            recording.drained.set()
            recording.let_go(recording)
        return recording.synced.is_set()

    def _sleep(self) -> None:
        """Until there may be something to do. A poke during `_write_all` counts: this returns at once."""
        if not self._recording.wake.wait(WAIT_S):
            return
        clock = self._recording.env.clock
        early_ns = COALESCE_NS - (clock.monotonic_ns() - self._last_write_ns)
        if 0 < early_ns <= COALESCE_NS:
            clock.sleep(early_ns / 1e9)

    def _write_all(self) -> bool:
        """Journal what the rings hold; True if there was anything."""
        wrote = False
        for part, most_rows in self._parts:
            head = part.stream.ring.head
            end = head if part.close_at is None else min(head, part.close_at)
            while part.journaled < end:
                upto = min(end, part.journaled + most_rows)
                wrote = True
                if not self._write(part, upto):
                    self._recording.poke()  # it is to be tried again
                    return True
        if wrote:
            self._last_write_ns = self._recording.env.clock.monotonic_ns()
        return wrote

    def _write(self, part: Part, upto: int) -> bool:
        recording = self._recording
        stream = part.stream
        try:
            last = self._append(part, upto)
        except StorageError as error:
            if error.code == OVERRUN:
                self._skip(part)
                return False
            recording.faults[JOURNAL] = error
            recording.journal.abandon()
            self._go_back()
            recording.env.clock.sleep(RETRY_S)
            return False
        stream_id = stream.info.stream_id
        mark = (recording.journal.appended, stream_id, upto)
        recording.undurable.append(mark)  # without `marks`: who holds it takes from the other end
        recording.unreleased.append(mark)
        self._last[stream_id] = last
        part.journaled = upto
        if stream.ring.written < upto:
            stream.ring.set_written(upto)
        return True

    def _append(self, part: Part, upto: int) -> tuple[int, int]:
        """Rows up to `upto` to the journal; (incarnation, seq) after the last of them."""
        stream, journal = part.stream, self._recording.journal
        if not self._skipped_from and (part.after is None or part.journaled != part.first):
            last = journal.append_rows(stream.ring, stream.number, part.journaled, upto)
            if last is not None:
                return last
        entries = self._entries(part, upto)
        journal.append(entries)
        return entries[-1].incarnation, entries[-1].end

    def _entries(self, part: Part, upto: int) -> list[Entry]:
        """The rows as they stand in the ring; StorageError if newer ones took their place."""
        stream = part.stream
        need = (upto - part.journaled) * stream.info.row_bytes
        if len(self._buffer) < need:
            self._buffer = bytearray(need)
        view = memoryview(self._buffer)
        entries: list[Entry] = []
        at = 0
        for run in stream.ring.runs(part.journaled, upto):
            size = stream.ring.packed(run.row, run.n, self._buffer, at)
            gap, flags = run.gap, run.flags
            before = self._skipped_from.pop(stream.info.stream_id, None)
            if before is None and run.row == part.first:
                before = part.after
            is_hole = before is not None and before[0] == run.incarnation and before[1] < run.seq
            if gap is None and before is not None and is_hole:
                gap = Gap(run.seq - before[1], 0, GapBasis.DEVICE_INDEX, GapCause.BOX)
                flags |= BlockFlag.GAP_BEFORE
            entries.append(
                Entry(
                    stream=stream.number,
                    incarnation=run.incarnation,
                    seq=run.seq,
                    t_first_ns=run.t_first_ns,
                    n_samples=run.n,
                    flags=flags,
                    gap=gap,
                    payload=view[at : at + size],
                )
            )
            at += size
        return entries

    def _skip(self, part: Part) -> None:
        """Rows that newer ones replaced before a slow disk took them: a gap, named.

        Not those that were journalled once: the archive reads them in the file that failed.
        """
        stream = part.stream
        oldest = stream.ring.head - stream.ring.capacity + stream.ring.guard
        oldest = max(part.journaled + 1, oldest)
        if part.journaled < part.rewritten:
            with self._recording.marks:
                part.journaled = part.hold_until = min(oldest, part.rewritten)
            return
        if part.close_at is not None:
            oldest = min(oldest, part.close_at)
        last = self._last.get(stream.info.stream_id)
        if last is not None:
            self._skipped_from[stream.info.stream_id] = last
        elif part.journaled == part.first:
            part.first = stream.ring.recording_row = oldest
        part.skipped.append((part.journaled, oldest))
        stream.box_drops += oldest - part.journaled
        part.journaled = oldest

    def _go_back(self) -> None:
        """Rewrite from the ring what is not durable: the file it was written to is not trusted."""
        recording = self._recording
        recording.drained.clear()
        with recording.marks:
            recording.undurable.clear()
            for part in recording.parts.values():
                ring = part.stream.ring
                part.rewritten = max(part.rewritten, part.journaled)
                known = max(part.first, ring.durable, min(part.archived, part.journaled))
                oldest = ring.head - ring.capacity + ring.guard
                if known < min(oldest, part.journaled):
                    # They left the ring, but not the file: the archive reads them there.
                    known = part.hold_until = min(oldest, part.journaled)
                part.journaled = min(part.journaled, known)
            recording.rewrite.clear()


def _most_rows(part: Part, journal: Journal) -> int:
    """Rows of one entry at most."""
    ring = part.stream.ring
    most_bytes = min(MAX_BYTES, journal.most_payload)
    return max(1, min(MAX_ROWS, most_bytes // ring.info.row_bytes, ring.capacity))
