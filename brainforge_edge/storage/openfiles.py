"""Who has files open below a folder, as the kernel says. Runs in: the CLI process.

Of processes of other users only root learns it: run as the daemon's user, or root.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class OpenFile(NamedTuple):
    pid: str
    path: Path
    is_written: bool  # opened for writing


def open_below(folder: Path) -> Iterator[OpenFile]:
    inside = f"{folder.resolve()}/"
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            target = str(link.readlink())
            if not target.startswith(inside):
                continue
            said = (link.parent.parent / "fdinfo" / link.name).read_text(encoding="ascii")
        except OSError:  # a process that ended meanwhile, or another user's
            continue
        flags = next(
            (line.split()[1] for line in said.splitlines() if line.startswith("flags:")), "2"
        )
        is_written = int(flags, 8) & os.O_ACCMODE != os.O_RDONLY
        yield OpenFile(link.parts[2], Path(target), is_written)
