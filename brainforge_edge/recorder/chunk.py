"""Chunk format, version 1: an encoded block with everything a stranger needs (docs/formats.md).

The same bytes lie on the disk, travel over MQTT and are checked at the aggregator. No I/O here.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import IntFlag
from typing import Any

import cbor2

from brainforge_edge.core.errors import SecurityError, StorageError
from brainforge_edge.core.stream import Codec, Dtype
from brainforge_edge.kernels.crc import crc32c
from brainforge_edge.security.seal import KEY_ID_BYTES, TAG_BYTES, FileSeal

MAGIC = b"BFC1"
VERSION = 1
HEADER = struct.Struct("<4sBBHIHBBII16sIIQqqQd16sIII8s")
HEADER_BYTES = 128  # the struct and its own CRC-32C in the last four
FOOTER_BYTES = 4
UTC_UNKNOWN = -(2**63)
MAX_BODY = 1024 * 1024
MAX_EXTENSION = 64 * 1024
NO_KEY_ID = bytes(KEY_ID_BYTES)
NO_KEY = "security.no_key"  # code of the error of what nobody here can open
ERASED = "security.erased"  # … of what nobody can open any more
_MOST_DEPTH = 8  # maps may be keys of maps: to write them again takes twice as long a level


class ChunkFlag(IntFlag):
    SEALED = 1
    FIRST = 2  # first of an incarnation
    GAP_BEFORE = 4  # the extension's "gap" says how large
    CLOCK_STEP = 8
    EMULATED = 16
    SATURATED = 32
    RECOVERED = 64  # made from a journal after a crash


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk; `body` is as stored. `extension` is CBOR: "gap": [n, plus_minus, basis, cause], …"""

    codec: Codec
    dtype: int  # core.stream.Dtype, 0 for descriptor and markers
    n_channels: int
    n_samples: int
    log_id: bytes
    incarnation: int
    stream_number: int
    seq: int
    t_first_ns: int
    sfreq: float
    body: bytes
    flags: ChunkFlag = ChunkFlag(0)
    product: int = 0
    t_first_utc_ns: int | None = None
    utc_uncertainty_ns: int = 0
    segment_id: bytes = bytes(16)
    number: int = 0
    extension: dict[str, Any] = field(default_factory=dict)
    key_id: bytes = NO_KEY_ID  # of the data key that a sealed body needs
    bound: bytes = field(
        default=b"", repr=False
    )  # of a sealed one: what its seal binds beside the body

    @property
    def is_sealed(self) -> bool:
        return bool(self.flags & ChunkFlag.SEALED)

    @property
    def end(self) -> int:
        """Index after the last sample."""
        return self.seq + self.n_samples

    def placed(self, segment_id: bytes, number: int) -> "Chunk":
        """The same chunk at its place in a segment."""
        return replace(self, segment_id=segment_id, number=number)

    def opened(self, seal: FileSeal) -> "Chunk":
        """A sealed chunk with its body in the clear; SecurityError if it is not what was sealed here."""
        body = seal.open(self.number, self.body, self.bound)
        return replace(self, body=body, flags=self.flags & ~ChunkFlag.SEALED, bound=b"")


@dataclass(frozen=True, slots=True)
class Head:
    """What the fixed header says: enough to index a segment without reading bodies."""

    flags: ChunkFlag
    product: int
    codec: int
    dtype: int
    n_channels: int
    n_samples: int
    log_id: bytes
    incarnation: int
    stream_number: int
    seq: int
    t_first_ns: int
    t_first_utc_ns: int | None
    utc_uncertainty_ns: int
    sfreq: float
    segment_id: bytes
    number: int
    body_bytes: int
    extension_bytes: int
    key_id: bytes

    @property
    def end(self) -> int:
        return self.seq + self.n_samples

    @property
    def total_bytes(self) -> int:
        return HEADER_BYTES + self.extension_bytes + self.body_bytes + FOOTER_BYTES


Opener = Callable[[Chunk], Chunk]  # a chunk with its body in the clear; SecurityError if it cannot


def unsealed(chunk: Chunk) -> Chunk:
    """The opener of who has no keys: what is not sealed as it is."""
    if chunk.is_sealed:
        raise SecurityError(
            "no_key",
            "what is sealed was not opened",
            why="no private key was named",
            remedy="Name the folder of one with --keys",
        )
    return chunk


class ChunkDamaged(StorageError):
    """Bytes that are not the chunk they claim to be."""

    def __init__(self, reason: str, why: str) -> None:
        super().__init__(
            f"chunk_{reason}",
            "a chunk is damaged",
            why=why,
            remedy="Run brainforge-edge verify on the recording; the other chunks can still be read",
        )
        self.reason = reason


