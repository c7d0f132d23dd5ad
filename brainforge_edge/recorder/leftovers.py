"""What a journal still holds after a crash. Runs in: recovery (acquire process, main thread), verify.

Every file is read once; what stays in memory says where each entry lies, and its rows are read again
where a chunk is made of them.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from brainforge_edge.core.block import BlockFlag, Gap, GapBasis, GapCause
from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.stream import StreamInfo, chunk_samples
from brainforge_edge.kernels.crc import crc32c
from brainforge_edge.recorder.cut import STARTS, grid_pieces, time_of
from brainforge_edge.recorder.entry import (
    Entry,
    JournalDamaged,
    JournalHeader,
    possible_ids,
    unpack_entry,
)
from brainforge_edge.recorder.identity import Identity
from brainforge_edge.recorder.journalfile import (
    holds_entries,
    journal_files,
    read_journal_header,
    scan_entries,
)
from brainforge_edge.recorder.keyring import Keyring
from brainforge_edge.recorder.ranges import Ranges
from brainforge_edge.security.seal import JOURNAL, FileSeal
from brainforge_edge.storage.files import Disk

Coverage = Mapping[int, Ranges]  # incarnation → rows


class Hole(NamedTuple):
    """Bytes offset <= b < end of a journal file that are no whole entry, before one that is."""

    path: Path
    offset: int
    end: int


class Lap(NamedTuple):
    """A file as one lap of it says."""

    path: Path
    header: JournalHeader
    seal: FileSeal | None


class Stored(NamedTuple):
    """Rows of a whole entry, which stay in the file."""

    lap: Lap
    offset: int  # of the entry
    size: int
    skip: int  # rows of the entry before these
    incarnation: int
    seq: int
    t_first_ns: int
    n_samples: int
    flags: BlockFlag
    gap: Gap | None

    @property
    def end(self) -> int:
        return self.seq + self.n_samples


@dataclass(frozen=True, slots=True)
class Leftovers:
    """The files of one device's journal in one recording."""

    folder: Path
    files: tuple[Path, ...]
    headers: Mapping[Path, JournalHeader]  # of the files whose header is whole
    entries: Mapping[int, list[Stored]] = field(default_factory=dict)  # by stream number
    rows: Mapping[int, Coverage] = field(default_factory=dict)  # stream number → rows
    holes: tuple[Hole, ...] = ()
    unread: tuple[Path, ...] = ()  # files that hold entries, perhaps, of which none can be trusted

    @property
    def n_entries(self) -> int:
        return sum(map(len, self.entries.values()))

    @property
    def streams(self) -> Mapping[int, StreamInfo]:
        return next(iter(self.headers.values())).streams if self.headers else {}

    @property
    def identity(self) -> Identity | None:
        """As the latest lap says it."""
        header = max(self.headers.values(), key=lambda found: found.lap, default=None)
        return None if header is None else header.identity

    def first(self, number: int) -> tuple[int, int] | None:
        """Lowest (incarnation, seq) of a stream, None if there is no entry of it."""
        found = self.entries.get(number, ())
        return min(((each.incarnation, each.seq) for each in found), default=None)


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


def read_leftovers(folder: Path, disk: Disk, keyring: Keyring | None = None) -> Leftovers:
    """Headers of all files and which rows they hold; keeps no rows in memory.

    With a `keyring` what is sealed must open (SecurityError `no_key` if a key is not there), and an
    entry that does not is none; without one it is counted, and its rows cannot be had.

    A file whose header is damaged is read with the description of another one: its file id proves
    each entry by the CRC. One that has one id at most and no whole entry of it was cut off while the lap
    began, before anything in it was durable: what else is there is of earlier laps, and in segments.
    """
    files = tuple(journal_files(folder, disk))
    headers: dict[Path, JournalHeader] = {}
    for path in files:
        try:
            headers[path] = read_journal_header(path, disk)
        except JournalDamaged:
            continue
    known = sorted(headers.items(), key=lambda item: item[1].lap)
    laps = [Lap(path, header, _seal(header, keyring)) for path, header in known]
    doubtful = [path for path in files if path not in headers and holds_entries(path, disk)]
    never_begun: set[Path] = set()
    if known:
        for path in doubtful:
            possible = list(_possible_laps(path, known[-1][1], disk, keyring))
            laps += possible
            if len(possible) < 2:
                never_begun.add(path)  # unless an entry proves that one id
    entries: dict[int, list[Stored]] = {}
    rows: dict[int, dict[int, Ranges]] = {}
    holes: list[Hole] = []
    read: set[Path] = set()
    for lap in laps:
        found: list[tuple[int, int]] = []
        for offset, size, entry in scan_entries(
            lap.path, lap.header, disk, holes=found, seal=lap.seal
        ):
            read.add(lap.path)
            entries.setdefault(entry.stream, []).append(_stored(lap, offset, size, entry))
            held = rows.setdefault(entry.stream, {}).setdefault(entry.incarnation, Ranges())
            held.add(entry.seq, entry.end)
        holes += [Hole(lap.path, first, end) for first, end in found]
    unread = tuple(path for path in doubtful if path not in read | never_begun)
    return Leftovers(folder, files, headers, entries, rows, tuple(holes), unread)


