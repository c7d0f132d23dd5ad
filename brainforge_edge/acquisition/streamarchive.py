"""One stream's rows → chunks → segment files: appended as they come, written and synced together.

Runs in: acquire process, archive thread of a recording. Two places say everything: `appended` (rows
before it are in chunks) and `synced` (… and those on the disk). Only what lies before `synced` is
announced, and only that gives back journal space. An error takes `appended` back to `synced`: the
rows between go into another file, from the ring or the journal.
"""

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from brainforge_edge.acquisition.recording import RETRY_S, Part, Recording
from brainforge_edge.acquisition.rowcursor import Place, RowCursor
from brainforge_edge.codec import registry
from brainforge_edge.core.block import BlockFlag
from brainforge_edge.core.clock import take_anchor
from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.stream import Codec, chunk_samples
from brainforge_edge.recorder.chunk import Chunk
from brainforge_edge.recorder.cut import chunk_flags, gap_record
from brainforge_edge.recorder.segment import SegmentWriter, next_ordinal
from brainforge_edge.rings.layout import Run

CODEC = Codec.LOSSLESS
# Each sync into reserved space costs a commit of the file system's journal, about 20 kB: 6 to 8 % of
# a chunk of 306 channels (docs/decisions/0008). Rows are on the disk in the journal all the while,
# so this delays their delivery alone. Slow streams have chunks of 8 s and sync each, as before.
SYNC_S = 8.0
CUT_TRIES = 100  # 8 s are 5 s, once a recording ends


class StreamArchive:
    """`step` until nothing is due, `close` until it is true."""

    def __init__(self, recording: Recording, part: Part, release: Callable[[], None]) -> None:
        self._recording = recording
        self._part = part
        self._release = release
        self._rows = RowCursor(recording, part)
        self._synced = self._rows.place
        self._pending_since_ns: int | None = None  # when the first unsynced chunk was appended
        self._writer: SegmentWriter | None = None
        # Files that could not be cut, and how often it was tried: they hold, perhaps, rows that went
        # into another file since.
        self._uncut: list[tuple[SegmentWriter, int]] = []

    @property
    def appended(self) -> Place:
        return self._rows.place

    def step(self, *, is_last: bool) -> bool:
        """Append a chunk if one is due, sync if that is; whether there may be more to do at once."""
        found = self._rows.next(is_last=is_last)
        try:
            if found is not None:
                self._append(*found)
            if self._is_sync_due():
                self._sync()
        except StorageError as error:
            return self._start_over(error)
        if self._writer is not None and self._writer.is_full:
            self._close_file()
        return found is not None

    def close(self) -> bool:
        """Sync what is pending and cut the file to it; False if that must be tried once more."""
        try:
            self._sync()
        except StorageError as error:
            self._start_over(error)
            return False
        self._close_file()
        self._cut_again()
        return not self._uncut

    def _is_sync_due(self) -> bool:
        """So that a row is on the disk in a chunk at most `SYNC_S` after it came."""
        since = self._pending_since_ns
        if since is None:
            return self.appended != self._synced  # rows that nothing holds were passed
        assert self._writer is not None
        info = self._part.stream.info
        waited_s = (self._recording.env.clock.monotonic_ns() - since) / 1e9
        return (
            self._writer.is_full
            or waited_s >= SYNC_S - chunk_samples(info) / info.sfreq
            or self.appended.row - self._synced.row >= SYNC_S * info.sfreq  # it catches up
            or self._part.hold_until > self._synced.row  # `durable` waits for it
            or self._recording.journal.is_nearly_used
        )

    def _append(self, run: Run, rows: NDArray[Any]) -> None:
        chunk = self._chunk(run, registry.encode(CODEC, rows, self._part.stream.info.dtype))
        if self._writer is None:
            self._writer = self._open_file()
        self._writer.append(chunk)
        self._rows.passed(run)
        if self._pending_since_ns is None:
            self._pending_since_ns = self._recording.env.clock.monotonic_ns()

    def _sync(self) -> None:
        writer = self._writer
        if writer is not None and not writer.is_synced:
            before = writer.synced
            writer.sync()
            self._recording.faults.pop(self._part.stream.info.stream_id, None)
            self._part.stream.segment_bytes += writer.synced - before
            self._announce(writer)
            self._cut_again()
        self._settle()

    def _settle(self) -> None:
        """Everything that was appended is on the disk."""
        part = self._part
        self._synced = self.appended
        self._pending_since_ns = None
        part.archived = part.stream.archived_row = self._synced.row
        while part.skipped and part.skipped[0][1] <= self._synced.row:
            part.skipped.popleft()
        self._release()

    def _start_over(self, error: StorageError) -> bool:
        """Never the same descriptor again: back to what is synced, and on in another file."""
        self._recording.faults[self._part.stream.info.stream_id] = error
        self._close_file()
        self._rows.go_back(self._synced)
        self._pending_since_ns = None
        self._recording.env.clock.sleep(RETRY_S)
        return not self._recording.abort.is_set()

    def _close_file(self) -> None:
        """Cut it to what is synced, if need be later."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        try:
            writer.close()
        except StorageError as error:
            self._recording.faults[self._part.stream.info.stream_id] = error
            self._uncut.append((writer, 1))
        self._announce(writer)

    def _cut_again(self) -> None:
        """What could not be cut; given up after a while: `verify` says then which rows lie there twice."""
        uncut, self._uncut = self._uncut, []
        for writer, tries in uncut:
            try:
                writer.close()
            except StorageError as error:
                self._recording.faults[self._part.stream.info.stream_id] = error
                if tries < CUT_TRIES:
                    self._uncut.append((writer, tries + 1))

    def _open_file(self) -> SegmentWriter:
        env = self._recording.env
        stream = self._part.stream
        folder = self._recording.folder / stream.info.stream_id
        env.disk.make_folder(folder)
        return SegmentWriter.create(
            folder,
            next_ordinal(folder, env.disk),
            info=stream.info,
            number=stream.number,
            identity=env.identity(self._recording.name, self._recording.key),
            size=env.segment_bytes,
            disk=env.disk,
            random=env.random,
            key=self._recording.key,
        )

    def _announce(self, writer: SegmentWriter) -> None:
        recording = self._recording
        stream_id = self._part.stream.info.stream_id
        recording.env.archived(recording.name, stream_id, writer.path.name, writer.synced)

    def _chunk(self, run: Run, body: bytes) -> Chunk:
        stream = self._part.stream
        env = self._recording.env
        anchor = take_anchor(env.clock, env.boot_id)
        flags = run.flags & ~BlockFlag.GAP_BEFORE
        extension: dict[str, Any] = {}
        if run.gap is not None:
            flags |= BlockFlag.GAP_BEFORE
            extension["gap"] = gap_record(run.gap)
        if stream.clock is not None:
            extension["clock"] = list(stream.clock)
        return Chunk(
            codec=CODEC,
            dtype=stream.info.dtype,
            n_channels=stream.info.n_channels,
            n_samples=run.n,
            log_id=env.log_id,
            incarnation=run.incarnation,
            stream_number=stream.number,
            seq=run.seq,
            t_first_ns=run.t_first_ns,
            sfreq=stream.info.sfreq,
            body=body,
            flags=chunk_flags(flags),
            t_first_utc_ns=anchor.utc_of(run.t_first_ns),
            utc_uncertainty_ns=anchor.uncertainty_ns,
            extension=extension,
        )
