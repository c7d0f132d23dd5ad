"""The exact account of a recording: every row, every gap, every damaged chunk. Runs in: `brainforge-edge verify`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from brainforge_edge.core.block import Gap
from brainforge_edge.core.errors import SecurityError, StorageError
from brainforge_edge.core.stream import Codec
from brainforge_edge.recorder.catalog import JOURNAL_SUFFIX, RecordingEntry, read_recording
from brainforge_edge.recorder.chaincheck import ChainAccount, check_chain
from brainforge_edge.recorder.chunk import ERASED, FOOTER_BYTES, HEADER_BYTES, NO_KEY, Chunk
from brainforge_edge.recorder.cut import gap_of
from brainforge_edge.recorder.freed import Freed
from brainforge_edge.recorder.keyfile import find_keys
from brainforge_edge.recorder.leftovers import (
    Coverage,
    Leftovers,
    read_leftovers,
    uncovered_rows,
)
from brainforge_edge.recorder.ranges import Ranges
from brainforge_edge.recorder.reader import UNUSED, Damage, Whole, read_segment, scan
from brainforge_edge.recorder.recover import DAMAGED_PREFIX
from brainforge_edge.recorder.signers import NOBODY, Verifiers
from brainforge_edge.security.agreement import HeldKeyUnusable
from brainforge_edge.storage.files import Disk

# A sample chunk → its packed rows; raises StorageError if the body is not what its own CRC says,
# SecurityError if it is sealed and is not what was sealed, or no key for it is here.
Decode = Callable[[Chunk], bytes]


@dataclass(frozen=True, slots=True)
class NamedGap:
    """Rows that the recorder says are missing before row `seq`."""

    incarnation: int
    seq: int
    t_first_ns: int
    gap: Gap


@dataclass(frozen=True, slots=True)
class DamagedChunk:
    """Bytes of a segment that are no whole chunk; `numbers` are the chunks that are not there instead."""

    file: str
    offset: int
    end: int
    reason: str
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """Rows first <= seq < end of one incarnation."""

    incarnation: int
    first: int
    end: int


@dataclass(slots=True)
class StreamAccount:
    """One stream of a recording."""

    stream_id: str
    segments: int = 0
    chunks: int = 0
    unopened: int = 0  # … of them sealed, and no key here: whole by their CRC, rows not looked at
    erased: int = 0  # … of them sealed with a key that was erased
    rows: int = 0
    spans: list[Span] = field(default_factory=list)
    gaps: list[NamedGap] = field(default_factory=list)
    missing: list[Span] = field(default_factory=list)  # absent, and no gap says so
    erased_spans: list[Span] = field(default_factory=list)  # … beside what was erased: a journal's
    damaged: list[DamagedChunk] = field(default_factory=list)
    torn: list[DamagedChunk] = field(
        default_factory=list
    )  # at the end of a segment; `repair` cuts it
    duplicates: int = 0  # rows that lie in two chunks, equal
    conflicts: list[Span] = field(default_factory=list)  # in two chunks, different
    markers: int = 0  # a stream of markers has no rows
    in_journal: int = 0  # rows that only the journal holds; recovery makes chunks of them
    freed: list[Freed] = field(default_factory=list)  # segments that were removed with evidence

    @property
    def lost_in_gaps(self) -> int:
        return sum(named.gap.n for named in self.gaps)

    @property
    def is_clean(self) -> bool:
        return not (self.missing or self.damaged or self.torn or self.conflicts or self.duplicates)


@dataclass(slots=True)
class Account:
    """What `verify` found."""

    recording: str
    is_closed: bool
    streams: list[StreamAccount]
    problems: list[str]  # that belong to no stream
    without_rows: list[str] = field(default_factory=list)  # devices that were to be recorded
    chain: ChainAccount = field(default_factory=ChainAccount)

    @property
    def is_clean(self) -> bool:
        return not self.problems and all(stream.is_clean for stream in self.streams)


@dataclass(slots=True)
class _Found:
    path: Path
    offset: int
    seq: int
    end: int
    t_first_ns: int
    gap: Gap | None
    is_erased: bool


def verify_recording(
    folder: Path, *, decode: Decode, disk: Disk, verifiers: Verifiers = NOBODY
) -> Account:
    """Read every byte of a recording. Of one that is being written to, the journal's rows are counted apart.

    `verifiers` tell whether what was freed was freed with evidence.
    """
    entry = read_recording(folder, disk)
    problems = []
    if entry.file is None:
        problems.append("recording.json is missing or cannot be read")
    problems += [
        f"{name} is a journal file that cannot be read, set aside by recovery"
        for name in disk.names(folder)
        if name.startswith(DAMAGED_PREFIX)
    ]
    problems += [
        f"{each.name} is a damaged keys file ({each.why}); {each.n_read} keys were read in it"
        for each in find_keys(folder, disk).damaged
    ]
    journals = [read_leftovers(folder / f"{each}{JOURNAL_SUFFIX}", disk) for each in entry.journals]
    problems += _journal_problems(journals)
    if (
        journals
    ):  # what it archived meanwhile is in segments: a row is never counted twice, nor left out
        entry = read_recording(folder, disk)
    chain = check_chain(entry, verifiers, disk)
    problems += chain.problems
    streams = []
    named = {name.rpartition("/")[0] for name in (entry.file and entry.file.segments) or ()}
    journalled = {
        info.stream_id
        for state in journals
        for number, info in state.streams.items()
        if state.first(number) is not None
    }
    for stream_id in sorted({*entry.streams, *journalled, *named, *chain.freed}):
        account = StreamAccount(stream_id)
        account.freed = chain.freed.get(stream_id, [])
        found: dict[int, list[_Found]] = {}
        noted = _noted(entry, stream_id)
        for gone in account.freed:
            noted.pop(folder / stream_id / gone.segment, None)
        for path in entry.streams.get(stream_id, ()):
            for incarnation, chunk in _read(
                path, account, decode, disk, is_open=bool(journals), noted=noted.pop(path, 0)
            ):
                found.setdefault(incarnation, []).append(chunk)
        for path, size in noted.items():
            account.damaged.append(DamagedChunk(str(path), 0, size, "the file is missing", (0,)))
        held = {
            incarnation: _order(incarnation, found[incarnation], account, decode, disk)
            for incarnation in sorted(found)
        }
        account.in_journal = _only_in(journals, stream_id, held)
        account.missing = list(_not_elsewhere(account.missing, account.freed))
        streams.append(account)
    without_rows = _without_rows(entry, streams)
    return Account(folder.name, entry.is_closed, streams, problems, without_rows, chain)


def _not_elsewhere(missing: list[Span], freed: list[Freed]) -> Iterator[Span]:
    """Of the missing rows those that were in no segment that was freed, nor in a gap that one named."""
    known: dict[int, Ranges] = {}
    for row in (row for gone in freed for row in (*gone.held, *gone.named)):
        known.setdefault(row.incarnation, Ranges()).add(row.first, row.end)
    for span in missing:
        for first, end in known.get(span.incarnation, Ranges()).missing(span.first, span.end):
            yield Span(span.incarnation, first, end)


def _without_rows(entry: RecordingEntry, streams: list[StreamAccount]) -> list[str]:
    """Devices of the box of which nothing came; a stream's id begins with its device's name."""
    devices = entry.file.devices if entry.file else ()
    silent = list(devices)
    for stream in streams:
        owners = [name for name in devices if stream.stream_id.startswith(f"{name}-")]
        owner = max(owners, key=len, default="")
        if owner in silent and (stream.rows or stream.in_journal or stream.damaged or stream.freed):
            silent.remove(owner)
    return silent


def _noted(entry: RecordingEntry, stream_id: str) -> dict[Path, int]:
    """Segments of a stream and their lengths when the recording was closed, if that was noted."""
    noted = (entry.file and entry.file.segments) or {}
    return {
        entry.folder / name: size
        for name, size in noted.items()
        if name.rpartition("/")[0] == stream_id
    }


def _read(
    path: Path, account: StreamAccount, decode: Decode, disk: Disk, *, is_open: bool, noted: int
) -> Iterator[tuple[int, _Found]]:
    """Chunks of a segment by incarnation; damage goes into the account. `noted`: its least length."""
    info = read_segment(path, disk=disk)
    account.segments += 1
    places: dict[int, tuple[int, int]] = {}  # number → where the chunk lies
    damages: list[Damage] = []
    for piece in scan(path, segment_id=info.segment_id, disk=disk):
        if not isinstance(piece, Whole):
            damages.append(piece)
            continue
        places[piece.head.number] = (piece.offset, piece.end)
        if piece.head.codec >= Codec.DESCRIPTOR:
            account.markers += piece.head.n_samples if piece.head.codec == Codec.MARKERS else 0
            continue
        try:
            chunk = piece.chunk()
            gap = gap_of(chunk)
            objection = _objection(chunk, decode)
        except HeldKeyUnusable:
            raise
        except (StorageError, SecurityError, ValueError) as error:
            reason, numbers = f"undecodable: {error}", (piece.head.number,)
            account.damaged.append(
                DamagedChunk(str(path), piece.offset, piece.end, reason, numbers)
            )
            continue
        account.chunks += 1
        account.unopened += objection == NO_KEY
        account.erased += objection == ERASED
        found = _Found(
            path, piece.offset, chunk.seq, chunk.end, chunk.t_first_ns, gap, objection == ERASED
        )
        yield chunk.incarnation, found
    behind = (max(places, default=-1) + 1,)
    tail = damages.pop() if damages and damages[-1].end == info.file_bytes else None
    most = info.file_bytes // (HEADER_BYTES + FOOTER_BYTES)
    account.damaged += _lost(path, places, damages, most)
    if tail is not None and not (is_open and tail.reason == UNUSED):
        reason = "not closed" if tail.reason == UNUSED else tail.reason
        account.torn.append(DamagedChunk(str(path), tail.offset, tail.end, reason, behind))
    if info.file_bytes < noted:
        account.damaged.append(DamagedChunk(str(path), info.file_bytes, noted, "cut off", behind))


def _objection(chunk: Chunk, decode: Decode) -> str:
    """ "" if its rows are what they were; NO_KEY or ERASED if they cannot be looked at; else the errors of `Decode`."""
    try:
        decode(chunk)
    except SecurityError as error:
        if error.code in {NO_KEY, ERASED}:
            return error.code
        raise
    return ""


def _lost(
    path: Path, places: dict[int, tuple[int, int]], damages: list[Damage], most: int
) -> Iterator[DamagedChunk]:
    """Chunks that are not there, by the numbers on both sides of them, and damage that cost none.

    A number may be anything: no more than `most` are named, as many as could have been in the file.
    """
    left = list(damages)
    order = sorted(places)
    for one, two in pairwise([-1, *order]):
        if two == one + 1:
            continue
        at = places[one][1] if one >= 0 else 0
        end = max(at, places[two][0])  # below it where a chunk lies at the place of another
        inside = [found for found in left if found.offset < end and at < found.end]
        left = [found for found in left if found not in inside]
        reason = inside[0].reason if inside else "missing" if at == end else "misplaced"
        yield DamagedChunk(
            str(path), at, end, reason, tuple(range(one + 1, min(two, one + 1 + most)))
        )
    for found in left:
        yield DamagedChunk(str(path), found.offset, found.end, found.reason, ())


def _order(
    incarnation: int, found: list[_Found], account: StreamAccount, decode: Decode, disk: Disk
) -> Ranges:
    """The rows of one incarnation, in the order of seq: overlaps, gaps that are named, gaps that are not."""
    found.sort(key=lambda chunk: (chunk.seq, chunk.end))
    held = Ranges()
    previous: _Found | None = None
    for chunk in found:
        known = held.add(chunk.seq, chunk.end)
        if known and previous is not None:
            span = Span(incarnation, chunk.seq, chunk.seq + known)
            if _is_equal(previous, chunk, span, decode, disk):
                account.duplicates += known
            else:
                account.conflicts.append(span)
        if chunk.gap is not None:
            account.gaps.append(NamedGap(incarnation, chunk.seq, chunk.t_first_ns, chunk.gap))
        absent = 0 if previous is None else chunk.seq - previous.end
        named = 0 if chunk.gap is None else chunk.gap.n
        if absent > named:
            assert previous is not None
            is_erased = previous.is_erased or chunk.is_erased
            spans = account.erased_spans if is_erased else account.missing
            spans.append(Span(incarnation, previous.end, chunk.seq - named))
        if previous is None or chunk.end > previous.end:
            previous = chunk
    account.rows += held.n_rows
    account.spans += [Span(incarnation, first, end) for first, end in held]
    return held


def _is_equal(one: _Found, two: _Found, span: Span, decode: Decode, disk: Disk) -> bool:
    parts = []
    for found in (one, two):
        whole = next(iter(scan(found.path, found.offset, disk=disk)))
        assert isinstance(whole, Whole)
        chunk = whole.chunk()
        if _objection(chunk, decode):
            parts.append(chunk.body)
            continue
        packed = decode(chunk)
        row_bytes = len(packed) // (found.end - found.seq)
        parts.append(
            packed[(span.first - found.seq) * row_bytes : (span.end - found.seq) * row_bytes]
        )
    return parts[0] == parts[1]


def _journal_problems(journals: list[Leftovers]) -> Iterator[str]:
    for state in journals:
        for path in state.unread:
            yield f"{path} has no whole header, and no entry of it can be read"
        for hole in state.holes:
            yield f"{hole.path}: no whole entry in bytes {hole.offset} to {hole.end}"


def _only_in(journals: list[Leftovers], stream_id: str, held: Coverage) -> int:
    """How many rows of a stream the journals hold and no segment."""
    return sum(
        uncovered_rows(state, number, held)
        for state in journals
        for number, info in state.streams.items()
        if info.stream_id == stream_id
    )
