"""Folders that an export makes its files in, and leaves where it is killed. Runs in: `export`, `erase run`.

`part-<recording>_…` beside the place of a file; in a dataset `.brainforge-part`, whatever is made
there, and `.brainforge-whole`, where folders of participants wait to be moved to their places.
"""

import re
import stat
from collections.abc import Iterator
from pathlib import Path

PART_PREFIX = "part-"
DATASET_LOCK, DATASET_PART, DATASET_WHOLE = (
    ".brainforge-lock", ".brainforge-part", ".brainforge-whole",
)  # fmt: skip
_PARTICIPANT = re.compile(r"sub-[A-Za-z0-9]+")
_IN_DATASET = re.compile(rf"{_PARTICIPANT.pattern}(/ses-[0-9]+(/[a-z]+)?)?")


class Leftover:
    """One such folder, that a note names: what it says could be anything."""

    def __init__(self, path: Path) -> None:
        self.path = path
        is_waiting = path.parent.name == DATASET_WHOLE and bool(_PARTICIPANT.fullmatch(path.name))
        self._is_in_dataset = is_waiting or path.name == DATASET_PART
        self._root = path.parent if is_waiting else path  # as the folder that its files belong in

    @property
    def place(self) -> Path:
        """The folder that its files belong in."""
        return self._root.parent

    @property
    def lock(self) -> Path | None:
        """Who holds it has the folder to itself."""
        return self.place / DATASET_LOCK if self._is_in_dataset else None

    def is_called_so(self, recording: str) -> bool:
        """Whether an export of that recording makes its files in a folder of this name."""
        return self._is_in_dataset or self.path.name.startswith(f"{PART_PREFIX}{recording}_")

    def is_link(self) -> bool:
        return self.path.is_symlink() or self._root.is_symlink()

    def is_of_export(self) -> bool:
        """Whether nothing is in it but what an export makes. OSError if it cannot be looked at."""
        for path in self._below(self.path):
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode) and self._is_in_dataset:
                if not _IN_DATASET.fullmatch(path.relative_to(self._root).as_posix()):
                    return False
            elif not stat.S_ISREG(mode):
                return False
        return True

    def files(self) -> list[tuple[Path, Path]]:
        """Each with the place that it has not come to."""
        found = [path for path in self._below(self.path) if not self._is_folder(path)]
        return [(path, self.place / path.relative_to(self._root)) for path in found]

    def folders(self) -> list[Path]:
        """In the order in which they can be removed."""
        return [*(path for path in self._below(self.path) if self._is_folder(path)), self.path]

    def _below(self, folder: Path) -> Iterator[Path]:
        """What is in a folder before the folder."""
        for path in sorted(folder.iterdir()):
            if self._is_folder(path):
                yield from self._below(path)
            yield path

    @staticmethod
    def _is_folder(path: Path) -> bool:
        return path.is_dir() and not path.is_symlink()
