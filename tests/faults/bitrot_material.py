"""Recordings to damage, and the truth about them: real helmet data, or the seeded synthetic recording."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.codec import registry
from brainforge_edge.core.block import BlockFlag, Gap, GapBasis, GapCause
from brainforge_edge.core.stream import ChannelInfo, Codec, Dtype, StreamInfo, chunk_samples
from brainforge_edge.recorder.catalog import (
    RecordingFile,
    close_recording,
    write_recording_file,
)
from brainforge_edge.recorder.chunk import Chunk, Head
from brainforge_edge.recorder.cut import make_chunk
from brainforge_edge.recorder.reader import Whole, scan
from brainforge_edge.recorder.segment import SegmentWriter
from tests.recordings import helmet
from tests.unit.recorder_faulty_disk import UnsyncedDisk
from tests.unit.recorder_material import IDENTITY, seeded, t_of

RECORDING = "rec-1"
SMALL_BYTES = 16 * 1024
FULL_BYTES = 16 * 1024 * 1024
SMALL_ROWS = 60
_GAP = Gap(17, 0, GapBasis.DEVICE_INDEX, GapCause.LINK)
_NEIGHBOUR = (
    2  # chunks in the segments before and behind, so that a lost end has rows on both sides
)


@dataclass(frozen=True)
class Piece:
    """A chunk as it was written."""

    number: int
    offset: int
    end: int
    head: Head
    data: bytes
    rows: bytes  # packed; none in the descriptor

    @property
    def has_rows(self) -> bool:
        return bool(self.rows)


@dataclass(frozen=True)
class Target:
    """A closed recording of one stream; `path` is the segment to be damaged, with others around it."""

    root: Path
    info: StreamInfo
    path: Path
    data: bytes
    pieces: tuple[Piece, ...]

    @property
    def folder(self) -> Path:
        return self.root / RECORDING

    @property
    def segment_id(self) -> bytes:
        return self.pieces[0].head.segment_id

    def at(self, offset: int) -> int:
        """Index of the chunk that holds a byte."""
        ends = [piece.end for piece in self.pieces]
        return int(np.searchsorted(ends, offset, side="right"))


def small(root: Path, *, seed: int, first: int = 0, is_last: bool = False) -> Target:
    """Four channels in short chunks: coded and plain ones, flat ones of one length, gaps. `first`: its first row."""
    data = np.ascontiguousarray(helmet().data[:, :4])
    info = _info(4, "helmet-part")
    source = _rows(data, seed)

    def codec(number: int) -> Codec:
        return Codec.PACKED if number % 3 == 1 else Codec.LOSSLESS

    def rows(number: int, seq: int, n: int) -> NDArray[Any]:
        found = source(seq, n)
        return np.full_like(found, int(found[0, 0])) if number % 5 == 4 else found

    return _record(
        root, info, SMALL_BYTES, SMALL_ROWS, rows, codec, seed=seed, gap_every=7, first=first,
        is_last=is_last,
    )  # fmt: skip


def full(root: Path, *, seed: int, size: int = FULL_BYTES) -> Target:
    """All channels of the helmet, chunks as the archive cuts them."""
    data = helmet().data
    info = _info(data.shape[1], "helmet-mag")
    source = _rows(data, seed)
    return _record(
        root, info, size, chunk_samples(info), lambda _number, seq, n: source(seq, n),
        lambda _number: Codec.LOSSLESS, seed=seed, gap_every=9,
    )  # fmt: skip


def decode(chunk: Chunk) -> bytes:
    """Packed rows by the product's decoder; raises CodecError."""
    dtype = Dtype(chunk.dtype)
    rows = registry.decode(chunk.codec, chunk.body, dtype, chunk.n_samples, chunk.n_channels)
    return registry.pack_rows(rows, dtype)


def _info(n_channels: int, stream_id: str) -> StreamInfo:
    channels = tuple(ChannelInfo(name=f"S{i:03d}", type="mag", unit="T") for i in range(n_channels))
    return StreamInfo(stream_id, "helmet", helmet().sfreq, Dtype.I24, channels)


def _rows(data: NDArray[np.int32], seed: int) -> Callable[[int, int], NDArray[np.int32]]:
    """Rows without end: the recording to and fro, its lowest bits anew at each turn, so that no two chunks are equal."""

    def rows(seq: int, n: int) -> NDArray[np.int32]:
        random = np.random.default_rng((seed, seq))
        at = np.arange(seq, seq + n) % (2 * len(data))
        turned = data[np.where(at < len(data), at, 2 * len(data) - 1 - at)]
        lowest = random.integers(0, 2, turned.shape, np.int32)
        found: NDArray[np.int32] = np.bitwise_xor(turned, lowest)
        return found

    return rows


def _record(
    root: Path,
    info: StreamInfo,
    size: int,
    step: int,
    rows: Callable[[int, int, int], NDArray[Any]],
    codec: Callable[[int], Codec],
    *,
    seed: int,
    gap_every: int,
    first: int = 0,
    is_last: bool = False,
) -> Target:
    disk = UnsyncedDisk()
    seq = first
    paths = []
    for ordinal in (1, 2) if is_last else (1, 2, 3):
        writer = SegmentWriter.create(
            root / RECORDING / info.stream_id, ordinal, info=info, number=1, identity=IDENTITY,
            size=4 * size, disk=disk, random=seeded(seed * 10 + ordinal),
        )  # fmt: skip
        number = 1
        while number <= _NEIGHBOUR if ordinal != 2 else writer.end < size:
            gap = _GAP if number % gap_every == 0 else None
            seq += gap.n if gap else 0
            chunk = make_chunk(
                registry.pack_rows(rows(number, seq, step), info.dtype),
                info=info, number=1, identity=IDENTITY, incarnation=1, seq=seq,
                t_first_ns=t_of(info, seq), flags=BlockFlag.GAP_BEFORE if gap else BlockFlag(0),
                gap=gap, encode=partial(_encode, codec(number)),
            )  # fmt: skip
            writer.append(chunk)
            seq, number = seq + step, number + 1
        writer.close()
        paths.append(writer.path)
    write_recording_file(root, RecordingFile(RECORDING, None, IDENTITY.node), disk)
    close_recording(root / RECORDING, disk)
    path = paths[1]
    return Target(root, info, path, path.read_bytes(), tuple(_pieces(path)))


def _encode(codec: Codec, packed: bytes, info: StreamInfo) -> tuple[Codec, bytes]:
    rows = registry.unpack_rows(packed, info.dtype, info.n_channels)
    return codec, registry.encode(codec, rows, info.dtype)


def _pieces(path: Path) -> list[Piece]:
    found = []
    for piece in scan(path, disk=UnsyncedDisk()):
        assert isinstance(piece, Whole)
        chunk = piece.chunk()
        rows = b"" if chunk.codec == Codec.DESCRIPTOR else decode(chunk)
        found.append(
            Piece(piece.head.number, piece.offset, piece.end, piece.head, piece.data, rows)
        )
    return found
