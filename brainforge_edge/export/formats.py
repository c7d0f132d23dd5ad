"""The export formats by name. Runs in: `brainforge-edge export`."""

import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from brainforge_edge.core.errors import BrainforgeError, SecurityError, StorageError
from brainforge_edge.export.elsewhere import gone_from, in_words, refusal
from brainforge_edge.export.notes import NoNotes, Notes
from brainforge_edge.export.recording import StreamRows, is_raw, read_parts, sample_streams
from brainforge_edge.export.stim import SUFFIX, goes_with, is_trigger
from brainforge_edge.recorder.catalog import read_recording
from brainforge_edge.recorder.chunk import ERASED, Opener, unsealed
from brainforge_edge.recorder.exports import PART_PREFIX
from brainforge_edge.storage.files import Disk

# Name → module with SUFFIX and write(rows, path); a module is imported when it is asked for.
FORMATS = ("bdf", "edf", "fif", "csv", "parquet", "brainvision", "xdf", "snirf")


class Exported(NamedTuple):
    files: list[Path]
    damaged: dict[str, int]  # stream id → places in its segments that could not be read
    left_out: list[BrainforgeError]  # streams that the format cannot hold, or that were erased
    elsewhere: list[str]  # rows that were freed here, for each stream in words


def export_recording(
    folder: Path,
    *,
    format_name: str,
    target: Path,
    disk: Disk,
    stream_id: str | None = None,
    opened: Opener = unsealed,
    is_partial: bool = False,
    is_lossy: bool = False,
    notes: Notes = NoNotes(),  # noqa: B008 (it holds nothing)
) -> Exported:
    """Write each stream of samples of a closed recording (or any one) as `target/<recording>_<stream><suffix>`.

    Rows in damaged places are filled as those of a gap. A file is there under its name only when it
    is whole. In FIF, trigger words are a channel of the samples that they came with. StorageError
    for an unknown format, a recording that is open or empty, a target that exists; for values that
    the format cannot hold only if no stream fits. Of a recording of which segments were freed it is
    `rows_elsewhere`, unless `is_partial`: then these are gaps. EDF rounds values only if `is_lossy`.
    SecurityError where a stream was
    erased, only if no other one is there. `notes` are told of each file before its
    first row is written, and before it has its name.
    """
    if format_name not in FORMATS:
        raise StorageError(
            "unknown_format",
            f"cannot export as {format_name!r}",
            why=f"the formats are {', '.join(FORMATS)}",
            remedy="Choose one of them with --format",
        )
    module = import_module(f"brainforge_edge.export.{format_name}")
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
    disk.make_folder(target)
    exported = Exported([], {}, [], in_words(gone))

    def read(name: str) -> list[StreamRows]:
        try:
            return read_parts(folder, name, disk, opened=opened)
        except SecurityError as error:
            if error.code != ERASED:
                raise
            exported.left_out.append(error)
            return []

    streams = {name: read(name) for name in wanted}
    words = _words(streams, names, read) if format_name == "fif" else []
    beside: dict[int, StreamRows] = {}  # part of samples → its words
    for part in words:
        samples = goes_with(part, [rows for found in streams.values() for rows in found])
        if samples is not None:
            beside[id(samples)] = part
    joined = {id(part) for part in beside.values()}
    for name, parts in streams.items():
        for number, rows in enumerate(parts, 1):
            if any(_is_same(rows, part) for part in words if id(part) in joined):
                continue
            suffix = module.SUFFIX if number == 1 else f"_part{number}{module.SUFFIX}"
            path = target / f"{entry.name}_{name}{suffix}"
            options: dict[str, Any] = {"is_lossy": is_lossy} if format_name == "edf" else {}
            options |= {"words": beside[id(rows)]} if id(rows) in beside else {}
            try:
                exported.files.extend(_write(module, rows, path, options, notes, disk))
            except StorageError as error:
                if error.code != "storage.export_misfit":
                    raise
                exported.left_out.append(error)
            if rows.n_damaged:
                exported.damaged[name] = rows.n_damaged
    if exported.left_out and not exported.files:
        raise exported.left_out[0]
    return exported


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


def _write(
    module: ModuleType,
    rows: StreamRows,
    path: Path,
    options: dict[str, Any],
    notes: Notes,
    disk: Disk,
) -> list[Path]:
    """Through a folder of its own; `path` and, beyond 2 GB, what fif splits itself into.

    Of several files `path` comes last: without it no program takes the others for a recording.
    All are on the disk before the first has its name, so that an end of power leaves no half of one.
    """
    _refuse_existing(path)
    part = path.parent / f"{PART_PREFIX}{path.stem}"
    _make(part, path)
    try:
        notes.begins(rows.info.stream_id, part)
        module.write(rows, part / path.name, **options)
        files = sorted(part.iterdir(), key=lambda file: (file.name == path.name, file.name))
        for file in files:
            _refuse_existing(path.parent / file.name)
            _sync(file, disk)
        for file in files:
            notes.is_whole(rows.info.stream_id, file, path.parent / file.name)
        moved = [file.replace(path.parent / file.name) for file in files]
        disk.fsync_folder(path.parent)
        return moved
    except OSError as error:
        raise _unwritten(path, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if not part.exists():
            notes.ended(part)


def _sync(file: Path, disk: Disk) -> None:
    fd = disk.open(file, "read")
    try:
        disk.fdatasync(fd)
    finally:
        disk.close(fd)


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise StorageError(
            "target_exists",
            f"{path} is there already",
            why="an export never replaces a file",
            remedy="Remove it or choose another folder",
        )


def _make(part: Path, path: Path) -> None:
    try:
        part.mkdir()
    except FileExistsError as error:
        raise StorageError(
            "export_cut_off",
            f"cannot write {path}",
            why=f"{part} is there: an export was cut off, or is going on",
            remedy="Remove that folder unless an export is going on",
        ) from error
    except OSError as error:
        raise _unwritten(path, error) from error


def _unwritten(path: Path, error: OSError) -> StorageError:
    return StorageError(
        "export_write",
        f"cannot write {path}",
        why=(error.strerror or str(error)).lower(),
        remedy="Free space there or choose another folder",
    )
