"""Adds to a recording's chain the segments that grow no more. Runs in: agent process, thread `keep`; nobody else writes it.

Killed anywhere it goes on where it stopped: behind the last line that is whole, with the first segment
that has none, streams by name and segments in their order.
"""

from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec

from brainforge_edge.recorder.catalog import RecordingEntry, read_recording
from brainforge_edge.recorder.chain import (
    CHAIN_FILE,
    NO_HEAD,
    ChainEntry,
    head_after,
    read_lines,
)
from brainforge_edge.recorder.digest import Rest, contents, file_digest, no_rest
from brainforge_edge.recorder.tail import was_closed
from brainforge_edge.storage.files import Disk
from brainforge_edge.storage.lines import append_line, settle

Name = tuple[str, str]  # stream id, file


def extend_chain(folder: Path, disk: Disk, rest: Rest = no_rest) -> Iterator[ChainEntry]:
    """Each segment that is added, once its line is on the disk; the caller may stop between two."""
    entries = read_lines(folder / CHAIN_FILE, disk, ChainEntry)
    recording = read_recording(folder, disk)
    missing = unchained(recording, {(entry.stream_id, entry.segment) for entry in entries}, disk)
    if not missing:
        return
    settle(folder / CHAIN_FILE, disk)
    head = entries[-1].head if entries else NO_HEAD
    for path in missing:
        entry = _entry(path, head, disk, rest)
        append_line(folder / CHAIN_FILE, msgspec.json.encode(entry), disk)
        head = entry.head
        yield entry


def unchained(recording: RecordingEntry, known: Collection[Name], disk: Disk) -> list[Path]:
    """Segments that grow no more and are not among the known ones.

    All of a closed recording; of another one those that were cut to their content, with another file
    behind them: recovery leaves these as they are.
    """
    return [
        path
        for stream_id, paths in sorted(recording.streams.items())
        for path in paths
        if (stream_id, path.name) not in known
        and (recording.is_closed or (path is not paths[-1] and was_closed(path, disk)))
    ]


def _entry(path: Path, head: bytes, disk: Disk, rest: Rest) -> ChainEntry:
    found = contents(path, disk)
    size, sha256 = file_digest(path, disk, rest)
    return ChainEntry(
        stream_id=path.parent.name,
        segment=path.name,
        segment_id=found.segment_id,
        product=found.product,
        chunks=found.chunks,
        size=size,
        sha256=sha256,
        head=head_after(head, segment_id=found.segment_id, size=size, sha256=sha256),
    )
