"""Journalled rows → chunks → segments, synced; only then is their journal space free.

Runs in: acquire process, archive thread of a recording. May fall behind: the record thread never
waits for it.
"""

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from brainforge_edge.acquisition.journalrows import Key, pieces
from brainforge_edge.acquisition.recording import OVERRUN, RETRY_S, Part, Recording
from brainforge_edge.codec import registry
from brainforge_edge.core.block import BlockFlag, Gap, GapBasis, GapCause
from brainforge_edge.core.clock import take_anchor
from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.stream import Codec, chunk_samples
from brainforge_edge.recorder.chunk import Chunk, ChunkFlag
from brainforge_edge.recorder.entry import Entry
from brainforge_edge.recorder.segment import SegmentWriter, next_ordinal
from brainforge_edge.rings.layout import Run

CODEC = Codec.LOSSLESS
PAUSE_S = 0.05
STALE_S = 2.0  # a stream that fell silent is archived as far as it came, so that it is delivered


class Archive:
    """Thread body: call `run`."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._writers: dict[str, SegmentWriter] = {}
        self._next: dict[str, Key] = {}  # by stream: what follows the last row that was archived
        self._journal_rows: dict[str, Iterator[tuple[Entry, int]]] = {}  # while the ring is behind
        self._again: dict[str, tuple[Run, NDArray[Any]]] = {}  # a chunk that failed

    def run(self) -> None:
        recording = self._recording
        try:
            while not recording.abort.is_set():
                is_last = recording.synced.is_set()
                steps = [self._step(part, is_last=is_last) for part in recording.parts.values()]
                if any(steps):
                    continue
                if is_last:
                    break
                recording.env.clock.sleep(PAUSE_S)
            for stream_id, writer in self._writers.items():
                self._close(stream_id, writer)
            if not recording.abort.is_set():
                recording.journal.close()
                recording.finished.set()
        except Exception as error:  # noqa: BLE001  outermost loop: main ends the process
            recording.crashed = error

    def _step(self, part: Part, *, is_last: bool) -> bool:
        """Archive one chunk of a stream; False if none is due."""
        info = part.stream.info
        while part.skipped and part.archived >= part.skipped[0][0]:
            self._move(part, max(part.archived, part.skipped.popleft()[1]))
        found = self._again.pop(info.stream_id, None)
        try:
            found = found or self._from_ring(part, is_last=is_last)
        except StorageError as error:
            if error.code != OVERRUN:
                raise
            found = self._from_journal(part)
        if found is None:
            return False
        run, rows = found
        chunk = self._chunk(part, run, registry.encode(CODEC, rows, info.dtype))
        try:
            self._append(part, chunk)
        except StorageError as error:
            self._recording.fault = error
            failed = self._writers.pop(info.stream_id, None)  # never the same descriptor again
            if failed is not None:
                self._close(info.stream_id, failed)
            self._again[info.stream_id] = found
            self._recording.env.clock.sleep(RETRY_S)
            return not self._recording.abort.is_set()
        self._next[info.stream_id] = (run.incarnation, run.seq + run.n)
        self._move(part, run.row + run.n)
        return True

    def _move(self, part: Part, row: int) -> None:
        part.archived = row
        part.stream.archived_row = row
        self._release()

    def _from_ring(self, part: Part, *, is_last: bool) -> tuple[Run, NDArray[Any]] | None:
        ring = part.stream.ring
        if part.stream.info.stream_id in self._journal_rows:
            if part.archived < ring.head - ring.capacity + ring.guard:
                return self._from_journal(part)
            del self._journal_rows[part.stream.info.stream_id]
        run = self._due(part, is_last=is_last)
        if run is None:
            return None
        return self._joined_on(part, run), ring.rows(run.row, run.n)

    def _joined_on(self, part: Part, run: Run) -> Run:
        """A hole that the ring does not name: rows that were lost between ring and archive."""
        key = self._next.get(part.stream.info.stream_id)
        if key is None or key[0] != run.incarnation or run.gap is not None or run.seq <= key[1]:
            return run
        gap = Gap(run.seq - key[1], 0, GapBasis.DEVICE_INDEX, GapCause.BOX)
        return run._replace(gap=gap)

    def _from_journal(self, part: Part) -> tuple[Run, NDArray[Any]] | None:
        """The next rows, which newer ones have replaced in the ring; None once they are passed."""
        recording = self._recording
        stream = part.stream
        info = stream.info
        key = info.stream_id
        if key not in self._journal_rows:
            paths = recording.journal.paths()
            after = self._next.get(key)
            disk = recording.env.disk
            self._journal_rows[key] = pieces(paths, stream.number, info, after=after, disk=disk)
        found = next(self._journal_rows[key], None)
        if found is None:
            # Nothing can read them any more. What follows names the gap.
            del self._journal_rows[key]
            oldest = stream.ring.head - stream.ring.capacity + stream.ring.guard
            self._move(part, max(part.archived, min(oldest, part.journaled)))
            return None
        entry, lost = found
        if lost:
            self._move(part, part.archived + lost)
        run = Run(
            part.archived,
            entry.n_samples,
            entry.incarnation,
            entry.seq,
            entry.t_first_ns,
            entry.flags,
            entry.gap,
        )
        return run, registry.unpack_rows(bytes(entry.payload), info.dtype, info.n_channels)

    def _due(self, part: Part, *, is_last: bool) -> Run | None:
        """The next run of rows that makes a chunk: up to the grid line, a gap, or the end."""
        stream = part.stream
        step = chunk_samples(stream.info)
        end = stream.ring.written if part.close_at is None else part.close_at
        end = min(end, part.journaled, part.archived + step + 1)
        if end <= part.archived:
            return None
        runs = stream.ring.runs(part.archived, end)
        run = runs[0]
        to_grid = step - run.seq % step
        if run.n >= to_grid:
            return run._replace(n=to_grid)
        silent_s = (self._recording.env.clock.monotonic_ns() - stream.last_push_ns) / 1e9
        is_stale = end == stream.ring.head and silent_s > STALE_S + step / stream.info.sfreq
        if len(runs) > 1 or is_stale or (is_last and end == part.close_at):
            return run
        return None

    def _chunk(self, part: Part, run: Run, body: bytes) -> Chunk:
        info = part.stream.info
        env = self._recording.env
        anchor = take_anchor(env.clock, env.boot_id)
        flags = ChunkFlag(0)
        for bit, name in (
            (BlockFlag.FIRST, ChunkFlag.FIRST),
            (BlockFlag.CLOCK_STEP, ChunkFlag.CLOCK_STEP),
            (BlockFlag.SATURATED, ChunkFlag.SATURATED),
            (BlockFlag.EMULATED, ChunkFlag.EMULATED),
        ):
            if run.flags & bit:
                flags |= name
        extension: dict[str, Any] = {}
        if run.gap is not None:
            flags |= ChunkFlag.GAP_BEFORE
            gap = run.gap
            extension["gap"] = [gap.n, gap.plus_minus, str(gap.basis), str(gap.cause)]
        if part.stream.clock is not None:
            extension["clock"] = list(part.stream.clock)
        return Chunk(
            codec=CODEC,
            dtype=info.dtype,
            n_channels=info.n_channels,
            n_samples=run.n,
            log_id=env.log_id,
            incarnation=run.incarnation,
            stream_number=part.stream.number,
            seq=run.seq,
            t_first_ns=run.t_first_ns,
            sfreq=info.sfreq,
            body=body,
            flags=flags,
            t_first_utc_ns=anchor.utc_of(run.t_first_ns),
            utc_uncertainty_ns=anchor.uncertainty_ns,
            extension=extension,
        )

    def _append(self, part: Part, chunk: Chunk) -> None:
        writer = self._writer(part)
        before = writer.end
        writer.append(chunk)
        part.stream.segment_bytes += writer.end - before
        self._announce(part.stream.info.stream_id, writer)

    def _writer(self, part: Part) -> SegmentWriter:
        stream_id = part.stream.info.stream_id
        writer = self._writers.get(stream_id)
        if writer is not None and writer.is_full:
            del self._writers[stream_id]
            self._close(stream_id, writer)
            writer = None
        if writer is None:
            writer = self._open(part)
            self._writers[stream_id] = writer
        return writer

    def _open(self, part: Part) -> SegmentWriter:
        env = self._recording.env
        folder = self._recording.folder / part.stream.info.stream_id
        env.disk.make_folder(folder)
        return SegmentWriter.create(
            folder,
            next_ordinal(folder, env.disk),
            info=part.stream.info,
            number=part.stream.number,
            identity=env.identity(self._recording.name),
            size=env.segment_bytes,
            disk=env.disk,
            random=env.random,
        )

    def _close(self, stream_id: str, writer: SegmentWriter) -> None:
        """Cut the file to its chunks. They are synced already: if this fails, recovery cuts it."""
        try:
            writer.close()
        except StorageError as error:
            self._recording.fault = error
        self._announce(stream_id, writer)

    def _announce(self, stream_id: str, writer: SegmentWriter) -> None:
        self._recording.env.archived(self._recording.name, stream_id, writer.path.name, writer.end)

    def _release(self) -> None:
        """Give back journal space: every entry whose rows lie in synced segments."""
        recording = self._recording
        position = None
        while recording.unreleased:
            at, stream_id, row = recording.unreleased[0]
            if recording.parts[stream_id].archived < row:
                break
            recording.unreleased.popleft()
            position = at
        if position is not None:
            recording.journal.release(position)
