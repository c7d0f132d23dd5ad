"""What a recording says of segments that were removed, and whether it can prove it. Runs in: any process that reads recordings.

`freed` has a line for each, with its evidence: what the aggregator signed, or what an operator released
after it was copied to another medium and read back (`copied`, `released`).
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from brainforge_edge.core.garbled import GARBLED
from brainforge_edge.core.ranges import Intervals
from brainforge_edge.core.stream import MARKERS_ID
from brainforge_edge.core.wire import Range
from brainforge_edge.recorder.attested import attestation_of
from brainforge_edge.recorder.chain import (
    CHAIN_FILE,
    FREED_FILE,
    MOST_BYTES,
    ChainEntry,
    is_chained,
    is_name,
    read_lines,
)
from brainforge_edge.recorder.signers import Verifiers
from brainforge_edge.security.sign import Signed
from brainforge_edge.storage.files import Disk
from brainforge_edge.storage.lines import whole_lines

COPIED_FILE = "copied"
RELEASED_FILE = "released"

Name = tuple[str, str]  # stream id, file
T = TypeVar("T")


class Rows(NamedTuple):
    """Rows of a segment, and rows that a gap before one of its chunks names."""

    number: int  # of the stream
    held: tuple[Range, ...]
    named: tuple[Range, ...]


class CopiedSegment(msgspec.Struct, frozen=True):
    """Read back from the medium, and the same."""

    segment_id: bytes
    size: int
    sha256: bytes
    rows: bytes = b""  # `rows_digest` of what was in it; none in lines of before it was kept

    def is_of(self, entry: ChainEntry) -> bool:
        wanted = (entry.segment_id, entry.size, entry.sha256)
        return (self.segment_id, self.size, self.sha256) == wanted


class Copied(msgspec.Struct, frozen=True):
    """A line of `copied`: the recording, as far as its segments were here, lies on a medium."""

    medium: str  # the folder that was named
    folder: str  # … and the copy's below it
    head: bytes  # of the recording's chain
    segments: tuple[CopiedSegment, ...]
    copied_utc_ns: int | None


class Released(msgspec.Struct, frozen=True):
    """A line of `released`: an operator gave up what lies on a medium."""

    medium: str
    copied: bytes  # SHA-256 of the line in `copied`, without its end
    released_utc_ns: int | None


class Freed(msgspec.Struct, frozen=True, kw_only=True):
    """A line of `freed`; exactly one of `attestation` and `release` is there."""

    log_id: bytes
    stream_id: str
    number: int  # of the stream
    segment: str  # its file's name, never used again
    segment_id: bytes
    size: int
    sha256: bytes
    held: tuple[Range, ...]  # rows that were in it
    named: tuple[Range, ...]  # rows that gaps in it named
    freed_utc_ns: int | None
    attestation: Signed | None = None
    release: bytes | None = None  # SHA-256 of the line in `released`, without its end

    def __post_init__(self) -> None:
        """ValueError, which a decoder makes its own: a line with such values is none."""
        if not (is_name(self.stream_id) and is_name(self.segment)):
            raise ValueError("no name of a file")
        numbers = [self.number, self.size, self.freed_utc_ns or 0]
        for rows in (*self.held, *self.named):
            numbers += (rows.incarnation, rows.first, rows.end)
        if not all(0 <= number < 2**63 for number in numbers):
            raise ValueError("no such number")


class Judged(NamedTuple):
    """A line of `freed`, and what is wrong with its evidence; "" if nothing."""

    freed: Freed
    fault: str


class Evidence:
    """What a recording has to show, read once."""

    def __init__(self, folder: Path, disk: Disk, verifiers: Verifiers) -> None:
        self.entries = read_lines(folder / CHAIN_FILE, disk, ChainEntry)
        self.holds = is_chained(self.entries)
        self._named = {(entry.stream_id, entry.segment): entry for entry in self.entries}
        self._verifiers = verifiers
        self._copied = lines_by_digest(folder / COPIED_FILE, Copied, disk)
        self._released = lines_by_digest(folder / RELEASED_FILE, Released, disk)

    def fault(self, freed: Freed, *, has_rows: bool = True) -> str:
        """Why nothing may be removed for these words; "" if they are proven.

        `has_rows`: also those about rows. Of a file that was changed they are not what was signed: whoever
        is to tell that from a lack of proof asks without them first.
        """
        entry = self._named.get((freed.stream_id, freed.segment))
        if entry is None or any(
            getattr(entry, name) != getattr(freed, name)
            for name in ("segment_id", "size", "sha256")
        ):
            return "the chain knows no such segment"
        if not self.holds:
            return "the chain does not hold"
        if freed.release is not None:
            return self._fault_of_release(freed, freed.release, entry, with_rows=has_rows)
        if freed.attestation is None:
            return "there is no evidence"
        verifier = self._verifiers.get(freed.attestation.signer)
        if verifier is None:
            return "the key that proves it is not here"
        said = attestation_of(freed.attestation, entry, log_id=freed.log_id, verifier=verifier)
        if said is None:
            return "the aggregator did not sign that"
        return _fault_of_rows(freed, said.segment.ranges) if has_rows else ""

    def _fault_of_release(
        self, freed: Freed, digest: bytes, entry: ChainEntry, *, with_rows: bool
    ) -> str:
        release = self._released.get(digest)
        if release is None:
            return "nobody released it"
        copied = self._copied.get(release.copied)
        if copied is None or not any(each.is_of(entry) for each in copied.segments):
            return "no copy of it was read back"
        if with_rows and not has_rows(freed, copied):
            return "other rows were copied"
        return ""


def _fault_of_rows(freed: Freed, signed: Iterable[Range]) -> str:
    """Where a line tells other rows than what was signed; a gap lies just before rows that are."""
    if freed.stream_id == MARKERS_ID and not freed.held and not freed.named:
        return ""  # markers are counted as rows are, and are none
    rows = _by_incarnation(signed)
    if _by_incarnation(freed.held) != rows:
        return "the aggregator signed for other rows"
    begins = {(incarnation, first) for incarnation, held in rows.items() for first, _ in held}
    if any((gap.incarnation, gap.end) not in begins for gap in freed.named):
        return "it names gaps that were not before its rows"
    return ""


def _by_incarnation(rows: Iterable[Range]) -> dict[int, Intervals]:
    found: dict[int, Intervals] = {}
    for row in rows:
        found.setdefault(row.incarnation, Intervals()).add(row.first, row.end)
    return found


def read_freed(folder: Path, disk: Disk) -> list[Freed]:
    """Every line; of a segment that was freed in two goes the last one."""
    found = read_lines(folder / FREED_FILE, disk, Freed)
    return list({(line.stream_id, line.segment): line for line in found}.values())


def read_gone(folder: Path, disk: Disk) -> list[Freed]:
    """Of these the ones whose file is not here (any more)."""
    lines = read_freed(folder, disk)
    here = {name: set(disk.names(folder / name)) for name in {line.stream_id for line in lines}}
    return [line for line in lines if line.segment not in here[line.stream_id]]


def judged(lines: Iterable[Freed], evidence: Evidence) -> list[Judged]:
    return [Judged(line, evidence.fault(line)) for line in lines]


def rows_of(lines: Iterable[Freed]) -> list[Range]:
    """Rows that were in them, neighbours merged."""
    held = _by_incarnation(row for line in lines for row in line.held)
    return [Range(inc, first, end) for inc, rows in sorted(held.items()) for first, end in rows]


def lines_by_digest(path: Path, kind: type[T], disk: Disk) -> dict[bytes, T]:
    """Lines that can be read, each by the digest that stands for it elsewhere."""
    found = {}
    for line in whole_lines(path, disk, most=MOST_BYTES):
        try:
            found[line_digest(line)] = msgspec.json.decode(line, type=kind)
        except GARBLED:
            continue  # torn: it proves nothing
    return found


def rows_digest(rows: Rows | Freed) -> bytes:
    """What stands for the rows of a segment: of a line in `freed` the same as of the segment it speaks of."""
    said = (rows.number, rows.held, rows.named)
    return hashlib.sha256(msgspec.json.encode(said)).digest()


def has_rows(freed: Freed, copied: Copied) -> bool:
    """Whether a line in `freed` names the rows that were read in the segment when it was copied."""
    return any(
        each.rows in (b"", rows_digest(freed))
        for each in copied.segments
        if (each.segment_id, each.sha256) == (freed.segment_id, freed.sha256)
    )


def line_digest(line: bytes) -> bytes:
    """What stands for a line elsewhere."""
    return hashlib.sha256(line).digest()
