"""The export formats by name. Runs in: `brainforge-edge export`."""

import shutil
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from brainforge_edge.core.errors import StorageError
from brainforge_edge.export.recording import read_stream, sample_streams
from brainforge_edge.recorder.catalog import read_recording
from brainforge_edge.storage.files import Disk

# Name → module with SUFFIX and write(rows, path); a module is imported when it is asked for.
FORMATS = ("bdf", "fif", "csv")


class Exported(NamedTuple):
    files: list[Path]
    damaged: dict[str, int]  # stream id → places in its segments that could not be read


def export_recording(
    folder: Path, *, format_name: str, target: Path, disk: Disk, stream_id: str | None = None
) -> Exported:
    """Write each stream of a closed recording (or one) as `target/<recording>_<stream><suffix>`.

    Rows in damaged places are filled as those of a gap. A file is there under its name only when it is whole. StorageError for an unknown format, a
    recording that is open or empty, values that the format cannot hold, a target that exists.
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
    names = sample_streams(entry, disk) if stream_id is None else [stream_id]
    disk.make_folder(target)
    exported = Exported([], {})
    for name in names:
        path = target / f"{entry.name}_{name}{module.SUFFIX}"
        if path.exists():
            raise StorageError(
                "target_exists",
                f"{path} is there already",
                why="an export never replaces a file",
                remedy="Remove it or choose another folder",
            )
        part = target / f"part-{path.stem}"
        rows = read_stream(folder, name, disk)
        try:
            part.mkdir()
            module.write(rows, part / path.name)
            files = sorted(part.iterdir())  # fif splits itself beyond 2 GB
            exported.files.extend(file.replace(target / file.name) for file in files)
        except OSError as error:
            raise StorageError(
                "export_write",
                f"cannot write {path}",
                why=(error.strerror or str(error)).lower(),
                remedy="Free space there or choose another folder",
            ) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
        if rows.n_damaged:
            exported.damaged[name] = rows.n_damaged
    return exported
