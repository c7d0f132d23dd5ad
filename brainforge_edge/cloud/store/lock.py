"""One writer a store. Runs in: ingest, main thread."""

import fcntl
import os
from pathlib import Path

from brainforge_edge.core.errors import CloudError


def locked(path: Path) -> int:
    """A lock that ends with this process; raises when another one writes here."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise CloudError(
            "store_in_use",
            f"the store {path.parent} cannot be opened",
            why="another ingest process writes to it",
            remedy="Stop that one, or give this one another --root",
        ) from error
    return fd
