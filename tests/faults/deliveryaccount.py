"""What a box recorded against what an aggregator stored: each chunk, byte for byte, once.

Read from the segments and from the store's catalogue and packs, never from what a process says.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from brainforge_edge.core.ranges import Intervals
from brainforge_edge.core.wire import Range
from brainforge_edge.recorder.reader import iter_chunks
from brainforge_edge.storage.sqlite import Database

Samples = dict[tuple[str, int], Intervals]  # (stream, incarnation) → sequence numbers


class Account(NamedTuple):
    """Rows, and chunks without rows."""

    recorded: int
    lost: int
    duplicated: int
    different: int
    chunks: int

    @property
    def is_good(self) -> bool:
        return bool(self.recorded and not (self.lost or self.duplicated or self.different))


class _Kept(NamedTuple):
    end: int
    path: str
    offset: int
    length: int


def account(recordings: Path, cloud: Path) -> Account:
    """Of everything that lies in both places."""
    pieces, others, packed = _catalogue(cloud)
    lost = duplicated = different = recorded = chunks = 0
    seen: Samples = {}
    packs: dict[str, bytes] = {}
    referenced: Counter[str] = Counter()
    for kept in {k for many in pieces.values() for k in many} | set(others.values()):
        referenced[kept.path] += kept.length
    # Bytes that no entry names are chunks that were appended twice, or a tail that was not cut.
    duplicated += sum(length != referenced[path] for path, length in packed.items())
    for (stream, incarnation), stored in _stored(pieces).items():
        rows = sum(k.end - first for first, k in _of(pieces, stream, incarnation))
        duplicated += rows - stored.total
    for path in sorted(recordings.glob("*/*/*.seg")):
        stream = path.parent.name
        data = path.read_bytes()
        for whole in iter_chunks(path):
            head, mine = whole.head, data[whole.offset : whole.end]
            chunks += 1
            if not head.n_samples:
                other = others.get((stream, head.segment_id, head.number))
                lost += other is None
                continue
            recorded += head.n_samples
            seen.setdefault((stream, head.incarnation), Intervals()).add(head.seq, head.end)
            found = pieces.get((stream, head.incarnation, head.seq), [])
            if not found or found[0].end < head.end:
                lost += head.n_samples - sum(k.end - head.seq for k in found[:1])
                continue
            kept = found[0]
            pack = packs.get(kept.path)
            if pack is None:
                packs.clear()  # one at a time: segments and packs are in about the same order
                pack = packs[kept.path] = (cloud / "store" / kept.path).read_bytes()
            if pack[kept.offset : kept.offset + kept.length] != mine:
                different += head.n_samples
    return Account(recorded, lost, duplicated, different, chunks)


def stored(cloud: Path) -> Samples:
    """Rows in the catalogue; nothing before there is one."""
    if not (cloud / "catalogue.sqlite").exists():
        return {}
    return _stored(_catalogue(cloud)[0])


def n_rows(cloud: Path) -> int:
    """Rows of all pieces in the catalogue, for a look while it grows."""
    database = Database(cloud / "catalogue.sqlite", read_only=True)
    try:
        row = database.one('SELECT TOTAL("end" - first) FROM piece')
    finally:
        database.close()
    return int(row[0]) if row else 0


def believed(box: Path) -> Samples:
    """Rows that the box takes for delivered: what its cursors on the disk have passed."""
    found: Samples = {}
    if not (box / "uplink.sqlite").exists():
        return found
    database = Database(box / "uplink.sqlite", read_only=True)
    try:
        saved = database.query("SELECT stream_id, receipted FROM segment WHERE product = 0")
    finally:
        database.close()
    for stream, packed in saved:
        learn(found, stream, msgspec.msgpack.decode(packed, type=tuple[Range, ...]))
    return found


def learn(samples: Samples, stream: str, ranges: tuple[Range, ...]) -> None:
    for incarnation, first, end in ((r.incarnation, r.first, r.end) for r in ranges):
        samples.setdefault((stream, incarnation), Intervals()).add(first, end)


def broken(promised: Mapping[tuple[str, int], Intervals], held: Samples) -> int:
    """Rows that were promised and are not held."""
    return sum(
        end - first
        for key, ranges in promised.items()
        for low, high in ranges
        for first, end in held.get(key, Intervals()).missing(low, high)
    )


def total(samples: Samples) -> int:
    return sum(ranges.total for ranges in samples.values())


Pieces = dict[tuple[str, int, int], list[_Kept]]
Others = dict[tuple[str, bytes, int], _Kept]


def _catalogue(cloud: Path) -> tuple[Pieces, Others, dict[str, int]]:
    database = Database(cloud / "catalogue.sqlite", read_only=True)
    try:
        pieces: Pieces = {}
        for stream, incarnation, first, *kept in database.query(
            'SELECT stream_id, incarnation, first, "end", path, "offset", piece.length FROM piece'
            " JOIN stream ON stream.id = piece.stream JOIN pack ON pack.id = piece.pack"
        ):
            pieces.setdefault((stream, incarnation, first), []).append(_Kept(*kept))
        others = {
            (stream, segment, number): _Kept(0, *kept)
            for stream, segment, number, *kept in database.query(
                'SELECT stream_id, segment_id, other.number, path, "offset", other.length'
                " FROM other JOIN stream ON stream.id = other.stream"
                " JOIN pack ON pack.id = other.pack"
            )
        }
        packed = {
            path: int(length) for path, length in database.query("SELECT path, length FROM pack")
        }
    finally:
        database.close()
    return pieces, others, packed


def _stored(pieces: Pieces) -> Samples:
    found: Samples = {}
    for (stream, incarnation, first), kept in pieces.items():
        for each in kept:
            found.setdefault((stream, incarnation), Intervals()).add(first, each.end)
    return found


def _of(pieces: Pieces, stream: str, incarnation: int) -> Iterator[tuple[int, _Kept]]:
    for (named, number, first), kept in pieces.items():
        if (named, number) == (stream, incarnation):
            yield from ((first, each) for each in kept)
