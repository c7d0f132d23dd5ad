"""What lies in a recordings root, from the tree alone. Runs in: any process that reads recordings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.garbled import GARBLED
from brainforge_edge.core.stream import Codec
from brainforge_edge.recorder.freed import read_freed
from brainforge_edge.recorder.reader import iter_heads, read_first
from brainforge_edge.recorder.segment import Descriptor, read_descriptor, segment_files
from brainforge_edge.storage.files import Disk

JOURNAL_SUFFIX = ".journal"  # <device>.journal: the folder of a device's journal in a recording
RECORDING_FILE = "recording.json"


class RecordingFile(msgspec.Struct, frozen=True):
    """`recording.json`."""

    recording: str
    created_utc_ns: int | None
    node: str
    closed: bool = False
    # "<stream id>/NNNN.seg" → its length when the recording was closed; None if a journal was left then.
    segments: dict[str, int] | None = None
    devices: tuple[str, ...] = ()  # that the box was to record


class _Closed(msgspec.Struct):
    """Of `recording.json` what tells whether it grows no more."""

    closed: bool = False


_closed = msgspec.json.Decoder(_Closed)
_recording_file = msgspec.json.Decoder(RecordingFile)  # see core/stream.py


@dataclass(frozen=True, slots=True)
class RecordingEntry:
    """One folder under the recordings root."""

    folder: Path
    file: RecordingFile | None  # None if there is no readable recording.json
    streams: Mapping[str, tuple[Path, ...]]  # stream id → segments in their order
    journals: tuple[str, ...]  # devices that left a journal: recording now, or crashed

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def is_closed(self) -> bool:
        return self.file is not None and self.file.closed and not self.journals


def write_recording_file(recordings: Path, file: RecordingFile, disk: Disk) -> None:
    """Make or replace `recording.json` of a recording, durably."""
    folder = recordings / file.recording
    disk.make_folder(folder)
    disk.atomic_write(folder / RECORDING_FILE, msgspec.json.encode(file))


def close_recording(folder: Path, disk: Disk) -> None:
    """Mark a recording as closed, with the lengths of its segments: else nothing would tell that chunks
    were cut off at its end. Nothing is done without a readable `recording.json`. `folder` may have
    another name than the recording was given."""
    entry = read_recording(folder, disk)
    if entry.file is None:
        return
    # Recovery is still to come where a journal is left: it writes and cuts segments first.
    sizes = None if entry.journals else segment_sizes(entry, disk)
    closed = msgspec.structs.replace(entry.file, closed=True, segments=sizes)
    disk.atomic_write(folder / RECORDING_FILE, msgspec.json.encode(closed))


def segment_sizes(entry: RecordingEntry, disk: Disk) -> dict[str, int]:
    """Length in bytes of every segment, by its path in the recording."""
    sizes = {}
    for path in (path for segments in entry.streams.values() for path in segments):
        fd = disk.open(path, "read")
        try:
            sizes[path.relative_to(entry.folder).as_posix()] = disk.size(fd)
        finally:
            disk.close(fd)
    return sizes


def read_recording(folder: Path, disk: Disk) -> RecordingEntry:
    """One recording; StorageError if `folder` is none."""
    names = disk.names(folder)
    file = None
    if RECORDING_FILE in names:
        try:
            file = _recording_file.decode(disk.read_file(folder / RECORDING_FILE))
        except GARBLED:
            file = None  # the segments say everything that it does
    journals = [name[: -len(JOURNAL_SUFFIX)] for name in names if name.endswith(JOURNAL_SUFFIX)]
    streams = {
        name: tuple(segments)
        for name in names
        if not name.endswith(JOURNAL_SUFFIX) and (segments := segment_files(folder / name, disk))
    }
    if file is None and not journals and not streams:
        why = "it holds neither recording.json nor segments"
        raise StorageError(
            "no_recording",
            f"{folder} is no recording",
            why=why if folder.is_dir() else "there is no such folder",
            remedy="Name a recording's own folder, one below recordings/",
        )
    return RecordingEntry(folder, file, streams, tuple(journals))


def is_closed(folder: Path, disk: Disk) -> bool:
    """As `read_recording` says it, without a look at the streams."""
    names = disk.names(folder)
    if RECORDING_FILE not in names or any(name.endswith(JOURNAL_SUFFIX) for name in names):
        return False
    try:
        return _closed.decode(disk.read_file(folder / RECORDING_FILE)).closed
    except GARBLED:
        return False


def list_recordings(
    recordings: Path, disk: Disk, on_error: Callable[[str, StorageError], object] | None = None
) -> list[RecordingEntry]:
    """Every recording under a root, by name; other folders are passed over.

    `on_error` is told of one that cannot be read, with its name, and the others follow; without it the
    error is raised.
    """
    found = []
    for name in disk.names(recordings):
        folder = recordings / name
        if not folder.is_dir():
            continue
        try:
            names = disk.names(folder)
            if any(child == RECORDING_FILE or (folder / child).is_dir() for child in names):
                found.append(read_recording(folder, disk))
        except StorageError as error:
            if error.code == "storage.no_recording":
                continue
            if on_error is None:
                raise
            on_error(name, error)
    return found


def stream_descriptor(segments: tuple[Path, ...], disk: Disk) -> Descriptor | None:
    """The stream's latest descriptor that is whole."""
    for path in reversed(segments):
        first, _ = read_first(path, disk=disk)
        if first is not None and first.head.codec == Codec.DESCRIPTOR:
            return read_descriptor(first.chunk().body)
    return None


def rebuilt_streams(recordings: Path, disk: Disk) -> dict[str, dict[str, int]]:
    """The table of `streams.json` from segments alone, those that were freed included: numbers, and the
    highest incarnation there is."""
    table: dict[str, dict[str, int]] = {}
    for entry in list_recordings(recordings, disk):
        for gone in read_freed(entry.folder, disk):
            row = table.setdefault(gone.stream_id, {"number": gone.number, "incarnation": 0})
            row["incarnation"] = max([row["incarnation"], *(r.incarnation for r in gone.held)])
        for stream_id, segments in entry.streams.items():
            descriptor = stream_descriptor(segments, disk)
            for path in segments:
                for located in iter_heads(path, disk=disk):
                    number = located.head.stream_number if descriptor is None else descriptor.number
                    row = table.setdefault(stream_id, {"number": number, "incarnation": 0})
                    row["incarnation"] = max(row["incarnation"], located.head.incarnation)
    return table
