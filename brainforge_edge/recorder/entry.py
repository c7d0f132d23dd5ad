"""Bytes of a journal: file header and entries, version 1 (docs/formats.md). No I/O here."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import cbor2
import msgspec

from brainforge_edge.core.block import (
    GAP_BASES,
    GAP_BASIS_CODES,
    GAP_CAUSE_CODES,
    GAP_CAUSES,
    BlockFlag,
    Gap,
)
from brainforge_edge.core.errors import SecurityError, StorageError
from brainforge_edge.core.stream import StreamInfo
from brainforge_edge.kernels.crc import crc32c
from brainforge_edge.recorder.identity import Identity, identity_from_map
from brainforge_edge.security.seal import TAG_BYTES, FileSeal

MAGIC = b"BFJ1"
VERSION = 1
BLOCK = 4096
FILE_HEAD = struct.Struct("<4sHHII16s16sQQ")
ENTRY_MAGIC = b"BJ"
ENTRY_HEAD = struct.Struct("<2sHIIIQq")
GAP_RECORD = struct.Struct("<QQBB6x")
CRC_BYTES = 4
MOST_OVERHEAD = ENTRY_HEAD.size + GAP_RECORD.size + CRC_BYTES  # of an entry, beside its payload
FILE_ID_BYTES = 16
SEALED = 0x8000  # the payload is ciphertext and tag
_KNOWN_FLAGS = sum(BlockFlag)
_GAP_BEFORE = int(BlockFlag.GAP_BEFORE)
MAX_PAYLOAD = 16 * 1024 * 1024


class Entry(NamedTuple):
    """Consecutive rows of one stream; `payload` is n_samples packed rows."""

    stream: int
    incarnation: int
    seq: int
    t_first_ns: int
    n_samples: int
    flags: BlockFlag
    gap: Gap | None
    payload: bytes | memoryview

    @property
    def end(self) -> int:
        return self.seq + self.n_samples

    @property
    def total_bytes(self) -> int:
        """In a file, unless it is sealed there."""
        gap_bytes = GAP_RECORD.size if self.gap is not None else 0
        return ENTRY_HEAD.size + gap_bytes + len(self.payload) + CRC_BYTES


@dataclass(frozen=True, slots=True)
class JournalHeader:
    """What a file says of its present lap."""

    file_id: bytes
    log_id: bytes
    lap: int
    file_bytes: int
    header_bytes: int
    streams: Mapping[int, StreamInfo]
    identity: Identity | None

    @property
    def key_id(self) -> str:
        """Of the data key that its rows are sealed with; "" if they are not."""
        return "" if self.identity is None else self.identity.key_id


class JournalDamaged(StorageError):
    """A journal file whose header cannot be trusted: no entry of it can be."""

    def __init__(self, why: str) -> None:
        super().__init__(
            "journal_damaged",
            "a journal file has no whole header",
            why=why,
            remedy="Nothing acknowledged lies in it if the power failed while it was begun; else check the disk",
        )


def pack_description(streams: Mapping[int, StreamInfo], identity: Identity | None) -> bytes:
    """CBOR part of the header; the same in every lap of a journal."""
    return cbor2.dumps(
        {
            "streams": {number: msgspec.to_builtins(info) for number, info in streams.items()},
            "identity": None if identity is None else identity.as_map(),
        },
        canonical=True,
    )


def header_bytes_for(description: bytes) -> int:
    """Length of the header: whole blocks, and two at least, so that no sector holds both file ids."""
    needed = FILE_HEAD.size + len(description) + FILE_ID_BYTES + CRC_BYTES
    return max(2, -(-needed // BLOCK)) * BLOCK


def pack_header(
    *, file_id: bytes, log_id: bytes, lap: int, file_bytes: int, description: bytes
) -> bytes:
    """Header of one lap."""
    size = header_bytes_for(description)
    fixed = FILE_HEAD.pack(
        MAGIC, VERSION, 0, size, len(description), file_id, log_id, lap, file_bytes
    )
    body = (fixed + description).ljust(size - FILE_ID_BYTES - CRC_BYTES, b"\0") + file_id
    return body + struct.pack("<I", crc32c(body))


def header_length(data: bytes) -> int:
    """Length that the first block announces; raises JournalDamaged."""
    if len(data) < FILE_HEAD.size or data[:4] != MAGIC:
        raise JournalDamaged("it does not begin with BFJ1")
    _, version, _, size, _, _, _, _, _ = FILE_HEAD.unpack_from(data)
    if version != VERSION:
        raise JournalDamaged(f"its format version is {version}, this program reads {VERSION}")
    if size % BLOCK or not BLOCK <= size <= 16 * 1024 * 1024:
        raise JournalDamaged(f"it announces a header of {size} bytes")
    return int(size)


def read_header(data: bytes) -> JournalHeader:
    """Check and read a whole header; raises JournalDamaged."""
    size = header_length(data)
    if len(data) < size:
        raise JournalDamaged(f"{len(data)} bytes are left, the header needs {size}")
    if crc32c(data[: size - CRC_BYTES]) != int.from_bytes(data[size - CRC_BYTES : size], "little"):
        raise JournalDamaged("the header's CRC-32C does not match")
    _, _, _, _, length, file_id, log_id, lap, file_bytes = FILE_HEAD.unpack_from(data)
    try:
        table: Any = cbor2.loads(data[FILE_HEAD.size : FILE_HEAD.size + length])
        streams = {
            int(number): msgspec.convert(info, StreamInfo)
            for number, info in table["streams"].items()
        }
        identity = None if table["identity"] is None else identity_from_map(table["identity"])
        bytes.fromhex("" if identity is None else identity.key_id)
    except (
        cbor2.CBORDecodeError,
        msgspec.ValidationError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
    ) as error:
        raise JournalDamaged(f"its description cannot be read: {error}") from error
    if not all(info.is_sound and info.channels for info in streams.values()):
        raise JournalDamaged("it describes a stream without channels or rate")
    return JournalHeader(file_id, log_id, lap, file_bytes, size, streams, identity)


def possible_ids(data: bytes, header_bytes: int) -> set[bytes]:
    """File ids that a damaged header of that length may have: it holds its id at both ends. Zeros are none."""
    end = header_bytes - CRC_BYTES
    ids = {data[16 : 16 + FILE_ID_BYTES], data[end - FILE_ID_BYTES : end]}
    return {found for found in ids if len(found) == FILE_ID_BYTES and any(found)}


def pack_entry(
    entry: Entry, *, seed: int, offset: int, seal: FileSeal | None = None
) -> tuple[bytes, bytes | memoryview, bytes]:
    """Head, payload and CRC of an entry at `offset` in the lap whose file id has the CRC `seed`.

    The CRC covers file id and offset too: an entry of an earlier lap, or at another place, fails.
    With the `seal` of the lap the payload is sealed, and the head bound to it.
    """
    head = ENTRY_HEAD.pack(
        ENTRY_MAGIC,
        entry.flags if seal is None else entry.flags | SEALED,
        len(entry.payload) + (0 if seal is None else TAG_BYTES),
        entry.stream,
        entry.incarnation,
        entry.seq,
        entry.t_first_ns,
    )
    gap = entry.gap
    if gap is not None:
        head += GAP_RECORD.pack(
            gap.n, gap.plus_minus, GAP_BASIS_CODES[gap.basis], GAP_CAUSE_CODES[gap.cause]
        )
    payload = entry.payload if seal is None else seal.seal(offset, entry.payload, head)
    crc = crc32c(payload, crc32c(head, crc32c(struct.pack("<Q", offset), seed)))
    return head, payload, struct.pack("<I", crc)


def seal_entry(
    made: memoryview, out: memoryview, *, seed: int, offset: int, seal: FileSeal
) -> None:
    """An entry without a gap, as the ring's kernel made it, sealed into `out` (16 bytes more)."""
    _, flags, length, *rest = ENTRY_HEAD.unpack_from(made)
    head = ENTRY_HEAD.pack(ENTRY_MAGIC, flags | SEALED, length + TAG_BYTES, *rest)
    out[: ENTRY_HEAD.size] = head
    seal.seal_into(
        offset, made[ENTRY_HEAD.size : -CRC_BYTES], head, out[ENTRY_HEAD.size : -CRC_BYTES]
    )
    crc = crc32c(out[:-CRC_BYTES], crc32c(struct.pack("<Q", offset), seed))
    out[-CRC_BYTES:] = struct.pack("<I", crc)