def pack(chunk: Chunk, seal: FileSeal | None = None) -> bytes:
    """Bytes of a chunk: header, extension, body and the CRC-32C that binds them.

    With the `seal` of its segment the body is sealed under `chunk.key_id`, header and extension bound to it.
    """
    more = 0 if seal is None else TAG_BYTES
    flags = chunk.flags if seal is None else chunk.flags | ChunkFlag.SEALED
    extension = cbor2.dumps(chunk.extension, canonical=True) if chunk.extension else b""
    utc = UTC_UNKNOWN if chunk.t_first_utc_ns is None else chunk.t_first_utc_ns
    fixed = HEADER.pack(
        MAGIC,
        VERSION,
        chunk.product,
        HEADER_BYTES,
        flags,
        chunk.codec,
        chunk.dtype,
        0,
        chunk.n_channels,
        chunk.n_samples,
        chunk.log_id,
        chunk.incarnation,
        chunk.stream_number,
        chunk.seq,
        chunk.t_first_ns,
        utc,
        chunk.utc_uncertainty_ns,
        chunk.sfreq,
        chunk.segment_id,
        chunk.number,
        len(chunk.body) + more,
        len(extension),
        chunk.key_id,
    )
    header_crc = struct.pack("<I", crc32c(fixed))
    body = chunk.body if seal is None else seal.seal(chunk.number, chunk.body, fixed + extension)
    rest = extension + body
    return b"".join((fixed, header_crc, rest, struct.pack("<I", footer_crc(header_crc, rest))))


def footer_crc(header_crc: bytes, rest: bytes | memoryview) -> int:
    """CRC-32C of the header up to its own CRC, of extension and body, and of their last 4 bytes again.

    A CRC that runs over data and the CRC of the same data has one value for all: over H it would forget
    the header, over the body's own CRC the rows, and any header would fit any rows of the same length.
    """
    return crc32c(rest[-4:], crc32c(rest, int.from_bytes(header_crc, "little")))


def read_head(data: bytes | memoryview) -> Head:
    """Check and read the fixed header; raises ChunkDamaged."""
    if len(data) < HEADER_BYTES:
        raise ChunkDamaged(
            "truncated", f"{len(data)} bytes are left, a header needs {HEADER_BYTES}"
        )
    fixed = bytes(data[:HEADER_BYTES])
    if fixed[:4] != MAGIC:
        raise ChunkDamaged("magic", "it does not begin with BFC1")
    if crc32c(fixed[:-4]) != int.from_bytes(fixed[-4:], "little"):
        raise ChunkDamaged("header_crc", "the header's CRC-32C does not match")
    (_, version, product, header_bytes, flags, codec, dtype, _, n_channels, n_samples, log_id,
     incarnation, stream_number, seq, t_first, utc, uncertainty, sfreq, segment_id, number,
     body_bytes, extension_bytes, key_id) = HEADER.unpack_from(fixed)  # fmt: skip
    if version != VERSION or header_bytes != HEADER_BYTES:
        raise ChunkDamaged(
            "version", f"its format version is {version}, this program reads {VERSION}"
        )
    if body_bytes > MAX_BODY or extension_bytes > MAX_EXTENSION:
        raise ChunkDamaged("oversize", f"it announces a body of {body_bytes} bytes")
    return Head(
        ChunkFlag(flags), product, codec, dtype, n_channels, n_samples, log_id, incarnation,
        stream_number, seq, t_first, None if utc == UTC_UNKNOWN else utc, uncertainty, sfreq,
        segment_id, number, body_bytes, extension_bytes, key_id,
    )  # fmt: skip


def unpack(data: bytes | memoryview) -> Chunk:
    """Check and read one chunk that begins at `data[0]`; raises ChunkDamaged. Bytes after it are ignored."""
    head = read_head(data)
    if len(data) < head.total_bytes:
        raise ChunkDamaged("truncated", f"{len(data)} bytes are left, it needs {head.total_bytes}")
    whole = bytes(data[: head.total_bytes])
    header_crc = whole[HEADER_BYTES - 4 : HEADER_BYTES]
    expected = int.from_bytes(whole[-FOOTER_BYTES:], "little")
    if footer_crc(header_crc, memoryview(whole)[HEADER_BYTES:-FOOTER_BYTES]) != expected:
        raise ChunkDamaged("crc", "its CRC-32C does not match")
    body_at = HEADER_BYTES + head.extension_bytes
    try:
        packed = whole[HEADER_BYTES:body_at]
        extension = cbor2.loads(packed, max_depth=_MOST_DEPTH) if packed else {}
        codec = Codec(head.codec)
        if codec < Codec.DESCRIPTOR:
            Dtype(head.dtype)
    except (cbor2.CBORDecodeError, ValueError) as error:
        raise ChunkDamaged(
            "malformed", f"its extension, codec or type cannot be read: {error}"
        ) from error
    if not isinstance(extension, dict):
        raise ChunkDamaged("malformed", "its extension is not a map")
    return Chunk(
        codec=codec, dtype=head.dtype, n_channels=head.n_channels, n_samples=head.n_samples,
        log_id=head.log_id, incarnation=head.incarnation, stream_number=head.stream_number,
        seq=head.seq, t_first_ns=head.t_first_ns, sfreq=head.sfreq,
        body=whole[body_at : body_at + head.body_bytes], flags=head.flags, product=head.product,
        t_first_utc_ns=head.t_first_utc_ns, utc_uncertainty_ns=head.utc_uncertainty_ns,
        segment_id=head.segment_id, number=head.number, extension=extension, key_id=head.key_id,
        bound=whole[: HEADER_BYTES - 4] + packed if head.flags & ChunkFlag.SEALED else b"",
    )  # fmt: skip
