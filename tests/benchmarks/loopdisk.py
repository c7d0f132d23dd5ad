"""A file system of its own whose block device counts what is written to it. Needs root."""

import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

_SECTOR = 512  # of /sys/block/*/stat, whatever the device's own


def is_possible() -> bool:
    """Root, a free loop device and the programs."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("losetup", "mkfs.ext4", "mount", "umount"))):
        return False
    return subprocess.run(["losetup", "-f"], capture_output=True, check=False).returncode == 0


class LoopDisk:
    """`with LoopDisk(image, mount, mib=…) as disk`: ext4 with its journal, mounted at `mount`."""

    def __init__(self, image: Path, mount: Path, *, mib: int) -> None:
        self._image = image
        self.mount = mount
        self._size = mib * 1024 * 1024
        self._device = ""

    def __enter__(self) -> Self:
        with self._image.open("wb") as file:
            file.truncate(self._size)
        # Inode tables and journal are laid out now: else the kernel writes them during the run.
        run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0",
             str(self._image))  # fmt: skip
        self._device = run("losetup", "--find", "--show", str(self._image)).strip()
        try:
            self.mount.mkdir(parents=True, exist_ok=True)
            run("mount", self._device, str(self.mount))
        except BaseException:
            run("losetup", "-d", self._device)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        run("umount", str(self.mount))
        run("losetup", "-d", self._device)
        self._image.unlink()

    def bytes_written(self) -> int:
        """Since the device was made; what the file system still holds is written first."""
        run("sync", "-f", str(self.mount))
        stat = Path("/sys/block", Path(self._device).name, "stat").read_text().split()
        return int(stat[6]) * _SECTOR


def run(*command: object) -> str:
    """What it says on stdout; OSError with what it says on stderr."""
    words = [str(word) for word in command]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    if result.returncode:
        raise OSError(f"{' '.join(words)}: {result.stderr.strip()}")
    return result.stdout
