"""What of a recording goes into files, whatever their format. Runs in: `brainforge-edge export`."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from brainforge_edge.core.errors import BrainforgeError, SecurityError
from brainforge_edge.export.elsewhere import gone_from, in_words, refusal
from brainforge_edge.export.recording import StreamRows, is_raw, read_parts, sample_streams
from brainforge_edge.export.stim import SUFFIX, goes_with, is_trigger
from brainforge_edge.recorder.catalog import read_recording
from brainforge_edge.recorder.chunk import ERASED, Opener, unsealed
from brainforge_edge.storage.files import Disk


class Part(NamedTuple):
    """Rows for one file."""

    stream_id: str
    number: int  # of the part in its stream, from 1
    rows: StreamRows
    words: StreamRows | None  # trigger words of the same rows


class Streams(NamedTuple):
    recording: str
    parts: list[Part]
    left_out: list[BrainforgeError]  # streams that were erased
    elsewhere: list[str]  # rows that were freed here, for each stream in words


def read_streams(
    folder: Path,
    disk: Disk,
    *,
    stream_id: str | None = None,
    opened: Opener = unsealed,
    is_partial: bool = False,
    has_words: bool = False,
) -> Streams:
    """Index each stream of samples of a closed recording, or any one.

    With `has_words`, trigger words go with the samples that they came with. StorageError for a
    recording that is open or empty; of one of which segments were freed it is `rows_elsewhere`, unless
    `is_partial`: then these are gaps.
    """
    entry = read_recording(folder, disk)
    gone = gone_from(folder, stream_id, disk)
    is_all = not any(
        name in entry.streams for name in ([stream_id] if stream_id is not None else entry.streams)
    )
    if gone and (is_all or not is_partial):
        raise refusal(entry.name, gone, is_all=is_all)
    names = sample_streams(entry, disk)
    wanted = [stream_id] if stream_id is not None else []
    if stream_id is None:
        wanted = [name for name in names if not is_raw(entry, name, disk)]
    left_out: list[BrainforgeError] = []

    def read(name: str) -> list[StreamRows]:
        try:
            return read_parts(folder, name, disk, opened=opened)
        except SecurityError as error:
            if error.code != ERASED:
                raise
            left_out.append(error)
            return []

    streams = {name: read(name) for name in wanted}
    words = _words(streams, names, read) if has_words else []
    beside: dict[int, StreamRows] = {}  # part of samples → its words
    for part in words:
        samples = goes_with(part, [rows for found in streams.values() for rows in found])
        if samples is not None:
            beside[id(samples)] = part
    joined = list(beside.values())
    parts = [
        Part(name, number, rows, beside.get(id(rows)))
        for name, found in streams.items()
        for number, rows in enumerate(found, 1)
        if not any(_is_same(rows, other) for other in joined)
    ]
    return Streams(entry.name, parts, left_out, in_words(gone))


def _words(
    streams: dict[str, list[StreamRows]],
    names: list[str],
    read: Callable[[str], list[StreamRows]],
) -> list[StreamRows]:
    """Parts of the streams that hold trigger words."""
    trigger_streams = [name for name in names if name.endswith(SUFFIX)]
    found = (streams[name] if name in streams else read(name) for name in trigger_streams)
    return [rows for parts in found for rows in parts if is_trigger(rows.info)]


def _is_same(rows: StreamRows, other: StreamRows) -> bool:
    return rows.info.stream_id == other.info.stream_id and rows.placed == other.placed
