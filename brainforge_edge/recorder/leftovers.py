"""What a journal still holds after a crash. Runs in: recovery (acquire process, main thread), verify."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from brainforge_edge.core.block import BlockFlag, Gap, GapBasis, GapCause
from brainforge_edge.core.stream import StreamInfo, chunk_samples
from brainforge_edge.recorder.cut import STARTS, grid_pieces, time_of
from brainforge_edge.recorder.entry import (
    ENTRY_MAGIC,
    Entry,
    JournalDamaged,
    JournalHeader,
    iter_entries,
    possible_ids,
)
from brainforge_edge.recorder.identity import Identity
from brainforge_edge.recorder.journalfile import journal_files, read_journal_header
from brainforge_edge.recorder.ranges import Ranges
from brainforge_edge.storage.files import Disk

Coverage = Mapping[int, Ranges]  # incarnation → rows


class Hole(NamedTuple):
    """Bytes offset <= b < end of a journal file that are no whole entry, before one that is."""

    path: Path
    offset: int
    end: int


@dataclass(frozen=True, slots=True)
class Leftovers:
    """The files of one device's journal in one recording."""

    folder: Path
    files: tuple[Path, ...]
    headers: Mapping[Path, JournalHeader]  # of the files whose header is whole
    first: Mapping[int, tuple[int, int]]  # stream number → lowest (incarnation, seq)
    n_entries: int
    rows: Mapping[int, Coverage]  # stream number → rows
    holes: tuple["Hole", ...] = ()
    unread: tuple[Path, ...] = ()  # files that hold entries, perhaps, of which none can be trusted

    @property
    def streams(self) -> Mapping[int, StreamInfo]:
        return next(iter(self.headers.values())).streams if self.headers else {}

    @property
    def identity(self) -> Identity | None:
        """As the latest lap says it."""
        header = max(self.headers.values(), key=lambda found: found.lap, default=None)
        return None if header is None else header.identity


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of one chunk to be."""

    number: int
    incarnation: int
    seq: int
    t_first_ns: int
    flags: BlockFlag
    gap: Gap | None
    packed: bytes


def read_leftovers(folder: Path, disk: Disk) -> Leftovers:
    """Headers of all files and which rows they hold; keeps no rows in memory."""
    files = journal_files(folder, disk)
    headers: dict[Path, JournalHeader] = {}
    for path in files:
        try:
            headers[path] = read_journal_header(path, disk)
        except JournalDamaged:
            continue
    state = Leftovers(folder, tuple(files), headers, {}, 0, {})
    first: dict[int, tuple[int, int]] = {}
    rows: dict[int, dict[int, Ranges]] = {}
    n_entries = 0
    holes: list[Hole] = []
    read: set[Path] = set()
    for path, entry in _iter_entries(state, disk, holes):
        read.add(path)
        key = (entry.incarnation, entry.seq)
        first[entry.stream] = min(key, first.get(entry.stream, key))
        held = rows.setdefault(entry.stream, {}).setdefault(entry.incarnation, Ranges())
        held.add(entry.seq, entry.end)
        n_entries += 1
    unread = tuple(
        path
        for path in files
        if path not in headers and path not in read and ENTRY_MAGIC in disk.read_file(path)
    )
    return replace(
        state, first=first, n_entries=n_entries, rows=rows, holes=tuple(holes), unread=unread
    )


def iter_leftover_entries(state: Leftovers, disk: Disk) -> Iterator[Entry]:
    """Whole entries of all files, in the order of laps.

    A file whose header is damaged is read with the description of another one: its file id proves
    each entry by the CRC, and a header that was torn while the lap began proves none.
    """
    for _, entry in _iter_entries(state, disk, []):
        yield entry


def _iter_entries(state: Leftovers, disk: Disk, holes: list[Hole]) -> Iterator[tuple[Path, Entry]]:
    known = sorted(state.headers.items(), key=lambda item: item[1].lap)
    laps = list(known)
    for path in state.files:
        if path not in state.headers and known:
            header = known[-1][1]
            ids = possible_ids(disk.read_file(path), header.header_bytes)
            laps += [(path, replace(header, file_id=file_id)) for file_id in sorted(ids)]
    for path, header in laps:
        found: list[tuple[int, int]] = []
        for entry in iter_entries(disk.read_file(path), header, holes=found):
            yield path, entry
        holes += [Hole(path, offset, end) for offset, end in found]


def uncovered_pieces(
    state: Leftovers, number: int, covered: Coverage, disk: Disk
) -> Iterator[Piece]:
    """Rows of a stream that no segment holds, cut as the archive would have cut them, in order of seq."""
    info = state.streams[number]
    entries = [
        part
        for entry in iter_leftover_entries(state, disk)
        if entry.stream == number
        for part in _uncovered_parts(entry, covered.get(entry.incarnation, Ranges()), info)
    ]
    entries.sort(key=lambda entry: (entry.incarnation, entry.seq, -entry.n_samples))
    run: list[Entry] = []
    before: dict[int, int] = {}  # incarnation → end of the leftovers that were cut
    for entry in _without_repeats(entries, info):
        if run and (
            entry.incarnation != run[-1].incarnation
            or entry.seq != run[-1].end
            or entry.flags & STARTS
        ):
            yield from _cut(run, info, covered, before)
            before[run[-1].incarnation] = run[-1].end
            run = []
        run.append(entry)
    if run:
        yield from _cut(run, info, covered, before)


def _uncovered_parts(entry: Entry, covered: Ranges, info: StreamInfo) -> Iterator[Entry]:
    for first, end in covered.missing(entry.seq, entry.end):
        yield _part(entry, first, end, info)


def _part(entry: Entry, first: int, end: int, info: StreamInfo) -> Entry:
    skip = first - entry.seq
    return entry._replace(
        seq=first,
        t_first_ns=time_of(entry.t_first_ns, skip, info.sfreq),
        n_samples=end - first,
        flags=entry.flags & ~STARTS if skip else entry.flags,
        gap=None if skip else entry.gap,
        payload=entry.payload[skip * info.row_bytes : (skip + end - first) * info.row_bytes],
    )


def _without_repeats(entries: list[Entry], info: StreamInfo) -> Iterator[Entry]:
    """Rows that were written again after an error count once."""
    done: tuple[int, int] | None = None
    for entry in entries:
        if done is not None and done[0] == entry.incarnation and entry.seq < done[1]:
            if entry.end <= done[1]:
                continue
            yield _part(entry, done[1], entry.end, info)
        else:
            yield entry
        done = (entry.incarnation, entry.end)


def _cut(
    run: list[Entry], info: StreamInfo, covered: Coverage, done: Mapping[int, int]
) -> Iterator[Piece]:
    head = run[0]
    gap, flags = head.gap, head.flags & STARTS
    before = max(
        covered.get(head.incarnation, Ranges()).end_before(head.seq) or 0,
        done.get(head.incarnation, 0),
    )
    if gap is None and not flags & BlockFlag.FIRST and 0 < before < head.seq:
        # Rows that were in the journal and cannot be read any more.
        gap = Gap(head.seq - before, 0, GapBasis.DEVICE_INDEX, GapCause.BOX)
        flags |= BlockFlag.GAP_BEFORE
    total = run[-1].end - head.seq
    at = 0
    for first, n in grid_pieces(head.seq, total, chunk_samples(info)):
        parts: list[bytes | memoryview] = []
        others = BlockFlag(0)
        while run[at].end <= first:
            at += 1
        t_first = time_of(run[at].t_first_ns, first - run[at].seq, info.sfreq)
        k = at
        while k < len(run) and run[k].seq < first + n:
            part = _part(run[k], max(first, run[k].seq), min(first + n, run[k].end), info)
            parts.append(part.payload)
            others |= part.flags & ~STARTS
            k += 1
        yield Piece(
            head.stream, head.incarnation, first, t_first, flags | others, gap, b"".join(parts)
        )
        gap, flags = None, BlockFlag(0)
