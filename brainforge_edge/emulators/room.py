"""Room for the files that an emulator makes, without taking anybody else's. Runs in: emulator process."""

from collections.abc import Callable
from pathlib import Path

from brainforge_edge.core.errors import ConfigError


def make_room(path: Path, *, replaces: Callable[[int], bool]) -> None:
    """Make the folder of `path`. ConfigError if something lies at `path` whose mode is not to be replaced."""
    try:
        if not path.name or path.is_dir():
            raise refused(path, "it is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise refused(path, str(error.strerror).lower()) from error
    if not replaces(mode):
        raise refused(path, "something else lies there")


def refused(path: Path, why: str) -> ConfigError:
    """What an emulator says that cannot make `path`."""
    return ConfigError(
        "unwritable",
        f"cannot make {str(path)!r}",
        why=why,
        remedy="Give the path of a file, in a folder that you may write to",
    )
