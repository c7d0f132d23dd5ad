"""A path on the command line. Runs in: the CLI process."""

import os
from pathlib import Path
from typing import Any

import click


class GivenPath(click.Path):
    """A `Path`; an empty one, which an unset variable of a script leaves, is none: it would mean "here"."""

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
        return super().convert(value, param, ctx)
