"""A stream of a closed recording as rows on one time line. Runs in: `brainforge-edge export`.

Files for analysis need a sample at every instant. Where rows are missing the line holds the last row
before the gap, and a `Skip` says from where to where; exports turn it into BAD_ACQ_SKIP.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cbor2
import numpy as np
from numpy.typing import NDArray

from brainforge_edge.codec import registry
from brainforge_edge.core.errors import SecurityError, SessionError, StorageError
from brainforge_edge.core.stream import Codec, Dtype, StreamInfo
from brainforge_edge.recorder.catalog import RecordingEntry, read_recording, stream_descriptor
from brainforge_edge.recorder.chunk import ERASED, NO_KEY, Chunk, Opener, unsealed
from brainforge_edge.recorder.identity import Identity
from brainforge_edge.recorder.labels import Labels
from brainforge_edge.recorder.reader import Damage, Whole, iter_chunks, scan
from brainforge_edge.recorder.segment import Descriptor
from brainforge_edge.security.agreement import HeldKeyUnusable
from brainforge_edge.storage.files import Disk

MAX_SKIP_S = 24 * 3600.0
_ERASED = "erased"
_Note = tuple[int, float, str]  # t_ns, duration_s, description


@dataclass(frozen=True, slots=True)
class Marker:
    """A remark at a row of the line."""

    t_ns: int  # box time
    row: float
    duration_s: float
    description: str


@dataclass(frozen=True, slots=True)
class Skip:
    """`n` rows from `row` on are filled, not recorded."""

    row: int
    n: int


@dataclass(frozen=True, slots=True)
class Run:
    """Rows of one chunk at their place on the line."""

    row: int
    incarnation: int
    seq: int
    t_first_ns: int
    data: NDArray[Any]  # (n_samples, n_channels), raw


@dataclass(frozen=True, slots=True)
class _Placed:
    path: Path
    offset: int
    row: int
    skip: int  # rows of the chunk that an earlier one has already
    incarnation: int
    seq: int
    end: int
    t_first_ns: int
    t_first_utc_ns: int | None
    boot: str


@dataclass(frozen=True, slots=True)
class StreamRows:
    """Index of a stream; rows are decoded when asked for."""

    info: StreamInfo
    identity: Identity
    placed: tuple[_Placed, ...]
    skips: tuple[Skip, ...]
    markers: tuple[Marker, ...]
    n_rows: int  # length of the line, filled rows included
    n_damaged: int  # places in segments that could not be read
    disk: Disk
    opened: Opener

    @property
    def utc_ns(self) -> int | None:
        """UTC of the first row, None if the box did not learn it in that boot."""
        return self.placed[0].t_first_utc_ns

    def runs(self) -> Iterator[Run]:
        """Rows as recorded, chunk by chunk."""
        for item in self.placed:
            whole = next(iter(scan(item.path, item.offset, disk=self.disk)))
            assert isinstance(whole, Whole)
            rows = _decode(self.opened(whole.chunk()))[item.skip :]
            yield Run(item.row, item.incarnation, item.seq, item.t_first_ns, rows)

    def line(self) -> NDArray[Any]:
        """All rows (n_rows, n_channels) in the memory type, gaps filled with the row before them."""
        line = np.empty((self.n_rows, self.info.n_channels), self.info.dtype.memory)
        filled = 0
        for run in self.runs():
            if run.row > filled:
                line[filled : run.row] = line[filled - 1]
            filled = run.row + len(run.data)
            line[run.row : filled] = run.data
        return line


def sample_streams(entry: RecordingEntry, disk: Disk) -> list[str]:
    """Streams of a recording that hold samples; SessionError if it is not closed, StorageError if it has none."""
    if not entry.is_closed:
        raise SessionError(
            "not_closed",
            f"recording {entry.name} cannot be exported yet",
            why="it is being recorded, or it was cut off and not recovered",
            remedy="Stop it with brainforge-edge stop, or run brainforge-edge repair on it",
        )
    streams = sorted(set(entry.streams) - set(_marker_streams(entry, disk)))
    if not streams:
        raise _empty(entry.name)
    return streams


def is_raw(entry: RecordingEntry, name: str, disk: Disk) -> bool:
    """Whether a stream holds a device's own bytes: exported only where it is named."""
    descriptor = stream_descriptor(entry.streams[name], disk)
    return descriptor is not None and descriptor.info.is_raw


def _marker_streams(entry: RecordingEntry, disk: Disk) -> list[str]:
    """Streams of the node that have no channels: the agent's markers."""
    described = {name: stream_descriptor(paths, disk) for name, paths in entry.streams.items()}
    return [name for name, d in described.items() if d is not None and not d.info.channels]