def _seal(header: JournalHeader, keyring: Keyring | None) -> FileSeal | None:
    if keyring is None or not header.key_id:
        return None
    key = keyring.key(header.log_id, bytes.fromhex(header.key_id))
    return key.file(header.file_id, JOURNAL)


def _possible_laps(
    path: Path, other: JournalHeader, disk: Disk, keyring: Keyring | None
) -> Iterator[Lap]:
    fd = disk.open(path, "read")
    try:
        ids = possible_ids(disk.pread(fd, other.header_bytes, 0), other.header_bytes)
    finally:
        disk.close(fd)
    for file_id in sorted(ids):
        header = replace(other, file_id=file_id)
        yield Lap(path, header, _seal(header, keyring))


def _stored(lap: Lap, offset: int, size: int, entry: Entry) -> Stored:
    return Stored(
        lap, offset, size, 0, entry.incarnation, entry.seq, entry.t_first_ns,
        entry.n_samples, entry.flags, entry.gap,
    )  # fmt: skip


class _Rows:
    """Reads what is stored, once more with its proof."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._open: dict[Path, int] = {}

    def close(self) -> None:
        while self._open:
            self._disk.close(self._open.popitem()[1])

    def packed(self, part: Stored, info: StreamInfo) -> bytes | memoryview:
        header, seal = part.lap.header, part.lap.seal
        fd = self._open.get(part.lap.path)
        if fd is None:
            fd = self._open[part.lap.path] = self._disk.open(part.lap.path, "read")
        data = memoryview(self._disk.pread(fd, part.size, part.offset))
        seed = crc32c(header.file_id)
        entry = unpack_entry(
            data, 0, seed=seed, streams=header.streams, base=part.offset, seal=seal
        )
        if entry is None:
            raise StorageError(
                "journal_changed",
                f"an entry of {part.lap.path} cannot be read again",
                why=f"its bytes from {part.offset} on are not those that were read before",
                remedy="Recovery is tried again; if this repeats, check the disk",
                transient=True,
            )
        at = part.skip * info.row_bytes
        return memoryview(entry.payload)[at : at + part.n_samples * info.row_bytes]


def uncovered_rows(state: Leftovers, number: int, covered: Coverage) -> int:
    """How many rows of a stream no segment holds."""
    parts = _uncovered(state, number, covered)
    return sum(part.n_samples for part in parts)


def uncovered_pieces(
    state: Leftovers, number: int, covered: Coverage, disk: Disk
) -> Iterator[Piece]:
    """Rows of a stream that no segment holds, cut as the archive would have cut them, in order of seq."""
    info = state.streams[number]
    run: list[Stored] = []
    before: dict[int, int] = {}  # incarnation → end of the leftovers that were cut
    with ExitStack() as stack:
        rows = _Rows(disk)
        stack.callback(rows.close)
        for part in _uncovered(state, number, covered):
            if run and (
                part.incarnation != run[-1].incarnation
                or part.seq != run[-1].end
                or part.flags & STARTS
            ):
                yield from _cut(run, number, info, covered, before, rows)
                before[run[-1].incarnation] = run[-1].end
                run = []
            run.append(part)
        if run:
            yield from _cut(run, number, info, covered, before, rows)


def _uncovered(state: Leftovers, number: int, covered: Coverage) -> Iterator[Stored]:
    """In order of seq, each row once."""
    info = state.streams[number]
    parts = [
        _part(entry, first, end, info)
        for entry in state.entries.get(number, ())
        for first, end in covered.get(entry.incarnation, Ranges()).missing(entry.seq, entry.end)
    ]
    parts.sort(key=lambda part: (part.incarnation, part.seq, -part.n_samples))
    return _without_repeats(parts, info)


def _part(entry: Stored, first: int, end: int, info: StreamInfo) -> Stored:
    skip = first - entry.seq
    if not skip:
        return entry if end == entry.end else entry._replace(n_samples=end - first)
    return entry._replace(
        skip=entry.skip + skip,
        seq=first,
        t_first_ns=time_of(entry.t_first_ns, skip, info.sfreq),
        n_samples=end - first,
        flags=entry.flags & ~STARTS,
        gap=None,
    )


def _without_repeats(parts: list[Stored], info: StreamInfo) -> Iterator[Stored]:
    """Rows that were written again after an error count once."""
    done: tuple[int, int] | None = None
    for part in parts:
        if done is not None and done[0] == part.incarnation and part.seq < done[1]:
            if part.end <= done[1]:
                continue
            yield _part(part, done[1], part.end, info)
        else:
            yield part
        done = (part.incarnation, part.end)


def _cut(
    run: list[Stored],
    number: int,
    info: StreamInfo,
    covered: Coverage,
    done: Mapping[int, int],
    rows: _Rows,
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
            parts.append(rows.packed(part, info))
            others |= part.flags & ~STARTS
            k += 1
        yield Piece(number, head.incarnation, first, t_first, flags | others, gap, b"".join(parts))
        gap, flags = None, BlockFlag(0)
