"""The folders that a daemon needs. Runs in: supervisor, before its workers."""

import os
from pathlib import Path

from brainforge_edge.core.errors import StorageError


def make_folders(run: Path, root: Path) -> None:
    """Those that are missing; StorageError `folder` for one that cannot be used."""
    for folder in (run, run / "rings", root / "recordings"):
        try:
            folder.mkdir(mode=0o750, parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(13, "permission denied")
        except OSError as error:
            raise StorageError(
                "folder",
                f"cannot use the folder {folder}",
                why=str(error.strerror or error).lower(),
                remedy="Make it writable for the daemon's user, or set another in [node]",
            ) from error