def read_parts(
    folder: Path, stream_id: str, disk: Disk, *, opened: Opener = unsealed
) -> list[StreamRows]:
    """Index one stream of a closed recording; StorageError in one sentence if it cannot be exported,
    SecurityError if `opened` cannot open what is sealed in it.

    One part, but where the stream was described anew meanwhile (a calibration), or its device given to
    another participant: then one for each, so that rows keep the scale and the name they came with.
    """
    entry = read_recording(folder, disk)
    exportable = sample_streams(entry, disk)
    if stream_id not in exportable:
        raise StorageError(
            "no_stream",
            f"recording {entry.name} has no stream {stream_id!r} with samples",
            why=f"those that have are {', '.join(sorted(exportable)) or 'none'}",
            remedy="Name one of them",
        )
    damaged: list[Damage] = []
    notes: list[_Note] = []
    parts: list[tuple[Descriptor, list[_Placed]]] = []
    for descriptor, paths in _described(entry.streams[stream_id], disk):
        found, own = _index(tuple(paths), damaged, disk, opened)
        notes += own
        if found:
            parts.append((descriptor, found))
    if not parts:
        if not list(_described(entry.streams[stream_id], disk)):
            raise StorageError(
                "no_descriptor",
                f"stream {stream_id} of {entry.name} cannot be exported",
                why="no segment of it has a whole descriptor, so channels and scales are unknown",
                remedy="Fetch the recording from the aggregator",
            )
        if any(damage.reason == _ERASED for damage in damaged):
            raise SecurityError(
                "erased",
                f"stream {stream_id} of {entry.name} was not exported",
                why="its data keys were erased",
                remedy="Nothing can open it any more",
            )
        raise _empty(f"{entry.name}, stream {stream_id}")
    parts = _labelled(parts, Labels.of(entry, disk))
    for name in _marker_streams(entry, disk):
        notes += _index(entry.streams[name], damaged, disk, opened)[1]
    begins = [found[0].t_first_ns for _, found in parts]
    ends = [*begins[1:], None]
    begins[0] = min([begins[0], *(note[0] for note in notes)])
    return [
        _rows(descriptor, found, _within(notes, begin, end), len(damaged), disk, opened)
        for (descriptor, found), begin, end in zip(parts, begins, ends, strict=True)
    ]


def _labelled(
    parts: list[tuple[Descriptor, list[_Placed]]], labels: Labels
) -> list[tuple[Descriptor, list[_Placed]]]:
    """Chunks that were made before the box knew UTC get it from what it knew later in the same boot."""
    chunks = [item for _, found in parts for item in found]
    if all(item.t_first_utc_ns is not None for item in chunks):
        return parts
    for item in chunks:
        labels.add(item.boot, item.t_first_ns, item.t_first_utc_ns)
    return [
        (descriptor, [_with_utc(item, labels) for item in found]) for descriptor, found in parts
    ]


def _with_utc(item: _Placed, labels: Labels) -> _Placed:
    if item.t_first_utc_ns is not None:
        return item
    return replace(item, t_first_utc_ns=labels.utc_of(item.boot, item.t_first_ns))


def _described(segments: tuple[Path, ...], disk: Disk) -> Iterator[tuple[Descriptor, list[Path]]]:
    """Segments by what they say of their stream and whose it is; one whose descriptor is damaged goes
    with the one before."""
    paths: list[Path] = []
    known: Descriptor | None = None
    for path in segments:
        said = stream_descriptor((path,), disk)
        if said is not None and known is not None and _matter(said) != _matter(known):
            yield known, paths
            paths = []
        known = said or known
        paths.append(path)
    if known is not None:
        yield known, paths


def _matter(descriptor: Descriptor) -> tuple[StreamInfo, str]:
    return descriptor.info, descriptor.identity.participant


def _within(notes: list[_Note], begin: int, end: int | None) -> list[_Note]:
    return [note for note in notes if begin <= note[0] and (end is None or note[0] < end)]


def _rows(
    descriptor: Descriptor,
    found: list[_Placed],
    notes: list[_Note],
    n_damaged: int,
    disk: Disk,
    opened: Opener,
) -> StreamRows:
    placed, skips, n_rows = _placed(found, descriptor.info.sfreq)
    markers = _markers(notes, placed, descriptor.info.sfreq)
    return StreamRows(
        descriptor.info,
        descriptor.identity,
        tuple(placed),
        tuple(skips),
        tuple(markers),
        n_rows,
        n_damaged,
        disk,
        opened,
    )


def _empty(name: str) -> StorageError:
    return StorageError(
        "empty",
        f"there is nothing to export in {name}",
        why="no rows were recorded in it",
        remedy="Choose another recording; brainforge-edge verify shows what each holds",
    )


