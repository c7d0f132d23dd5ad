"""Rows that have left the ring, read back from the journal: they stay there until they are archived.

Runs in: acquire process, archive thread of a recording.
"""

from collections.abc import Iterator
from pathlib import Path

from brainforge_edge.core.block import BlockFlag, Gap, GapBasis, GapCause
from brainforge_edge.core.stream import StreamInfo, chunk_samples
from brainforge_edge.recorder.cut import STARTS, grid_pieces, time_of
from brainforge_edge.recorder.entry import Entry, JournalDamaged
from brainforge_edge.recorder.journalfile import read_journal
from brainforge_edge.security.seal import DataKey
from brainforge_edge.storage.files import Disk

Key = tuple[int, int]  # (incarnation, seq) of the row that comes next at the earliest


def pieces(
    paths: list[Path],
    number: int,
    info: StreamInfo,
    *,
    after: Key | None,
    disk: Disk,
    key: DataKey | None = None,
) -> Iterator[tuple[Entry, int]]:
    """Rows of a stream from `after` on as parts of chunks: none crosses a grid line, gap or FIRST.

    With each: how many rows before it were in the journal and cannot be read any more.
    """
    step = chunk_samples(info)
    run: list[Entry] = []
    lost = 0
    for entry, missing in _entries(paths, number, info, after, disk, key):
        if run and (missing or entry.seq != run[-1].end or entry.flags & STARTS):
            yield _joined(run), lost
            run, lost = [], 0
        if missing:
            lost = missing
        for first, n in grid_pieces(entry.seq, entry.n_samples, step):
            run.append(_part(entry, first, first + n, info))
            if (first + n) % step == 0:
                yield _joined(run), lost
                run, lost = [], 0
    if run:
        yield _joined(run), lost


def _entries(
    paths: list[Path],
    number: int,
    info: StreamInfo,
    after: Key | None,
    disk: Disk,
    data_key: DataKey | None,
) -> Iterator[tuple[Entry, int]]:
    """Each row once and in order; what an I/O error made the recorder write again counts once."""
    key = after
    for path in paths:
        try:
            for entry in read_journal(path, disk, key=data_key):
                if entry.stream != number or (
                    key is not None and (entry.incarnation, entry.end) <= key
                ):
                    continue
                fresh, missing = _following(entry, key, info)
                yield fresh, missing
                key = (entry.incarnation, entry.end)
        except JournalDamaged:
            continue  # a lap that was begun and never written


def _following(entry: Entry, key: Key | None, info: StreamInfo) -> tuple[Entry, int]:
    """What of `entry` is not before `key`, and the rows between that have no reason to be missing."""
    if key is None or key[0] != entry.incarnation or entry.seq == key[1]:
        return entry, 0
    if entry.seq < key[1]:
        return _part(entry, key[1], entry.end, info), 0
    if entry.gap is not None:
        return entry, 0
    gap = Gap(entry.seq - key[1], 0, GapBasis.DEVICE_INDEX, GapCause.BOX)
    return entry._replace(gap=gap, flags=entry.flags | BlockFlag.GAP_BEFORE), gap.n


def _part(entry: Entry, first: int, end: int, info: StreamInfo) -> Entry:
    skip = first - entry.seq
    at = skip * info.row_bytes
    return entry._replace(
        seq=first,
        t_first_ns=time_of(entry.t_first_ns, skip, info.sfreq),
        n_samples=end - first,
        flags=entry.flags & ~STARTS if skip else entry.flags,
        gap=None if skip else entry.gap,
        payload=entry.payload[at : at + (end - first) * info.row_bytes],
    )


def _joined(run: list[Entry]) -> Entry:
    flags = run[0].flags
    for entry in run[1:]:
        flags |= entry.flags & ~STARTS
    return run[0]._replace(
        n_samples=sum(entry.n_samples for entry in run),
        flags=flags,
        payload=b"".join(entry.payload for entry in run),
    )
