"""After a crash: journal leftovers become chunks, torn tails are cut, journals removed.

Runs in: acquire process, main thread, before its device is opened; `brainforge-edge repair`.

Order of the work on one recording, each step safe to be killed in and to be done again:
 1. rows of the journal that no whole chunk of any segment holds go into new, synced segments
    (a recovered file is never appended to). Chunks behind a hole that a power cut left
    among unsynced ones do not count: the journal still has their rows;
 2. torn tails of the others are cut, from such a hole on, and what is left is synced;
 3. only then the journal files are removed, then their folder.
A second run finds what the first one wrote as covered rows, and a segment that the first one left
unfinished as one with a torn tail.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from brainforge_edge.core.stream import Codec, StreamInfo
from brainforge_edge.recorder.catalog import JOURNAL_SUFFIX
from brainforge_edge.recorder.chunk import Chunk, ChunkFlag
from brainforge_edge.recorder.cut import Encode, make_chunk
from brainforge_edge.recorder.erasure import drop_erased
from brainforge_edge.recorder.identity import Identity
from brainforge_edge.recorder.keyring import Keyring, in_folders
from brainforge_edge.recorder.leftovers import (
    Coverage,
    Hole,
    Leftovers,
    Piece,
    read_leftovers,
    uncovered_pieces,
)
from brainforge_edge.recorder.ranges import Ranges
from brainforge_edge.recorder.reader import Located, Survey, survey
from brainforge_edge.recorder.segment import SegmentWriter, next_ordinal, segment_files
from brainforge_edge.recorder.tail import Cut, cut_tails, torn_from, was_closed
from brainforge_edge.security.keystore import NO_KEYS, KeyStore
from brainforge_edge.storage.files import Disk

DAMAGED_PREFIX = "damaged-"
SEGMENT_BYTES = 32 * 1024 * 1024
SYNC_BYTES = (
    4 * 1024 * 1024
)  # a sync waits for the disk, and the journal is there until all is done


@dataclass(frozen=True, slots=True)
class _Tools:
    encode: Encode
    disk: Disk
    random: Callable[[int], bytes]
    segment_bytes: int
    private: KeyStore


@dataclass(slots=True)
class RecoveryReport:
    """What a recovery did."""

    recordings: list[str] = field(default_factory=list)
    entries: int = 0  # whole entries found in journals
    rows: dict[str, int] = field(default_factory=dict)  # stream id → rows made into chunks
    chunks: int = 0
    cut: list[Cut] = field(default_factory=list)
    damaged_headers: list[Path] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)  # journal files that nothing can read, set aside
    holes: list[Hole] = field(default_factory=list)  # damage between the entries of journal files
    written: list[Path] = field(default_factory=list)  # new segments
    held: dict[str, dict[int, Ranges]] = field(default_factory=dict)  # stream id → rows in chunks
    erased: list[Path] = field(default_factory=list)  # journal files whose key was erased: removed


def recover_device(
    recordings: Path,
    device: str,
    *,
    encode: Encode,
    disk: Disk,
    random: Callable[[int], bytes],
    segment_bytes: int = SEGMENT_BYTES,
    private: KeyStore = NO_KEYS,
    report: RecoveryReport | None = None,
) -> RecoveryReport:
    """Recover what `device` left in every recording; StorageError leaves the journal for the next try,
    and so does SecurityError, if it is sealed and `private` does not open it.

    Takes time for the segments since the journal's first row only; of the others the length is looked at.
    A `report` given is added to, so that what was done before an error is known to the next try.
    """
    report = report or RecoveryReport()
    tools = _Tools(encode, disk, random, segment_bytes, private)
    for name in disk.names(recordings):
        folder = recordings / name / f"{device}{JOURNAL_SUFFIX}"
        if folder.is_dir():
            report.recordings.append(name)
            _recover(folder, report, tools)
    return report


def repair_recording(
    recording: Path,
    *,
    encode: Encode,
    disk: Disk,
    random: Callable[[int], bytes],
    segment_bytes: int = SEGMENT_BYTES,
    private: KeyStore = NO_KEYS,
) -> RecoveryReport:
    """The same for all devices of one recording that nobody records to, and cut every torn tail in it."""
    report = RecoveryReport([recording.name])
    tools = _Tools(encode, disk, random, segment_bytes, private)
    for name in disk.names(recording):
        if name.endswith(JOURNAL_SUFFIX):
            _recover(recording / name, report, tools)
    for name in disk.names(recording):
        if (recording / name).is_dir() and not name.endswith(JOURNAL_SUFFIX):
            report.cut += cut_tails(recording / name, disk, held=None, is_thorough=True)
    return report


def stream_coverage(
    folder: Path,
    disk: Disk,
    *,
    since: tuple[int, int] | None = None,
    journal: Coverage | None = None,
    surveys: dict[Path, Survey] | None = None,
) -> dict[int, Ranges]:
    """Rows in whole chunks of a stream's segments, by incarnation; with `since`, from the last
    segment back to the first one that begins at or before that (incarnation, seq). Chunks that
    recovery will cut off, since `journal` holds their rows, do not count. What was read goes into
    `surveys`."""
    covered: dict[int, Ranges] = {}
    for path in reversed(segment_files(folder, disk)):
        first: tuple[int, int] | None = None
        segment = survey(path, disk=disk)
        if surveys is not None:
            surveys[path] = segment
        torn = torn_from(segment, journal) if journal and not was_closed(path, disk) else None
        for piece in segment.pieces:
            if torn is not None and piece.offset >= torn:
                break
            if isinstance(piece, Located) and piece.head.codec < Codec.DESCRIPTOR:
                head = piece.head
                covered.setdefault(head.incarnation, Ranges()).add(head.seq, head.end)
                first = first or (head.incarnation, head.seq)
        if since is not None and first is not None and first <= since:
            break
    return covered


def _recover(folder: Path, report: RecoveryReport, tools: _Tools) -> None:
    disk = tools.disk
    find = in_folders([folder.parent], disk)
    dropped, cut = drop_erased(folder, find, disk)
    report.erased += dropped
    report.cut += cut
    keyring = Keyring(tools.private, find)
    state = read_leftovers(folder, disk, keyring)
    report.entries += state.n_entries
    report.holes += state.holes
    report.damaged_headers += [path for path in state.files if path not in state.headers]
    for number, info in state.streams.items():
        stream_folder = folder.parent / info.stream_id
        since = state.first(number)
        rows = state.rows.get(number, {})
        surveys: dict[Path, Survey] = {}
        held: dict[int, Ranges] = {}
        if since is not None:
            held = stream_coverage(stream_folder, disk, since=since, journal=rows, surveys=surveys)
            _write(state, number, held, report, tools, keyring)
            report.held.setdefault(info.stream_id, {}).update(held)
        report.cut += cut_tails(stream_folder, disk, held=held, journal=rows, surveys=surveys)
    for path in state.files:
        if path in state.unread:
            kept = folder.parent / f"{DAMAGED_PREFIX}{folder.stem}-{path.name}"
            disk.rename(path, kept)  # nothing can read it now, but it may hold rows
            report.kept.append(kept)
        else:
            disk.unlink(path)
    disk.fsync_folder(folder)
    if not disk.names(folder):
        disk.remove_folder(folder)


def _write(
    state: Leftovers,
    number: int,
    held: dict[int, Ranges],
    report: RecoveryReport,
    tools: _Tools,
    keyring: Keyring,
) -> None:
    """Chunks of the rows that are not `held`, sealed as the journal was; what is written is held, afterwards."""
    info = state.streams[number]
    folder = state.folder.parent / info.stream_id
    identity = state.identity or _bare_identity(state)
    key = None
    if identity.key_id:
        key = keyring.key(identity.log_id, bytes.fromhex(identity.key_id))
    writer: SegmentWriter | None = None
    written: list[tuple[int, int, int]] = []
    try:
        for piece in uncovered_pieces(state, number, held, tools.disk):
            if writer is not None and writer.is_full:
                writer.close()
                writer = None
            if writer is None:
                writer = SegmentWriter.create(
                    folder,
                    next_ordinal(folder, tools.disk),
                    info=info,
                    number=number,
                    identity=identity,
                    size=tools.segment_bytes,
                    disk=tools.disk,
                    random=tools.random,
                    key=key,
                )
                report.written.append(writer.path)
            writer.append(_chunk(piece, info, identity, tools.encode))
            if writer.end - writer.synced >= SYNC_BYTES:
                writer.sync()
            n_rows = len(piece.packed) // info.row_bytes
            written.append((piece.incarnation, piece.seq, piece.seq + n_rows))
            report.rows[info.stream_id] = report.rows.get(info.stream_id, 0) + n_rows
            report.chunks += 1
    finally:
        if writer is not None:
            writer.close()
    for incarnation, first, end in written:
        held.setdefault(incarnation, Ranges()).add(first, end)


def _chunk(piece: Piece, info: StreamInfo, identity: Identity, encode: Encode) -> Chunk:
    return make_chunk(
        piece.packed,
        info=info,
        number=piece.number,
        identity=identity,
        incarnation=piece.incarnation,
        seq=piece.seq,
        t_first_ns=piece.t_first_ns,
        flags=piece.flags,
        gap=piece.gap,
        encode=encode,
        extra=ChunkFlag.RECOVERED,
    )


def _bare_identity(state: Leftovers) -> Identity:
    header = next(iter(state.headers.values()))
    return Identity(recording=state.folder.parent.name, node="", log_id=header.log_id)
