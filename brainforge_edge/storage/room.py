"""How full the disk of a box is. Runs in: supervisor; agent process; command line tools."""

import os
from collections.abc import Callable
from pathlib import Path

from brainforge_edge.core.config import DiskConfig

RESERVE_FILE = "reserve"  # below the node's root: given up so that a recording can be closed
RESERVE_SHARE = 16  # it takes a sixteenth of a small disk at most


class Room:
    """Asked anew each time. `usage` is os.statvfs, given so that tests can fill a disk."""

    def __init__(
        self,
        root: Path,
        config: DiskConfig,
        usage: Callable[[Path], os.statvfs_result] = os.statvfs,
    ) -> None:
        self._root = root
        self._config = config
        self._usage = usage
        self.reserve = root / RESERVE_FILE

    def look(self) -> tuple[int, float]:
        """Free bytes beside the reserve, and how full it is in percent; the reserve counts as used, there or not."""
        found = self._usage(self._root)
        usable = (found.f_blocks - found.f_bfree + found.f_bavail) * found.f_frsize
        free = found.f_bavail * found.f_frsize
        free = max(0, free - max(0, self.reserve_bytes() - self.kept_bytes()))
        return free, 100.0 * (1.0 - free / usable) if usable else 100.0

    def kept_bytes(self) -> int:
        """Size of the reserve as it is."""
        try:
            return self.reserve.stat().st_size
        except FileNotFoundError:
            return 0

    def reserve_bytes(self) -> int:
        """… and as it is to be."""
        found = self._usage(self._root)
        return min(
            self._config.reserve_mib * 2**20, found.f_blocks * found.f_frsize // RESERVE_SHARE
        )
