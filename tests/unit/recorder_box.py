"""A recorder in miniature: the loops of record, sync and archive thread, taken in turn without clocks."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.codec import registry
from brainforge_edge.core.block import BlockFlag
from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.stream import Codec, Dtype, StreamInfo, chunk_samples
from brainforge_edge.recorder.chunk import Chunk
from brainforge_edge.recorder.cut import grid_pieces, make_chunk
from brainforge_edge.recorder.journal import Journal
from brainforge_edge.recorder.reader import iter_chunks
from brainforge_edge.recorder.segment import SegmentWriter, next_ordinal, segment_files
from brainforge_edge.storage.files import Disk
from tests.unit.recorder_faulty_disk import UnsyncedDisk
from tests.unit.recorder_material import (
    IDENTITY,
    LOG_ID,
    entry,
    packed,
    rows_of,
    seeded,
    stream,
    t_of,
)

EEG = stream("eeg", dtype=Dtype.I24)
ACC = stream("accel", sfreq=2.5, n_channels=3, dtype=Dtype.I16)
STREAMS = {1: EEG, 2: ACC}
SEGMENT_BYTES = 84_000  # a handful of chunks beside what is kept free
Rows = dict[int, int]


def encode(rows: bytes, info: StreamInfo) -> tuple[Codec, bytes]:
    unpacked = registry.unpack_rows(rows, info.dtype, info.n_channels)
    return Codec.PACKED, registry.encode(Codec.PACKED, unpacked, info.dtype)


class Box:
    """Records rows 0, 1, 2 … of two streams; `acknowledged` rows are on the disk whatever happens."""

    def __init__(self, recordings: Path, disk: Disk, *, seed: int = 1) -> None:
        self.folder = recordings / "rec-1"
        self.disk = disk
        self.random = seeded(seed)
        self.acquired: Rows = {1: 0, 2: 0}
        self.journalled: Rows = {1: 0, 2: 0}
        self.acknowledged: Rows = {1: 0, 2: 0}
        self.appended: Rows = {1: 0, 2: 0}
        self.archived: Rows = {1: 0, 2: 0}  # synced, hence released
        self.rounds = 0
        self.positions: list[tuple[int, Rows]] = []  # position after an append → rows before it
        self.writers: dict[int, SegmentWriter] = {}
        self.errors: list[StorageError] = []
        self.journal: Journal | None = None

    def start(self) -> None:
        self.journal = Journal.create(
            self.folder / "dev.journal",
            streams=STREAMS,
            log_id=LOG_ID,
            file_bytes=4096,
            disk=self.disk,
            random=self.random,
            identity=IDENTITY,
        )

    def run(self, steps: int) -> None:
        for step in range(steps):
            self.acquired[1] += 23
            self.acquired[2] += 7 if step % 2 else 0
            self.record()
            if step % 2:
                self.sync()
            if step % 4 == 3:
                self.archive()

    def record(self) -> None:
        assert self.journal is not None
        entries = []
        for number, info in STREAMS.items():
            first, end = self.journalled[number], self.acquired[number]
            if end > first:
                flags = BlockFlag(0) if first else BlockFlag.FIRST
                entries.append(entry(info, first, end - first, number=number, flags=flags))
        try:
            position = self.journal.append(entries)
        except StorageError as error:
            self.fail_over(error)
            return
        self.journalled = dict(self.acquired)
        self.positions.append((position, dict(self.journalled)))

    def fail_over(self, error: StorageError) -> None:
        assert self.journal is not None
        self.errors.append(error)
        self.journal.abandon()
        self.journalled = dict(self.acknowledged)
        self.positions = [item for item in self.positions if item[0] <= self.journal.sync()]

    def sync(self) -> None:
        assert self.journal is not None
        try:
            durable = self.journal.sync()
        except StorageError as error:
            self.fail_over(error)
            return
        for position, rows in self.positions:
            if position <= durable:
                self.acknowledged = {k: max(n, rows[k]) for k, n in self.acknowledged.items()}

    def archive(self, *, is_last: bool = False) -> None:
        assert self.journal is not None
        self.rounds += 1
        try:
            for number, info in STREAMS.items():
                self.archive_stream(number, info, is_last=is_last)
                writer = self.writers.get(number)
                if writer is not None and (is_last or self.rounds % 3 == 0):
                    self.sync_segment(number, writer)
            done = [
                item
                for item in self.positions
                if all(item[1][number] <= self.archived[number] for number in STREAMS)
            ]
            if done:
                self.journal.release(done[-1][0])
        except StorageError as error:
            self.errors.append(error)

    def archive_stream(self, number: int, info: StreamInfo, *, is_last: bool) -> None:
        step = chunk_samples(info)
        first = self.appended[number]
        for seq, n in grid_pieces(first, self.journalled[number] - first, step):
            if (seq + n) % step and not is_last:
                break
            writer = self.writers.get(number)
            if writer is not None and writer.is_full:
                self.sync_segment(number, writer)
                del self.writers[number]
                writer.close()
                writer = None
            if writer is None:
                folder = self.folder / info.stream_id
                writer = self.writers[number] = SegmentWriter.create(
                    folder,
                    next_ordinal(folder, UnsyncedDisk()),
                    info=info,
                    number=number,
                    identity=IDENTITY,
                    size=SEGMENT_BYTES,
                    disk=self.disk,
                    random=self.random,
                )
            chunk = make_chunk(
                packed(info, seq, n),
                info=info,
                number=number,
                identity=IDENTITY,
                incarnation=1,
                seq=seq,
                t_first_ns=t_of(info, seq),
                flags=BlockFlag(0) if seq else BlockFlag.FIRST,
                gap=None,
                encode=encode,
            )
            try:
                writer.append(chunk)
            except StorageError:
                self.start_over(number, writer)
                raise
            self.appended[number] = seq + n

    def sync_segment(self, number: int, writer: SegmentWriter) -> None:
        try:
            writer.sync()
        except StorageError:
            self.start_over(number, writer)
            raise
        self.archived[number] = self.appended[number]

    def start_over(self, number: int, writer: SegmentWriter) -> None:
        del self.writers[number]
        self.appended[number] = self.archived[number]
        writer.close()

    def stop(self) -> None:
        """As the daemon stops: drain, sync, archive, close segments, then the journal."""
        assert self.journal is not None
        for _ in range(3):  # an error on the way is made good in the next round
            self.record()
            self.sync()
            self.archive(is_last=True)
        for writer in self.writers.values():
            writer.close()
        self.journal.close()


def stored(recordings: Path, info: StreamInfo) -> dict[int, NDArray[Any]]:
    """seq → row of every row in whole chunks; a row that is there twice fails."""
    found: dict[int, NDArray[Any]] = {}
    for path in segment_files(recordings / "rec-1" / info.stream_id, UnsyncedDisk()):
        for whole in iter_chunks(path):
            if whole.head.codec == Codec.DESCRIPTOR:
                continue
            chunk = whole.chunk()
            rows = registry.decode(
                chunk.codec, chunk.body, info.dtype, chunk.n_samples, info.n_channels
            )
            assert chunk.t_first_ns == t_of(info, chunk.seq)
            for i, row in enumerate(rows):
                assert chunk.seq + i not in found, f"row {chunk.seq + i} is stored twice"
                found[chunk.seq + i] = row
    return found


def check(recordings: Path, acknowledged: Rows) -> None:
    """Every acknowledged row is stored, once, as it was; nothing else but rows that were acquired."""
    for number, info in STREAMS.items():
        found = stored(recordings, info)
        lost = [seq for seq in range(acknowledged[number]) if seq not in found]
        assert not lost, f"{len(lost)} acknowledged rows of {info.stream_id} lost, first {lost[0]}"
        if found:
            seqs = sorted(found)
            assert np.array_equal(
                np.stack([found[seq] for seq in seqs]),
                np.concatenate([rows_of(info, seq, 1) for seq in seqs]),
            )


def decode(chunk: Chunk) -> bytes:
    rows = registry.decode(
        chunk.codec, chunk.body, Dtype(chunk.dtype), chunk.n_samples, chunk.n_channels
    )
    return registry.pack_rows(rows, Dtype(chunk.dtype))
