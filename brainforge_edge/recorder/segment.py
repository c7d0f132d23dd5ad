"""Segments: files of chunks, each begun by a descriptor. Runs in: acquire process, archive thread; recovery."""

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import cbor2
import msgspec

from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.stream import Codec, StreamInfo, chunk_samples
from brainforge_edge.recorder.chain import FREED_FILE, read_lines
from brainforge_edge.recorder.chunk import MAX_EXTENSION, Chunk, ChunkDamaged, pack
from brainforge_edge.recorder.identity import Identity, identity_from_map
from brainforge_edge.security.seal import SEGMENT, DataKey
from brainforge_edge.storage.files import Disk

SUFFIX = ".seg"
SEGMENT_ID_BYTES = 16
DESCRIPTOR_FORMAT = 1
_OVERHEAD = (
    4096 + MAX_EXTENSION
)  # header, footer, extension, and what a codec may add to packed rows
_CBOR_MAP, _CBOR_SHORT = 0xA0, 24  # first byte of a map of fewer than 24 keys, which is in it
_MARKER_BYTES = 8192  # a chunk of one marker, whose text has at most 1000 characters


class Descriptor(msgspec.Struct, frozen=True, kw_only=True):
    """What the first chunk of a segment says."""

    info: StreamInfo
    number: int  # of the stream in its log
    identity: Identity
    ordinal: int  # the segment's, from 1
    size: int  # bytes reserved at creation; a closed segment is cut to its last chunk


def pack_descriptor(descriptor: Descriptor) -> bytes:
    """Body of a descriptor chunk: CBOR (docs/formats.md)."""
    return cbor2.dumps(
        {
            "format": DESCRIPTOR_FORMAT,
            "stream": msgspec.to_builtins(descriptor.info),
            "number": descriptor.number,
            "ordinal": descriptor.ordinal,
            "size": descriptor.size,
            **descriptor.identity.as_map(),
        },
        canonical=True,
    )


def read_descriptor(body: bytes) -> Descriptor:
    """Inverse of `pack_descriptor`; raises ChunkDamaged."""
    try:
        fields: Any = cbor2.loads(body)
        descriptor = Descriptor(
            info=msgspec.convert(fields["stream"], StreamInfo),
            number=int(fields["number"]),
            identity=identity_from_map(fields),
            ordinal=int(fields["ordinal"]),
            size=int(fields["size"]),
        )
    except (cbor2.CBORDecodeError, msgspec.ValidationError, KeyError, TypeError, ValueError) as error:  # fmt: skip
        raise ChunkDamaged("descriptor", f"its description cannot be read: {error}") from error
    if not descriptor.info.is_sound:
        raise ChunkDamaged("descriptor", f"its stream has a rate of {descriptor.info.sfreq} Hz")
    return descriptor


def reserved_bytes(body: bytes) -> int | None:
    """`size` of a descriptor without the rest, which takes a millisecond at 306 channels; None if it has none.

    A recovery asks thousands of them. The key stands second in the order in which keys are written.
    """
    n_keys = body[0] - _CBOR_MAP if body else 0
    if not 0 < n_keys < _CBOR_SHORT:
        return None
    decoder = cbor2.CBORDecoder(BytesIO(body[1:]))
    try:
        for _ in range(n_keys):
            key, value = decoder.decode(), decoder.decode()
            if key == "size":
                return value if type(value) is int else None
    except (cbor2.CBORDecodeError, ValueError):
        return None
    return None