def announced_bytes(data: memoryview, offset: int, streams: Mapping[int, StreamInfo]) -> int | None:
    """How long the entry at `offset` says it is, None if there is none; of one whose head is not whole
    in `data`, how long that is."""
    if len(data) - offset < ENTRY_HEAD.size:
        is_begun = ENTRY_MAGIC.startswith(bytes(data[offset : offset + len(ENTRY_MAGIC)]))
        return ENTRY_HEAD.size if is_begun else None
    magic, flags, length, stream, _, _, _ = ENTRY_HEAD.unpack_from(data, offset)
    info = streams.get(stream)
    plain = length - (TAG_BYTES if flags & SEALED else 0)
    if (
        magic != ENTRY_MAGIC
        or info is None
        or flags & ~(_KNOWN_FLAGS | SEALED)
        or length > MAX_PAYLOAD
        or plain < 0
        or plain % info.row_bytes
    ):
        return None
    gap_bytes = GAP_RECORD.size if flags & _GAP_BEFORE else 0
    return ENTRY_HEAD.size + gap_bytes + int(length) + CRC_BYTES


def unpack_entry(
    data: memoryview,
    offset: int,
    *,
    seed: int,
    streams: Mapping[int, StreamInfo],
    base: int = 0,
    seal: FileSeal | None = None,
) -> Entry | None:
    """The whole entry at `offset` of `data`, or None; `base`: where `data` begins in its file.

    With the `seal` of its lap one that was not sealed with it is none. Without, a sealed one has no payload.
    """
    size = announced_bytes(data, offset, streams)
    if size is None or size < ENTRY_HEAD.size + CRC_BYTES or offset + size > len(data):
        return None
    _, flags, length, stream, incarnation, seq, t_first = ENTRY_HEAD.unpack_from(data, offset)
    end = offset + size - CRC_BYTES
    crc = crc32c(data[offset:end], crc32c(struct.pack("<Q", base + offset), seed))
    if crc != int.from_bytes(data[end : end + CRC_BYTES], "little"):
        return None
    gap = None
    if flags & _GAP_BEFORE:
        n, plus_minus, basis, cause = GAP_RECORD.unpack_from(data, offset + ENTRY_HEAD.size)
        if basis not in GAP_BASES or cause not in GAP_CAUSES:
            return None
        gap = Gap(n, plus_minus, GAP_BASES[basis], GAP_CAUSES[cause])
    payload = bytes(data[end - length : end])
    is_sealed = bool(flags & SEALED)
    n_samples = (length - (TAG_BYTES if is_sealed else 0)) // streams[stream].row_bytes
    if seal is not None and not is_sealed:
        return None
    if is_sealed:
        opened = _opened(payload, base + offset, data[offset : end - length], seal)
        if opened is None:
            return None
        payload = opened
    flags = BlockFlag(flags & ~SEALED)
    return Entry(stream, incarnation, seq, t_first, n_samples, flags, gap, payload)


def _opened(payload: bytes, at: int, head: memoryview, seal: FileSeal | None) -> bytes | None:
    if seal is None:
        return b""
    try:
        return seal.open(at, payload, head)
    except SecurityError:
        return None  # its CRC was made anew by whoever changed it
