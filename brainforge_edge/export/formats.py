"""The export formats by name. Runs in: `brainforge-edge export`."""

import shutil
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from brainforge_edge.core.errors import BrainforgeError, StorageError
from brainforge_edge.export.notes import NoNotes, Notes
from brainforge_edge.export.recording import StreamRows
from brainforge_edge.export.streams import read_streams
from brainforge_edge.recorder.chunk import Opener, unsealed
from brainforge_edge.recorder.leftover import PART_PREFIX
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
    SecurityError where a stream was erased, only if no other one is there. `notes` are told of each
    file before its first row is written, and before it has its name.
    """
    if format_name not in FORMATS:
        raise StorageError(
            "unknown_format",
            f"cannot export as {format_name!r}",
            why=f"the formats are {', '.join(FORMATS)}",
            remedy="Choose one of them with --format",
        )
    module = import_module(f"brainforge_edge.export.{format_name}")
    read = read_streams(
        folder,
        disk,
        stream_id=stream_id,
        opened=opened,
        is_partial=is_partial,
        has_words=format_name == "fif",
    )
    disk.make_folder(target)
    exported = Exported([], {}, read.left_out, read.elsewhere)
    for part in read.parts:
        name, rows = part.stream_id, part.rows
        suffix = module.SUFFIX if part.number == 1 else f"_part{part.number}{module.SUFFIX}"
        path = target / f"{read.recording}_{name}{suffix}"
        options: dict[str, Any] = {"is_lossy": is_lossy} if format_name == "edf" else {}
        options |= {"words": part.words} if part.words is not None else {}
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
            sync(file, disk)
        for file in files:
            notes.is_whole(rows.info.stream_id, file, path.parent / file.name)
        moved = [file.replace(path.parent / file.name) for file in files]
        disk.fsync_folder(path.parent)
        return moved
    except OSError as error:
        raise unwritten(path, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if not part.exists():
            notes.ended(part)


def sync(file: Path, disk: Disk) -> None:
    """On the disk when this returns."""
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
        raise unwritten(path, error) from error


def unwritten(path: Path, error: OSError) -> StorageError:
    """That a write failed, in one sentence."""
    return StorageError(
        "export_write",
        f"cannot write {path}",
        why=(error.strerror or str(error)).lower(),
        remedy="Free space there or choose another folder",
    )