class SegmentWriter:
    """One segment, open for appending. After a StorageError it takes no more: close it and create the next."""

    def __init__(
        self,
        path: Path,
        fd: int,
        *,
        segment_id: bytes,
        descriptor: Descriptor,
        disk: Disk,
        key: DataKey | None = None,
    ) -> None:
        """Use `create`."""
        self.path = path
        self.segment_id = segment_id
        self.descriptor = descriptor
        self.end = 0  # offset after the last chunk that was appended
        self.synced = 0  # … and after the last one that is on the disk
        self._pending: list[bytes] = []  # the chunks between, not written yet
        self.next_number = 0
        self._fd: int | None = fd  # None: given up, or closed
        self._disk = disk
        self._key = key
        self._seal = None if key is None else key.file(segment_id, SEGMENT)
        self._has_failed = False
        self._is_closed = False
        self._is_cut = False

    @classmethod
    def create(
        cls,
        folder: Path,
        ordinal: int,
        *,
        info: StreamInfo,
        number: int,
        identity: Identity,
        size: int,
        disk: Disk,
        random: Callable[[int], bytes],
        key: DataKey | None = None,
    ) -> "SegmentWriter":
        """`folder/NNNN.seg` of `size` reserved bytes with its descriptor; file and folder are synced on return.

        With a `key`, which `identity` names, all chunks but the descriptor are sealed with it.
        A file that could not be finished is removed again as far as the disk lets us.
        """
        disk.make_folder(folder)
        path = folder / f"{ordinal:04d}{SUFFIX}"
        descriptor = Descriptor(
            info=info, number=number, identity=identity, ordinal=ordinal, size=size
        )
        fd = disk.open(path, "new")
        writer = cls(
            path,
            fd,
            segment_id=random(SEGMENT_ID_BYTES),
            descriptor=descriptor,
            disk=disk,
            key=key,
        )
        try:
            disk.preallocate(fd, size)
            writer.append(_descriptor_chunk(descriptor))
            writer.sync()
            disk.fsync_folder(folder)
        except StorageError:
            disk.close(fd)
            disk.unlink(path)
            raise
        return writer

    @property
    def is_full(self) -> bool:
        """Whether the next chunk might not fit in the reserved space."""
        info = self.descriptor.info
        # A stream of markers has neither rate nor rows, hence no grid.
        most = (
            chunk_samples(info) * info.row_bytes * 9 // 8 + _OVERHEAD
            if info.channels
            else _MARKER_BYTES
        )
        return self.end + most >= self.descriptor.size and self.next_number > 1

    @property
    def is_synced(self) -> bool:
        """Whether everything that was appended is on the disk."""
        return self.synced == self.end

    def append(self, chunk: Chunk) -> int:
        """Place a chunk, in memory until `sync`; the offset after it.

        Written at once it would cost a commit of the file system's journal within 5 s, for the
        file's time of change, besides that of the sync.
        """
        self._refuse_if_over()
        placed = chunk.placed(self.segment_id, self.next_number)
        if self._key is None or placed.codec is Codec.DESCRIPTOR:
            data = pack(placed)  # a descriptor says which key opens the rest
        else:
            data = pack(replace(placed, key_id=self._key.key_id), self._seal)
        self._pending.append(data)
        self.next_number += 1
        self.end += len(data)
        return self.end

    def sync(self) -> int:
        """Write what was appended and put it on the disk; the offset after it.

        On StorageError none of it counts: the kernel drops the pages, and a second try on the same
        descriptor would report success for what is not there.
        """
        self._refuse_if_over()
        assert self._fd is not None
        at = self.synced
        try:
            for data in self._pending:
                self._disk.pwrite_all(self._fd, data, at)
                at += len(data)
            self._disk.fdatasync(self._fd)
        except StorageError:
            self._has_failed = True
            raise
        self._pending.clear()
        self.synced = self.end
        return self.synced

    def close(self) -> None:
        """Sync what is pending, then cut the file after its last synced chunk. Idempotent once it succeeded.

        On StorageError `synced` says what is on the disk; called again it tries to cut the file once
        more. A file that failed is cut through a new descriptor, for what the old one says is worth
        nothing.
        """
        if self._is_cut:
            return
        try:
            if not (self._is_closed or self._has_failed or self.is_synced):
                self.sync()
        finally:
            self._is_closed = True
            self._cut()

    def _cut(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None and self._has_failed:
            self._disk.close(fd)
            fd = None
        if fd is None:
            fd = self._disk.open(self.path, "write")
        try:
            self._disk.truncate(fd, self.synced)
            self._disk.fdatasync(fd)
        finally:
            self._disk.close(fd)
        self._is_cut = True

    def _refuse_if_over(self) -> None:
        if self._has_failed or self._is_closed:
            raise StorageError(
                "segment_failed",
                f"{self.path} takes no more chunks",
                why="it is closed" if self._is_closed else "an earlier write or sync of it failed",
                remedy="The recorder goes on in the next segment",
                transient=True,
            )


def segment_files(folder: Path, disk: Disk) -> list[Path]:
    """Segments in a stream's folder, in their order."""
    names = (name for name in disk.names(folder) if _is_segment(name))
    return sorted((folder / name for name in names), key=lambda path: int(path.stem))


def next_ordinal(folder: Path, disk: Disk) -> int:
    """Ordinal of the next segment in a stream's folder, from 1; behind those that were freed, too."""
    freed = read_lines(folder.parent / FREED_FILE, disk, _Gone)
    gone = [folder / line.segment for line in freed if line.stream_id == folder.name]
    used = [*segment_files(folder, disk), *(path for path in gone if _is_segment(path.name))]
    return max((int(path.stem) for path in used), default=0) + 1


class _Gone(msgspec.Struct, frozen=True):
    """Of a line in `freed` (recorder/freed.py) what a writer of segments must know."""

    stream_id: str
    segment: str


def _is_segment(name: str) -> bool:
    digits = name[: -len(SUFFIX)]
    # Other scripts have digits, too, and some of them are no numbers; a line in `freed` may name any.
    return name.endswith(SUFFIX) and digits.isascii() and digits.isdigit() and len(name) <= 255


def _descriptor_chunk(descriptor: Descriptor) -> Chunk:
    anchor = descriptor.identity.anchors[-1] if descriptor.identity.anchors else None
    return Chunk(
        codec=Codec.DESCRIPTOR,
        dtype=0,
        n_channels=0,
        n_samples=0,
        log_id=descriptor.identity.log_id,
        incarnation=0,
        stream_number=descriptor.number,
        seq=0,
        t_first_ns=0 if anchor is None else anchor.monotonic_ns,
        sfreq=descriptor.info.sfreq,
        body=pack_descriptor(descriptor),
        t_first_utc_ns=None if anchor is None else anchor.utc_ns,
        utc_uncertainty_ns=0 if anchor is None else anchor.uncertainty_ns,
    )
