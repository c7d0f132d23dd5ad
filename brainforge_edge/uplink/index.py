"""The log as the uplink sees it: segments with something to send. Runs in: uplink process, pump thread.

Finished segments are only rows in uplink.sqlite. A segment that was not announced is sent once its
last chunk ends exactly at the end of its file.
"""

import time
from collections.abc import Callable
from pathlib import Path

from brainforge_edge.core import ipc, log
from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.ranges import Intervals
from brainforge_edge.core.wire import Range, StreamInventory
from brainforge_edge.recorder.catalog import stream_descriptor
from brainforge_edge.recorder.chunk import Head
from brainforge_edge.storage.files import Disk
from brainforge_edge.uplink.cursor import CursorStore, Quarantined, Ref, SegmentCursor
from brainforge_edge.uplink.segments import Found, Track, is_blank, look

OLD_S = 3600.0
Samples = dict[tuple[int, str], dict[int, Intervals]]  # (product, stream) → incarnation → samples


class LogIndex:
    """Tracks by place, and what the aggregator is known to hold."""

    def __init__(
        self,
        recordings: Path,
        cursors: CursorStore,
        disk: Disk,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tracks: dict[Ref, Track] = {}
        self.order: list[Track] = []  # oldest first
        self.stored: Samples = {}  # at the aggregator
        self.others: set[tuple[bytes, int]] = set()  # chunks without samples, at the aggregator
        self.on_damage: Callable[[Ref, Quarantined], None] = lambda _ref, _stretch: None
        self.recordings = recordings
        self._cursors = cursors
        self.disk = disk
        self._monotonic = monotonic
        self._dirty: set[Ref] = set()
        self._unchecked: list[Track] = []
        self._numbers: dict[str, int] = {}
        self._held: dict[str, dict[int, Intervals]] = {}  # on this disk, as far as it was looked at
        self._finished: dict[Ref, SegmentCursor] = {}
        self._quarantined = cursors.quarantined()
        for saved in cursors.segments():
            self._finished[saved.ref] = saved  # `scan` finds out which are not

    # ---- what is on the disk -----------------------------------------------------------------

    def scan(self) -> None:
        """Look through the tree for segments nobody announced, and for ones that are gone."""
        present: set[Ref] = set()
        for path in sorted(self.recordings.glob("*/*/*.seg")):
            ref = Ref(path.parent.parent.name, path.parent.name, path.name)
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            present.add(ref)
            saved = self._finished.get(ref)
            if saved is not None and saved.cursor == status.st_size:
                self._remember(saved)
                continue
            track = self._track(ref)
            if track.is_finished and 0 < track.cursor == status.st_size:
                self._dirty.add(ref)  # closed since its last receipt: `save` lets it go
            state = (status.st_size, status.st_mtime_ns)
            if track.limit < status.st_size and track.checked != state:
                track.checked = state
                self._unchecked.append(track)
        gone = [ref for ref in (*self.tracks, *self._finished) if ref not in present]
        if gone:
            for ref in gone:
                self._drop(ref)
            self._cursors.forget(gone)

    def check_one(self) -> bool:
        """Look through one unannounced segment for its end; False when none is left to do."""
        if not self._unchecked:
            return False
        track = self._unchecked.pop()
        try:
            fd = self.disk.open(track.path, "read")
            try:
                size = self.disk.size(fd)
                self._walk_to(track, fd, size, closed=True)
            finally:
                self.disk.close(fd)
        except StorageError as error:
            log.get().warning("segment not readable", error=str(error))
        return True

    @property
    def is_checked(self) -> bool:
        """Whether every segment that `scan` found was looked through."""
        return not self._unchecked

    def announce(self, message: ipc.Archived) -> list[tuple[Track, int]]:
        """Bytes up to `end` are on the disk: the chunks that are new, oldest first."""
        ref = Ref(message.recording, message.stream_id, message.segment)
        saved = self._finished.get(ref)
        if saved is not None and saved.cursor >= message.end:
            return []
        track = self._track(ref)
        fd = self.disk.open(track.path, "read")
        try:
            return self._walk_to(track, fd, message.end, closed=False)
        finally:
            self.disk.close(fd)

    def _walk_to(self, track: Track, fd: int, end: int, *, closed: bool) -> list[tuple[Track, int]]:
        """Move the track's limit to `end`; for an unannounced segment only if it proves closed."""
        new: list[Found] = []
        at = track.limit
        while at < end:
            found = look(self.disk, fd, at, end)
            if closed and found.head is None and found.end == end:
                if not self._is_old(track):
                    return []  # still being filled, or a torn tail that recovery will cut
                if is_blank(self.disk, fd, at, end) and not self._was_cut(track, end):
                    return []
            new.append(found)
            at = found.end
        if not new:
            return []
        if track.is_finished:
            track.since = self._monotonic()
        track.limit = end
        track.n_chunks += len(new)
        for found in new:
            if found.head is not None:
                self._note(track, found.head)
        return [(track, found.offset) for found in new]

    def _is_old(self, track: Track) -> bool:
        """Long past any recovery: a damaged end must not keep back what lies before it."""
        return time.time() - track.path.stat().st_mtime > OLD_S

    def _was_cut(self, track: Track, size: int) -> bool:
        """Closing cuts a segment: one shorter than what was reserved is not being filled any more."""
        descriptor = stream_descriptor((track.path,), self.disk)
        return descriptor is not None and size < descriptor.size

    def _note(self, track: Track, head: Head) -> None:
        track.segment_id = head.segment_id
        track.stream_number = head.stream_number
        track.product = head.product
        if head.product == 0:
            self._numbers[track.ref.stream_id] = head.stream_number
            streams = self._held.setdefault(track.ref.stream_id, {})
            if head.n_samples:
                streams.setdefault(head.incarnation, Intervals()).add(head.seq, head.end)

    def look_at(self, track: Track, offset: int) -> Found:
        """The chunk at `offset`, checked to its end, or a damaged stretch."""
        fd = self.disk.open(track.path, "read")
        try:
            return look(self.disk, fd, offset, track.limit, is_to_be_sent=True)
        finally:
            self.disk.close(fd)

    def read(self, track: Track, found: Found) -> bytes:
        """The bytes of a chunk, as they will travel."""
        fd = self.disk.open(track.path, "read")
        try:
            return self.disk.pread(fd, found.end - found.offset, found.offset)
        finally:
            self.disk.close(fd)

    def inventory(self) -> tuple[StreamInventory, ...]:
        """What is on this disk of the archive, as far as it was looked through."""
        return tuple(
            StreamInventory(
                stream_id,
                number,
                tuple(
                    Range(incarnation, first, end)
                    for incarnation, samples in sorted(self._held.get(stream_id, {}).items())
                    for first, end in samples
                ),
            )
            for stream_id, number in sorted(self._numbers.items())
        )

    # ---- what the aggregator has -------------------------------------------------------------

    def is_stored(self, track: Track, head: Head) -> bool:
        if not head.n_samples:
            return (head.segment_id, head.number) in self.others
        samples = self.stored.get((head.product, track.ref.stream_id), {}).get(head.incarnation)
        return samples is not None and samples.covers(head.seq, head.end)

    def learn(self, product: int, stream_id: str, ranges: tuple[Range, ...]) -> None:
        """From a receipt: these too are stored."""
        held = self.stored.setdefault((product, stream_id), {})
        for incarnation, first, end in ((r.incarnation, r.first, r.end) for r in ranges):
            held.setdefault(incarnation, Intervals()).add(first, end)

    def compare(self) -> int:
        """After an answer to hello: cursors move back where less is stored than we believed; how many."""
        moved = 0
        for track in list(self.tracks.values()):
            is_believed = len(track.done) or track.receipted  # a cursor that was saved knows both
            if is_believed and not self._still_stored(track.saved()):
                track.move_back()
                self._dirty.add(track.ref)
                moved += 1
        for saved in list(self._finished.values()):
            if not self._still_stored(saved):
                del self._finished[saved.ref]
                track = self._track(saved.ref)
                self._dirty.add(track.ref)
                self._unchecked.append(track)
                moved += 1
        return moved

    def _still_stored(self, saved: SegmentCursor) -> bool:
        if saved.cursor and (saved.segment_id, 0) not in self.others:
            return self._is_quarantined(saved.ref, 0)
        held = self.stored.get((saved.product, saved.ref.stream_id), {})
        return all(
            r.incarnation in held and held[r.incarnation].covers(r.first, r.end)
            for r in saved.receipted
        )

    # ---- progress ----------------------------------------------------------------------------

    def done(self, track: Track, found: Found, *, receipted: bool = True) -> None:
        if track.ref in self.tracks:
            track.mark_done(found, receipted=receipted)
            self._dirty.add(track.ref)

    def quarantine(self, track: Track, found: Found, reason: str) -> None:
        """Leave a stretch behind for good; retention keeps it, the account names it."""
        stretch = Quarantined(found.offset, found.end - found.offset, reason)
        if not self._is_quarantined(track.ref, found.offset):
            self._cursors.quarantine(track.ref, stretch)
            self._quarantined.setdefault(track.ref, []).append(stretch)
            self.on_damage(track.ref, stretch)
        self.done(track, found, receipted=False)

    def is_quarantined(self, track: Track, offset: int) -> bool:
        return self._is_quarantined(track.ref, offset)

    def _is_quarantined(self, ref: Ref, offset: int) -> bool:
        return any(q.offset == offset for q in self._quarantined.get(ref, ()))

    def delivered(self, ref: Ref, segment_id: bytes, size: int) -> SegmentCursor | None:
        """How a segment was receipted to its end, with nothing of it left behind; None if it was not."""
        saved = self._finished.get(ref)
        if saved is None or (saved.segment_id, saved.cursor) != (segment_id, size):
            return None
        return None if self._quarantined.get(ref) else saved

    def save(self) -> None:
        """Make the cursors durable; finished closed segments leave memory."""
        # In order: a set's own differs from process to process, and a simulation is to be replayed.
        tracks = [self.tracks[ref] for ref in sorted(self._dirty) if ref in self.tracks]
        if not tracks:
            return
        self._cursors.save([track.saved() for track in tracks])
        self._dirty.clear()
        for track in tracks:
            try:
                closed = track.is_finished and track.path.stat().st_size == track.cursor
            except FileNotFoundError:
                closed = False
            if closed:
                self._finished[track.ref] = track.saved()
                del self.tracks[track.ref]
                self.order.remove(track)

    def lag(self) -> tuple[int, int, float]:
        """Chunks, bytes and age in seconds of what is not receipted."""
        chunks = size = 0
        oldest: float | None = None
        for track in self.order:
            if not track.is_finished:
                chunks += track.n_chunks - track.n_done
                size += track.limit - track.done.total
                oldest = track.since if oldest is None else min(oldest, track.since)
        return chunks, size, 0.0 if oldest is None else max(0.0, self._monotonic() - oldest)

    @property
    def quarantined(self) -> int:
        return sum(len(stretches) for stretches in self._quarantined.values())

    def _track(self, ref: Ref) -> Track:
        track = self.tracks.get(ref)
        if track is not None:
            return track
        track = Track(ref, self.recordings.joinpath(*ref), since=self._monotonic())
        saved = self._finished.pop(ref, None)
        if saved is not None:
            self._remember(saved)
            track.limit = track.cursor = track.walked = saved.cursor
            track.n_chunks = track.n_done = saved.chunks
            track.segment_id = saved.segment_id
            track.stream_number, track.product = saved.stream_number, saved.product
            track.done.add(0, saved.cursor)
            for r in saved.receipted:
                track.receipted.setdefault(r.incarnation, Intervals()).add(r.first, r.end)
        self.tracks[ref] = track
        self.order.append(track)
        self.order.sort(key=lambda t: (t.ref.recording, t.ref.segment.zfill(12), t.ref.stream_id))
        return track

    def _remember(self, saved: SegmentCursor) -> None:
        if saved.product == 0:
            self._numbers.setdefault(saved.ref.stream_id, saved.stream_number)
            streams = self._held.setdefault(saved.ref.stream_id, {})
            for r in saved.receipted:
                streams.setdefault(r.incarnation, Intervals()).add(r.first, r.end)

    def _drop(self, ref: Ref) -> None:
        self._finished.pop(ref, None)
        self._quarantined.pop(ref, None)
        self._dirty.discard(ref)
        track = self.tracks.pop(ref, None)
        if track is not None:
            self.order.remove(track)
