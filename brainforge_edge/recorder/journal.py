"""The write-ahead log of raw rows. Runs in: acquire process; `append` and `append_rows` in the record thread,
`sync` in the sync thread, `abandon` in either, `release` in the archive thread, `create` and `close` in main while those rest.

One lock guards the lists below and is held for no I/O, so `append` never waits for a sync or a release:
  _lock: _laps, _ready, _closing, _current, _appended, _durable, _released, _is_broken, and each lap's fields
Descriptors are closed by `sync` and `close` alone: no sync can meet a number that was given out again.
"""

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from brainforge_edge.core.block import BlockFlag
from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.stream import StreamInfo
from brainforge_edge.kernels.crc import crc32c
from brainforge_edge.recorder.entry import (
    BLOCK,
    CRC_BYTES,
    ENTRY_HEAD,
    FILE_ID_BYTES,
    MOST_OVERHEAD,
    Entry,
    header_bytes_for,
    pack_description,
    pack_entry,
    pack_header,
    seal_entry,
)
from brainforge_edge.recorder.identity import Identity
from brainforge_edge.recorder.journalfile import SUFFIX, is_journal
from brainforge_edge.rings.ring import SampleRing
from brainforge_edge.security.seal import JOURNAL, TAG_BYTES, DataKey, FileSeal
from brainforge_edge.storage.files import Buffer, Disk

__all__ = ["Entry", "Journal"]

KEPT_FILES = 2
_GAP_BEFORE = int(BlockFlag.GAP_BEFORE)  # a plain int: an enumeration's `&` is slow in the loop


@dataclass(slots=True)
class _File:
    path: Path
    fd: int
    is_named: bool  # the folder's entry is on the disk


@dataclass(slots=True, eq=False)
class _Lap:
    file: _File
    seed: int
    at: int  # offset of the next entry
    end: int  # position after the last entry
    synced: int  # position up to which entries are on the disk
    seal: FileSeal | None
    is_abandoned: bool = False


