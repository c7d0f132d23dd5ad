"""Where a recording was exported to: plain files, which an erasure has to find again. Runs in: `export`, `erase run`.

`<recording>/exports.json`, replaced as a whole. A file is noted before it has its name, a copy and the
folder that a file is made in before the first byte is written.
"""

import re
from pathlib import Path

import msgspec

from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.garbled import GARBLED
from brainforge_edge.storage.files import Disk

EXPORTS_FILE = "exports.json"
COPY = "copy"  # format of a copy of the whole recording, with its `keys`
BIDS = "bids"  # format of a file in a dataset, where recordings have numbers for names
PART = "part"  # … of a folder in which an export makes its files; it stays where one was killed
_IN_DATASET = re.compile(r".*/(sub-[A-Za-z0-9]+)/(ses-[0-9]+)/([a-z]+/)?\1_\2_[^/]+")


class ExportNote(msgspec.Struct, frozen=True):
    """One exported file."""

    path: str
    format: str
    stream_id: str
    participants: tuple[str, ...]  # whose rows are in it
    utc_ns: int | None
    size: int
    mtime_ns: int
    order: str = ""  # by which it was erased: noted before it is

    def __post_init__(self) -> None:
        """ValueError, which a decoder makes its own: no call takes such a path."""
        if "\0" in self.path:
            raise ValueError("no path of a file")


def is_called_so(note: ExportNote, recording: str) -> bool:
    """Whether an export of that recording would give its file this name: what a note says could be anything."""
    if note.format == BIDS:
        return _IN_DATASET.fullmatch(note.path) is not None
    return Path(note.path).name.startswith(f"{recording}_")


_decoder = msgspec.json.Decoder(tuple[ExportNote, ...])


def read_notes(recording: Path, disk: Disk) -> tuple[ExportNote, ...]:
    """StorageError `exports_damaged` if they cannot be read."""
    if EXPORTS_FILE not in disk.names(recording):
        return ()
    try:
        return _decoder.decode(disk.read_file(recording / EXPORTS_FILE))
    except GARBLED as error:
        raise StorageError(
            "exports_damaged",
            f"{recording / EXPORTS_FILE} cannot be read",
            why=str(error),
            remedy="Look for exports of this recording by hand, and move this file away",
        ) from error


def add_note(recording: Path, note: ExportNote, disk: Disk) -> None:
    """On the disk when this returns."""
    with disk.exclusive(recording.parent / ".lock"):
        _write(recording, (*read_notes(recording, disk), note), disk)


def note_copy(
    recording: Path,
    places: tuple[Path, ...],
    participants: tuple[str, ...],
    *,
    utc_ns: int | None,
    disk: Disk,
) -> None:
    """That keys of these participants are about to lie at one of these places; on the disk when this returns.

    A place that was noted before keeps whom it named: what a copy that was cut off left there is there still.
    """
    with disk.exclusive(recording.parent / ".lock"):
        notes = read_notes(recording, disk)
        for place in places:
            before = [note for note in notes if _is_copy_at(note, place)]
            notes = tuple(note for note in notes if note not in before)
            whose = {*participants, *(each for note in before for each in note.participants)}
            made = ExportNote(str(place), COPY, "", tuple(sorted(whose)), utc_ns, 0, 0)
            notes = (*notes, made)
        _write(recording, notes, disk)


def forget_copy(recording: Path, place: Path, disk: Disk) -> None:
    """That nothing lies there any more."""
    _forget(recording, COPY, place, disk)


def forget_part(recording: Path, place: Path, disk: Disk) -> None:
    """As `forget_copy`, of a folder that an export made its files in."""
    _forget(recording, PART, place, disk)


def _forget(recording: Path, kind: str, place: Path, disk: Disk) -> None:
    with disk.exclusive(recording.parent / ".lock"):
        notes = read_notes(recording, disk)
        left = tuple(note for note in notes if (note.format, note.path) != (kind, str(place)))
        if left != notes:
            _write(recording, left, disk)


def _is_copy_at(note: ExportNote, place: Path) -> bool:
    return note.format == COPY and note.path == str(place)


def mark_erased(recording: Path, path: str, order: str, disk: Disk) -> None:
    """That this file is about to be erased by this order."""
    with disk.exclusive(recording.parent / ".lock"):
        notes = tuple(
            msgspec.structs.replace(note, order=order) if note.path == path else note
            for note in read_notes(recording, disk)
        )
        _write(recording, notes, disk)


def _write(recording: Path, notes: tuple[ExportNote, ...], disk: Disk) -> None:
    text = msgspec.json.format(msgspec.json.encode(notes), indent=1) + b"\n"
    disk.atomic_write(recording / EXPORTS_FILE, text)
