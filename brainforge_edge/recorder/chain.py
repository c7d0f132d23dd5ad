"""The chain of a recording: a digest of each closed segment, each bound to the ones before it. Runs in: agent process; tools.

Three files beside the segments say what became of them, one JSON map a line, appended and synced:
`chain` (what was closed), `attested` (what the aggregator signed for), `freed` (what was removed, and why).
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import msgspec

from brainforge_edge.core.garbled import GARBLED
from brainforge_edge.storage.files import Disk
from brainforge_edge.storage.lines import whole_lines

CHAIN_FILE = "chain"
ATTESTED_FILE = "attested"
FREED_FILE = "freed"
NO_HEAD = bytes(32)  # before the first
MOST_BYTES = 64 * 1024 * 1024  # of such a file: 60 000 segments, two terabytes of the larger ones
_DOMAIN = b"brainforge chain 1"
_LONGEST = 255  # of a file's name

T = TypeVar("T")


class ChainEntry(msgspec.Struct, frozen=True):
    """One closed segment; binary values are base64 in JSON."""

    stream_id: str
    segment: str  # its file's name
    segment_id: bytes
    product: int
    chunks: int
    size: int  # bytes
    sha256: bytes  # of the whole file: its chunks, one after another
    head: bytes

    def __post_init__(self) -> None:
        """ValueError, which a decoder makes its own: a line with such values is none."""
        if not (is_name(self.stream_id) and is_name(self.segment)):
            raise ValueError("no name of a file")
        if not all(0 <= number < 2**63 for number in (self.product, self.chunks, self.size)):
            raise ValueError("no such number")


def is_name(text: str) -> bool:
    """Whether a file can have this name, in the folder that it is looked for in."""
    return text not in {"", ".", ".."} and not {"/", "\0"} & set(text) and len(text) <= _LONGEST


def head_after(head: bytes, *, segment_id: bytes, size: int, sha256: bytes) -> bytes:
    """The head when this segment is added behind `head`: SHA-256 of domain, head, id, size (u64, little-endian), digest."""
    return hashlib.sha256(
        _DOMAIN + head + segment_id + size.to_bytes(8, "little") + sha256
    ).digest()


def is_chained(entries: Iterable[ChainEntry]) -> bool:
    """Whether each head follows from the one before it."""
    head = NO_HEAD
    for entry in entries:
        head = head_after(head, segment_id=entry.segment_id, size=entry.size, sha256=entry.sha256)
        if head != entry.head:
            return False
    return True


def read_lines(path: Path, disk: Disk, kind: type[T]) -> list[T]:
    """Every line that is whole; a last one that a power cut tore is none. [] where there is no file.

    StorageError `too_large` for one that is larger than any recording makes it.
    """
    decoder = msgspec.json.Decoder(kind)
    found: list[T] = []
    for line in whole_lines(path, disk, most=MOST_BYTES):
        try:
            found.append(decoder.decode(line))
        except GARBLED:
            continue  # an entry too few keeps data, it never frees any
    return found