def _index(
    segments: tuple[Path, ...], damaged: list[Damage], disk: Disk, opened: Opener
) -> tuple[list[_Placed], list[_Note]]:
    found: list[_Placed] = []
    notes: list[_Note] = []
    for path in segments:
        boot = ""
        for whole in iter_chunks(path, damaged=damaged, disk=disk):
            head = whole.head
            if head.codec == Codec.DESCRIPTOR:
                descriptor = stream_descriptor((path,), disk)
                boot = "" if descriptor is None else descriptor.identity.boot_id
            elif head.codec == Codec.MARKERS:
                try:
                    notes += [_noted(*said) for said in cbor2.loads(opened(whole.chunk()).body)]
                except SecurityError as error:
                    damaged.append(_unopened(error, whole))
                except (cbor2.CBORDecodeError, TypeError, ValueError, OverflowError):
                    damaged.append(Damage(whole.offset, whole.end, "markers", head))
            elif head.n_samples:
                damage = _damage(whole, opened)
                if damage is not None:
                    damaged.append(damage)
                    continue
                found.append(
                    _Placed(
                        path,
                        whole.offset,
                        0,
                        0,
                        head.incarnation,
                        head.seq,
                        head.end,
                        head.t_first_ns,
                        head.t_first_utc_ns,
                        boot,
                    )
                )
            else:
                damaged.append(Damage(whole.offset, whole.end, "undecodable", head))
    found.sort(key=lambda item: (item.incarnation, item.seq, -item.end))
    return found, notes


def _noted(t_ns: int, duration_s: float, text: str) -> _Note:
    """ValueError for what is no time that a box can have."""
    if not (abs(int(t_ns)) < 2**63 and 0 <= float(duration_s) < 2**31):
        raise ValueError("no time")
    return int(t_ns), float(duration_s), str(text)


def _placed(found: list[_Placed], sfreq: float) -> tuple[list[_Placed], list[Skip], int]:
    """Chunks on one line; rows that lie in two chunks are taken from the first."""
    placed: list[_Placed] = []
    skips: list[Skip] = []
    row = 0
    for item in found:
        overlap, absent = 0, 0
        if placed and placed[-1].incarnation == item.incarnation:
            overlap = max(0, placed[-1].end - item.seq)
            absent = max(0, item.seq - placed[-1].end)
        elif placed:
            absent = _rows_between(placed[-1], item, sfreq)
        if overlap >= item.end - item.seq:
            continue
        if absent > MAX_SKIP_S * sfreq:
            raise StorageError(
                "gap_too_long",
                f"the rows of {item.path.parent.name} do not fit on one time line",
                why=f"{absent / sfreq / 3600:.0f} h are missing before row {item.seq}",
                remedy="Export it as csv, which writes no rows for gaps",
            )
        if absent:
            skips.append(Skip(row, absent))
            row += absent
        t_first_ns = item.t_first_ns + round(overlap * 1e9 / sfreq)
        placed.append(
            replace(item, row=row, skip=overlap, seq=item.seq + overlap, t_first_ns=t_first_ns)
        )
        row += item.end - item.seq - overlap
    return placed, skips, row


def _rows_between(one: _Placed, two: _Placed, sfreq: float) -> int:
    """Rows of pause between two incarnations: by the box clock in one boot, else by UTC, else none."""
    if one.boot == two.boot:
        pause_ns = two.t_first_ns - one.t_first_ns
    elif one.t_first_utc_ns is not None and two.t_first_utc_ns is not None:
        pause_ns = two.t_first_utc_ns - one.t_first_utc_ns
    else:
        return 0
    return max(0, round(pause_ns * sfreq / 1e9) - (one.end - one.seq))


def _markers(notes: list[_Note], placed: list[_Placed], sfreq: float) -> Iterator[Marker]:
    for t_ns, duration, text in sorted(notes):
        before = [item for item in placed if item.t_first_ns <= t_ns] or placed[:1]
        row = before[-1].row + (t_ns - before[-1].t_first_ns) * sfreq / 1e9
        yield Marker(t_ns, max(0.0, row), duration, text)


def _damage(whole: Whole, opened: Opener) -> Damage | None:
    """None if its rows come out as they went in; a chunk where they do not costs itself alone."""
    try:
        _decode(opened(whole.chunk()))
    except (StorageError, ValueError):
        return Damage(whole.offset, whole.end, "undecodable", whole.head)
    except SecurityError as error:
        return _unopened(error, whole)
    return None


def _unopened(error: SecurityError, whole: Whole) -> Damage:
    """One that was tampered with or erased is damage; a key that is missing or cannot be used ends the export."""
    if error.code == NO_KEY or isinstance(error, HeldKeyUnusable):
        raise error
    if error.code == ERASED:
        return Damage(whole.offset, whole.end, _ERASED, whole.head)
    return Damage(whole.offset, whole.end, "tampered", whole.head)


def _decode(chunk: Chunk) -> NDArray[Any]:
    return registry.decode(
        chunk.codec, chunk.body, Dtype(chunk.dtype), chunk.n_samples, chunk.n_channels
    )
