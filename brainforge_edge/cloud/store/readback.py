"""Whether a segment of a box lies in the packs byte for byte: it is read back. Runs in: ingest, writer thread.

Memory holds the places of its chunks and one chunk at a time. A chunk that was a duplicate, or of which
other bytes with the same samples are stored, is not there.
"""

import hashlib
from collections.abc import Iterator

from brainforge_edge.cloud.store.packs import PackFiles, Place
from brainforge_edge.core.wire import ClosedSegment
from brainforge_edge.recorder.chunk import HEADER_BYTES, ChunkDamaged, read_head
from brainforge_edge.storage.sqlite import Database

MISSING = "missing"  # not all of its chunks are stored
DIFFERENT = "different"  # they are, and are other bytes than the box has
_SPARE = 64
_PAGE = 256  # places that are looked up at once


def objection(catalogue: Database, packs: PackFiles, stream: int, segment: ClosedSegment) -> str:
    """Why the store cannot vouch for a segment, or "". Raises OSError and StorageError."""
    places: dict[int, Place] = {}
    is_damaged = False
    strangers = 0
    for place in _candidates(catalogue, stream, segment):
        header = packs.read(place._replace(length=min(place.length, HEADER_BYTES)))
        try:
            head = read_head(header)
        except ChunkDamaged:
            is_damaged = True
            continue
        if head.segment_id == segment.segment_id:
            places[head.number] = place
            continue
        strangers += 1
        if strangers > len(places) + _SPARE:
            break  # parts of overlaps are few: these are not the ranges of this segment
    if len(places) < segment.chunks:
        return DIFFERENT if is_damaged else MISSING
    if set(places) != set(range(segment.chunks)):
        return DIFFERENT
    if sum(place.length for place in places.values()) != segment.size:
        return DIFFERENT
    digest = hashlib.sha256()
    for number in range(segment.chunks):
        digest.update(packs.read(places[number]))
    return "" if digest.digest() == segment.sha256 else DIFFERENT


def _candidates(catalogue: Database, stream: int, segment: ClosedSegment) -> Iterator[Place]:
    """Chunks without samples of the segment, and those that begin in the ranges of its samples."""
    left = (
        2 * segment.chunks + _SPARE
    )  # whatever is claimed: parts of overlaps are more than chunks
    found = catalogue.query(
        'SELECT pack, "offset", length FROM other WHERE stream = ? AND segment_id = ? LIMIT ?',
        (stream, segment.segment_id, left),
    )
    yield from (Place(*place) for place in found)
    left -= len(found)
    for samples in segment.ranges:
        at, n = samples.first, 0
        while left > 0:
            # No part of a chunk of the segment begins before its range: the primary key finds them.
            most = min(left, _PAGE)
            page = catalogue.query(
                'SELECT first, pack, "offset", length FROM piece'
                " WHERE stream = ? AND incarnation = ? AND first >= ? AND first < ?"
                " ORDER BY first LIMIT ?",
                (stream, samples.incarnation, at, samples.end, most),
            )
            yield from (Place(*place) for _, *place in page)
            left -= len(page)
            n += len(page)
            if len(page) < most:
                break
            at = page[-1][0] + 1
        if not n:
            return  # a chunk begins in each range of a segment: one is missing, no other need be looked for
