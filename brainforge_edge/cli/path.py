"""A path on the command line. Runs in: the CLI process."""

import os
import stat
from pathlib import Path
from typing import Any

import click


class GivenPath(click.Path):
    """A `Path`; an empty one, which an unset variable of a script leaves, is none: it would mean "here".

    A pipe is none either: who opens it waits until somebody writes to it.
    """

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(
        self,
        value: "str | os.PathLike[str]",
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        if not os.fspath(value):
            self.fail("the path is empty.", param, ctx)
        if _is_pipe(value):
            self.fail(f"{os.fspath(value)!r} is a pipe, not a file or folder.", param, ctx)
        return super().convert(value, param, ctx)


def _is_pipe(path: "str | os.PathLike[str]") -> bool:
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)  # noqa: PTH116 - not a Path yet
    except OSError:
        return False  # who uses it says what is wrong with it
