"""The folders of a box. Runs in: supervisor, before its workers start."""

import os
from pathlib import Path

from brainforge_edge.core.config import NodeConfig
from brainforge_edge.core.errors import StorageError


def make_folders(node: NodeConfig) -> None:
    """Those that the daemon needs; StorageError for one that cannot be used."""
    run = Path(node.run)
    for folder in (run, run / "rings", Path(node.root) / "recordings"):
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