class Journal:
    """Two files used in turn, more while the archive lags. A position counts entries over the journal's life."""

    def __init__(
        self,
        folder: Path,
        *,
        streams: Mapping[int, StreamInfo],
        log_id: bytes,
        file_bytes: int,
        disk: Disk,
        random: Callable[[int], bytes],
        identity: Identity | None = None,
        key: DataKey | None = None,
    ) -> None:
        """Makes no file; use `create`."""
        self.folder = folder
        self._log_id = log_id
        self._description = pack_description(streams, identity)
        self._header_bytes = header_bytes_for(self._description)
        self._file_bytes = self._header_bytes + -(-file_bytes // BLOCK) * BLOCK
        self._disk = disk
        self._random = random
        self._key = key
        self._tag_bytes = 0 if key is None else TAG_BYTES  # more of each entry
        self._row_bytes = {number: info.row_bytes for number, info in streams.items()}
        self._next_lap = 0
        self._next_ordinal = 1 + max(
            (int(name[: -len(SUFFIX)]) for name in disk.names(folder) if is_journal(name)),
            default=0,
        )
        self._lock = threading.Lock()
        self._laps: list[_Lap] = []
        self._ready: deque[_File] = deque()
        self._closing: list[_File] = []
        self._current: _Lap | None = None
        self._appended = 0
        self._durable = 0
        self._released = 0
        self._is_broken = False
        self._buffer = memoryview(b"")  # record thread's: the entry of `append_rows`
        self._made = memoryview(b"")  # … before it is sealed

    @classmethod
    def create(
        cls,
        folder: Path,
        *,
        streams: Mapping[int, StreamInfo],
        log_id: bytes,
        file_bytes: int,
        disk: Disk,
        random: Callable[[int], bytes],
        identity: Identity | None = None,
        key: DataKey | None = None,
    ) -> "Journal":
        """A journal of two zero-filled files that hold `file_bytes` of entries each, ready to append.

        With a `key`, which `identity` names, rows are sealed with it.
        Files that another life left in `folder` stay for recovery. StorageError if there is no room.
        """
        disk.make_folder(folder)
        journal = cls(
            folder,
            streams=streams,
            log_id=log_id,
            file_bytes=file_bytes,
            disk=disk,
            random=random,
            identity=identity,
            key=key,
        )
        try:
            for _ in range(KEPT_FILES):
                journal._ready.append(journal._make_file(is_zeroed=True))
            disk.fsync_folder(folder)
        except StorageError:
            journal.close()
            raise
        for file in journal._ready:
            file.is_named = True
        return journal

    @property
    def appended(self) -> int:
        """Position after the last entry."""
        return self._appended

    @property
    def most_payload(self) -> int:
        """Bytes of rows that an entry may have: more fit in no file."""
        return self._file_bytes - self._header_bytes - MOST_OVERHEAD - self._tag_bytes

    @property
    def is_nearly_used(self) -> bool:
        """Whether the last of its files is half full: soon a new one must be made, which is not zeroed."""
        with self._lock:
            lap = self._current
            if lap is None or self._ready:
                return False
            used, room = (at - self._header_bytes for at in (lap.at, self._file_bytes))
            return 2 * used > room

    def paths(self) -> list[Path]:
        """Files with entries that are not released, in the order of writing."""
        with self._lock:
            return [lap.file.path for lap in self._laps]

    def append(self, entries: Sequence[Entry]) -> int:
        """Write entries, one pwrite if they fit in the present file; the position after the last of them.

        When this returns they survive the death of the process, not yet a power cut. On StorageError
        none of them counts: call `abandon`, then append again everything that `sync` did not confirm.
        """
        first = 0
        while first < len(entries):
            lap = self._lap_for(entries[first])
            data, count = self._packed(lap, entries, first)
            self._write(lap, data, count)
            first += count
        return self._appended

    def append_rows(
        self, ring: SampleRing, number: int, first: int, end: int
    ) -> tuple[int, int] | None:
        """`append` of one entry, rows first <= row < end of `ring`, made where they lie: (incarnation, seq after them).

        None, and nothing was done, unless the rows are one run without a gap and fit the present
        file: then `append` is to be asked.
        """
        lap = self._current
        made = ENTRY_HEAD.size + (end - first) * self._row_bytes[number] + CRC_BYTES
        size = made + self._tag_bytes
        if lap is None or self._is_broken or lap.at + size > self._file_bytes:
            return None
        if len(self._buffer) < size:
            self._buffer = memoryview(bytearray(size))
            self._made = memoryview(bytearray(made)) if self._tag_bytes else self._buffer
        run = ring.entry(first, end, self._made, stream=number, seed=lap.seed, offset=lap.at)
        if run is None:
            return None
        if lap.seal is not None:
            out = self._buffer[:size]
            seal_entry(self._made[:made], out, seed=lap.seed, offset=lap.at, seal=lap.seal)
        self._write(lap, self._buffer[:size], 1)
        return run

    def sync(self) -> int:
        """Put what is appended on the disk; the position up to which all is durable.

        On StorageError nothing written through that descriptor counts any more, `append` refuses
        until `abandon`, and the position stays. Entries that were abandoned lie before positions
        returned later: whoever abandons must have appended them again.
        """
        with self._lock:
            closing, self._closing = self._closing, []
            pending = [
                (lap, lap.end)
                for lap in self._laps
                if lap.end > lap.synced and not lap.is_abandoned and not self._is_broken
            ]
        for file in closing:
            self._disk.close(file.fd)
        for lap, end in pending:
            try:
                if not lap.file.is_named:
                    self._disk.fsync_folder(self.folder)
                self._disk.fdatasync(lap.file.fd)
            except StorageError:
                with self._lock:
                    if lap.is_abandoned:
                        return self._durable
                    self._is_broken = True
                raise
            with self._lock:
                if self._is_broken or lap.is_abandoned:
                    return self._durable
                lap.file.is_named = True
                lap.synced = end
                self._durable = max(self._durable, end)
        return self._durable

    def abandon(self) -> None:
        """After an error: no descriptor with unconfirmed entries is written again; the next append takes another file.

        What those files hold for certain stays readable until it is released.
        """
        with self._lock:
            for lap in self._laps:
                if lap is self._current or lap.end > lap.synced:
                    lap.is_abandoned = True
            self._current = None
            self._is_broken = False

    def release(self, position: int) -> None:
        """All entries before `position` lie in synced segments: files that hold no others are used again.

        A file that was abandoned, or is beyond the two, is removed.
        """
        surplus: list[_File] = []
        with self._lock:
            self._released = max(self._released, min(position, self._appended))
            self._durable = max(self._durable, self._released)
            done = [
                lap for lap in self._laps if lap.end <= self._released and lap is not self._current
            ]
            self._laps = [lap for lap in self._laps if lap not in done]
            for lap in done:
                kept = len(self._ready) + sum(not other.is_abandoned for other in self._laps)
                if lap.is_abandoned or kept >= KEPT_FILES:
                    surplus.append(lap.file)
                else:
                    self._ready.append(lap.file)
            self._closing.extend(surplus)
        for file in surplus:
            self._disk.unlink(file.path)

    def close(self) -> None:
        """Remove the files if every entry is released, else leave them for recovery. Idempotent."""
        with self._lock:
            closing, self._closing = self._closing, []
            files = [lap.file for lap in self._laps] + list(self._ready)
            is_done = self._released == self._appended
            self._laps, self._current = [], None
            self._ready.clear()
            self._is_broken = True
        for file in closing + files:
            self._disk.close(file.fd)
        if not is_done or not files:
            return
        for file in files:
            self._disk.unlink(file.path)
        if not self._disk.names(self.folder):
            self._disk.remove_folder(self.folder)

    def _lap_for(self, entry: Entry) -> _Lap:
        """The present lap if `entry` fits, else a new one in the next file. Record thread only."""
        size = entry.total_bytes + self._tag_bytes
        if size > self._file_bytes - self._header_bytes:
            raise ValueError(f"an entry of {size} bytes fits in no journal file")
        with self._lock:
            if self._is_broken:
                raise _refusal(self.folder)
            lap = self._current
            if lap is not None and lap.at + size <= self._file_bytes:
                return lap
            file = self._ready.popleft() if self._ready else None
        if file is None:
            file = self._make_file(is_zeroed=False)
        file_id = self._random(FILE_ID_BYTES)
        header = pack_header(
            file_id=file_id,
            log_id=self._log_id,
            lap=self._next_lap,
            file_bytes=self._file_bytes,
            description=self._description,
        )
        self._next_lap += 1
        seal = None if self._key is None else self._key.file(file_id, JOURNAL)
        lap = _Lap(file, crc32c(file_id), self._header_bytes, self._appended, self._appended, seal)
        with self._lock:
            self._laps.append(lap)
            self._current = lap
        try:
            self._disk.pwrite_all(file.fd, header, 0)
        except StorageError:
            with self._lock:
                self._is_broken = True
            raise
        return lap

    def _write(self, lap: _Lap, data: Buffer, count: int) -> None:
        """`count` entries behind those of the lap."""
        try:
            self._disk.pwrite_all(lap.file.fd, data, lap.at)
        except StorageError:
            with self._lock:
                self._is_broken = True
            raise
        with self._lock:
            if self._is_broken or lap.is_abandoned:  # a sync failed meanwhile
                raise _refusal(self.folder)
            lap.at += len(data)
            lap.end += count
            self._appended += count

    def _packed(self, lap: _Lap, entries: Sequence[Entry], first: int) -> tuple[bytes, int]:
        """As many entries from `first` on as fit in `lap`, and their count."""
        parts: list[bytes | memoryview] = []
        at, count = lap.at, 0
        for entry in entries[first:]:
            size = entry.total_bytes + self._tag_bytes
            if at + size > self._file_bytes:
                break
            if (entry.gap is not None) != bool(int(entry.flags) & _GAP_BEFORE):
                raise ValueError("an entry has a gap if and only if its flags say so")
            if len(entry.payload) != entry.n_samples * self._row_bytes[entry.stream]:
                raise ValueError(f"{entry.n_samples} rows are not {len(entry.payload)} bytes")
            parts += pack_entry(entry, seed=lap.seed, offset=at, seal=lap.seal)
            at += size
            count += 1
        return b"".join(parts), count

    def _make_file(self, *, is_zeroed: bool) -> _File:
        """A new file; zero-filled ahead, or only allocated where the record thread must not wait."""
        path = self.folder / f"{self._next_ordinal:04d}{SUFFIX}"
        self._next_ordinal += 1
        fd = self._disk.open(path, "new")
        try:
            self._disk.preallocate(fd, self._file_bytes)
            if is_zeroed:
                self._disk.zero_fill(fd, self._file_bytes)
                self._disk.fdatasync(fd)
        except StorageError:
            self._disk.close(fd)
            self._disk.unlink(path)
            raise
        return _File(path, fd, is_named=False)


def _refusal(folder: Path) -> StorageError:
    return StorageError(
        "journal_failed",
        f"the journal in {folder} takes no rows",
        why="an earlier write or sync of it failed",
        remedy="The recorder goes on in another file; if this repeats, check the disk",
        transient=True,
    )
