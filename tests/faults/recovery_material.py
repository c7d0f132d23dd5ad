"""A box as a power cut leaves it after a long recording: many closed segments, and a journal that is full.

Closed segments have their real descriptor and the heads of all their chunks; bodies are holes in the
file, so that 100 GB need 1 GB of disk. The last segment is real and was not closed, and the two files
of the journal are full of rows of which no segment holds more than the first three seconds.
"""

import os
import random
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from brainforge_edge.codec import registry
from brainforge_edge.core.block import BlockFlag
from brainforge_edge.core.clock import Anchor
from brainforge_edge.core.stream import Codec, StreamInfo, chunk_samples
from brainforge_edge.kernels.crc import crc32c
from brainforge_edge.recorder.catalog import RecordingFile, write_recording_file
from brainforge_edge.recorder.chunk import FOOTER_BYTES, HEADER_BYTES, Chunk, pack
from brainforge_edge.recorder.cut import make_chunk, time_of
from brainforge_edge.recorder.entry import Entry
from brainforge_edge.recorder.identity import Identity
from brainforge_edge.recorder.journal import Journal
from brainforge_edge.recorder.log import RecordingLog
from brainforge_edge.recorder.segment import SegmentWriter
from tests.faults.rig import rows, stream_info
from tests.unit.recorder_faulty_disk import UnsyncedDisk

RECORDING = "night"
DEVICE = "helmet"
STREAM = "helmet-mag"
SFREQ = 1000.0
FRAME = 8  # rows of an entry
HELD = 3  # chunks of the journal's rows that the last segment holds
MIB = 1024 * 1024
_LENGTH = struct.Struct("<I")
_LENGTH_AT = 108  # of the body, in a chunk's header


class _HollowDisk(UnsyncedDisk):
    """Reserves no space: what is not written is a hole."""

    def syscall(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        if name == "fallocate":
            fd, _, size = args
            return os.ftruncate(fd, max(size, os.fstat(fd).st_size))
        return super().syscall(name, function, *args)


class Night:
    """`make` the folder `recordings`; the journal then holds rows first <= seq < end."""

    def __init__(
        self, recordings: Path, *, n_channels: int = 306, journal_s: float = 60.0,
        segment_mib: float = 32.0, seed: int = 1,
    ) -> None:  # fmt: skip
        self.folder = recordings / RECORDING
        info = stream_info(n_channels, SFREQ)
        self.info: StreamInfo = msgspec.structs.replace(info, stream_id=STREAM, device=DEVICE)
        self._recordings = recordings
        self._disk = _HollowDisk()
        self._random = random.Random(seed).randbytes
        self._file_bytes = max(MIB, round(1.08 * journal_s * self.info.row_bytes * SFREQ))
        self.journal_bytes = 0
        self._segment_bytes = round(segment_mib * MIB)
        self._step = chunk_samples(self.info)
        self.n_hollow = 0
        self.segment_bytes = 0  # of the closed ones, holes counted
        self.first = self.end = 0

    def make(self, segments_bytes: float) -> None:
        """So many bytes of closed segments at least, the last segment, and the journal."""
        log = RecordingLog(self._recordings, disk=self._disk, random=self._random)
        self.number = log.stream_number(STREAM)
        self.incarnation = log.open_incarnation(STREAM, "before the power cut")
        created = 1_800_000_000 * 10**9
        self.identity = Identity(
            recording=RECORDING, node="box", log_id=log.log_id,
            anchors=(Anchor("an-earlier-boot", 10**9, created, 500),),
        )  # fmt: skip
        file = RecordingFile(RECORDING, created, "box", devices=(DEVICE,))
        write_recording_file(self._recordings, file, self._disk)
        while self.segment_bytes < segments_bytes:
            self.first = self._hollow(self.first)
        self._open_segment()
        self._fill_journal()

    def packed(self, first: int, n: int) -> bytes:
        """Rows, as entries and chunks have them."""
        return registry.pack_rows(rows(first, n, self.info.n_channels), self.info.dtype)

    def _writer(self) -> SegmentWriter:
        return SegmentWriter.create(
            self.folder / STREAM, self.n_hollow + 1, info=self.info, number=self.number,
            identity=self.identity, size=self._segment_bytes, disk=self._disk, random=self._random,
        )  # fmt: skip

    def _chunk(self, seq: int, packed: bytes = b"") -> Chunk:
        return make_chunk(
            packed, info=self.info, number=self.number, identity=self.identity,
            incarnation=self.incarnation, seq=seq, t_first_ns=time_of(10**9, seq, SFREQ),
            flags=BlockFlag(0), gap=None,
            encode=registry.encode_packed if packed else lambda _, __: (Codec.LOSSLESS, b""),
        )  # fmt: skip

    def _hollow(self, seq: int) -> int:
        """A closed segment from row `seq` on; the row after its last one."""
        writer = self._writer()
        writer.close()
        body_bytes = self._step * self.info.row_bytes // 2  # as the codec makes it, about
        at = writer.synced
        fd = os.open(writer.path, os.O_RDWR)
        try:
            while at + 2 * body_bytes < self._segment_bytes:
                chunk = replace(self._chunk(seq), n_samples=self._step)
                os.pwrite(
                    fd, _head(chunk.placed(writer.segment_id, writer.next_number), body_bytes), at
                )
                writer.next_number += 1
                at += HEADER_BYTES + body_bytes + FOOTER_BYTES
                seq += self._step
            os.ftruncate(fd, at)
        finally:
            os.close(fd)
        self.segment_bytes += at
        self.n_hollow += 1
        return seq

    def _open_segment(self) -> None:
        """Three chunks of the journal's rows, of which the power cut left the first and the last."""
        writer = self._writer()
        ends = [writer.end]
        for n in range(HELD):
            seq = self.first + n * self._step
            ends.append(writer.append(self._chunk(seq, self.packed(seq, self._step))))
        writer.sync()
        with writer.path.open("r+b") as file:
            file.seek(ends[1])
            file.write(bytes(ends[2] - ends[1]))

    def _fill_journal(self) -> None:
        journal = Journal.create(
            self.folder / f"{DEVICE}.journal", streams={self.number: self.info},
            log_id=self.identity.log_id, file_bytes=self._file_bytes, disk=self._disk,
            random=self._random, identity=self.identity,
        )  # fmt: skip
        blank = self._entry(self.first, bytes(FRAME * self.info.row_bytes))
        room = self._file_bytes // blank.total_bytes  # entries in a file
        for first in range(self.first, self.first + 2 * room * FRAME, FRAME):
            journal.append([self._entry(first, self.packed(first, FRAME))])
        paths = journal.paths()
        assert len(paths) == 2
        self.journal_bytes = sum(path.stat().st_size for path in paths)
        self.end = self.first + 2 * room * FRAME
        UnsyncedDisk.bury()

    def _entry(self, seq: int, payload: bytes) -> Entry:
        t_ns = time_of(10**9, seq, SFREQ)
        return Entry(self.number, self.incarnation, seq, t_ns, FRAME, BlockFlag(0), None, payload)


def _head(chunk: Chunk, body_bytes: int) -> bytes:
    """Of a chunk with a body of that length."""
    head = bytearray(pack(chunk)[:HEADER_BYTES])
    _LENGTH.pack_into(head, _LENGTH_AT, body_bytes)
    _LENGTH.pack_into(head, HEADER_BYTES - 4, crc32c(head[: HEADER_BYTES - 4]))
    return bytes(head)
