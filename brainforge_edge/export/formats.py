"""The export formats by name. Runs in: `brainforge-edge export`."""

import shutil
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from brainforge_edge.core.errors import StorageError
from brainforge_edge.export.recording import StreamRows, is_raw, read_parts, sample_streams
from brainforge_edge.export.stim import SUFFIX, goes_with, is_trigger
from brainforge_edge.recorder.catalog import read_recording
from brainforge_edge.storage.files import Disk

# Name → module with SUFFIX and write(rows, path); a module is imported when it is asked for.
FORMATS = ("bdf", "fif", "csv")


class Exported(NamedTuple):
    files: list[Path]
    damaged: dict[str, int]  # stream id → places in its segments that could not be read
    left_out: list[StorageError]  # streams that the format cannot hold


def export_recording(
    folder: Path, *, format_name: str, target: Path, disk: Disk, stream_id: str | None = None
) -> Exported:
    """Write each stream of samples of a closed recording (or any one) as `target/<recording>_<stream><suffix>`.

    Rows in damaged places are filled as those of a gap. A file is there under its name only when it
    is whole. In FIF, trigger words are a channel of the samples that they came with. StorageError
    for an unknown format, a recording that is open or empty, a target that exists; for values that
    the format cannot hold only if no stream fits.
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
    names = sample_streams(entry, disk)
    wanted = [stream_id] if stream_id is not None else []
    if stream_id is None:
        wanted = [name for name in names if not is_raw(entry, name, disk)]
    disk.make_folder(target)
    words = _words(folder, names, disk) if format_name == "fif" else []
    beside: dict[int, StreamRows] = {}  # part of samples → its words
    streams = {name: read_parts(folder, name, disk) for name in wanted}
    for part in words:
        samples = goes_with(part, [rows for found in streams.values() for rows in found])
        if samples is not None:
            beside[id(samples)] = part
    joined = {id(part) for part in beside.values()}
    exported = Exported([], {}, [])
    for name, parts in streams.items():
        for number, rows in enumerate(parts, 1):
            if any(_is_same(rows, part) for part in words if id(part) in joined):
                continue
            suffix = module.SUFFIX if number == 1 else f"_part{number}{module.SUFFIX}"
            path = target / f"{entry.name}_{name}{suffix}"
            options = {"words": beside[id(rows)]} if id(rows) in beside else {}
            try:
                exported.files.extend(_write(module, rows, path, options))
            except StorageError as error:
                if error.code != "storage.export_misfit":
                    raise
                exported.left_out.append(error)
            if rows.n_damaged:
                exported.damaged[name] = rows.n_damaged
    if exported.left_out and not exported.files:
        raise exported.left_out[0]
    return exported


def _words(folder: Path, names: list[str], disk: Disk) -> list[StreamRows]:
    """Parts of the streams that hold trigger words."""
    found = (read_parts(folder, name, disk) for name in names if name.endswith(SUFFIX))
    return [rows for parts in found for rows in parts if is_trigger(rows.info)]


def _is_same(rows: StreamRows, other: StreamRows) -> bool:
    return rows.info.stream_id == other.info.stream_id and rows.placed == other.placed


def _write(module: ModuleType, rows: StreamRows, path: Path, options: dict[str, Any]) -> list[Path]:
    """Through a folder of its own; `path` and, beyond 2 GB, what fif splits itself into."""
    if path.exists():
        raise StorageError(
            "target_exists",
            f"{path} is there already",
            why="an export never replaces a file",
            remedy="Remove it or choose another folder",
        )
    part = path.parent / f"part-{path.stem}"
    try:
        part.mkdir()
        module.write(rows, part / path.name, **options)
        return [file.replace(path.parent / file.name) for file in sorted(part.iterdir())]
    except OSError as error:
        raise StorageError(
            "export_write",
            f"cannot write {path}",
            why=(error.strerror or str(error)).lower(),
            remedy="Free space there or choose another folder",
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
