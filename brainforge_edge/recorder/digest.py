"""What a closed segment is, to the byte. Runs in: agent process, thread `keep`; tools.

Files are read in blocks, with a rest behind each one for who must not be in the way of the recorder.
"""

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from brainforge_edge.core.block import Gap
from brainforge_edge.core.stream import Codec
from brainforge_edge.core.wire import Range
from brainforge_edge.recorder.cut import gap_of
from brainforge_edge.recorder.freed import Rows
from brainforge_edge.recorder.ranges import Ranges
from brainforge_edge.recorder.reader import iter_chunks, iter_heads
from brainforge_edge.storage.files import Disk

BLOCK_BYTES = 1024 * 1024
Rest = Callable[[], object]  # called behind each block


def no_rest() -> None:
    """For who waits for the result."""


class FileDigest(NamedTuple):
    size: int
    sha256: bytes


class Contents(NamedTuple):
    """By most of its headers; a file without a whole one has zeros."""

    segment_id: bytes
    product: int
    chunks: int


def file_digest(
    path: Path, disk: Disk, rest: Rest = no_rest, *, is_cold: bool = False
) -> FileDigest:
    """SHA-256 over the whole file; `is_cold`: from the medium, not from memory."""
    digest = hashlib.sha256()
    fd = disk.open(path, "read")
    try:
        if is_cold:
            disk.drop_cache(fd)
        at = 0
        while True:
            block = disk.pread(fd, BLOCK_BYTES, at)
            if not block:
                return FileDigest(at, digest.digest())
            digest.update(block)
            at += len(block)
            rest()
    finally:
        disk.close(fd)


def contents(path: Path, disk: Disk) -> Contents:
    """From the headers alone."""
    heads = [located.head for located in iter_heads(path, disk=disk)]
    if not heads:
        return Contents(bytes(16), 0, 0)
    votes = Counter((head.segment_id, head.product) for head in heads)
    (segment_id, product), chunks = votes.most_common(1)[0]
    return Contents(segment_id, product, chunks)


def rows_in(path: Path, disk: Disk) -> Rows:
    """What is missed when the file is gone. Damaged chunks do not count, as they do not for `verify`."""
    held: dict[int, Ranges] = {}
    named: dict[int, Ranges] = {}
    number = 0
    for whole in iter_chunks(path, disk=disk):
        head = whole.head
        number = head.stream_number
        if head.codec >= Codec.DESCRIPTOR:
            continue
        held.setdefault(head.incarnation, Ranges()).add(head.seq, head.end)
        gap: Gap | None
        try:
            gap = gap_of(whole.chunk())
        except ValueError:
            gap = None  # of a malformed record nobody reads a number
        if gap is not None:
            named.setdefault(head.incarnation, Ranges()).add(max(0, head.seq - gap.n), head.seq)
    return Rows(number, _as_ranges(held), _as_ranges(named))


def _as_ranges(found: dict[int, Ranges]) -> tuple[Range, ...]:
    return tuple(
        Range(incarnation, first, end)
        for incarnation, rows in sorted(found.items())
        for first, end in rows
    )
