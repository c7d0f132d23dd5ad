"""What verbs print: one JSON object for machines, plain lines for people. Runs in: the CLI process."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from brainforge_edge.core.errors import BrainforgeError

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object, for machines."
)


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether `--json` was given, also where the command line is otherwise wrong."""
    before_dashes = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in before_dashes


def print_json(value: object) -> None:
    """One JSON object on stdout."""
    click.echo(json.dumps(value, indent=None, ensure_ascii=False, default=str))


def report_error(error: BrainforgeError, *, as_json: bool) -> None:
    """One sentence on stderr; with `--json` the error as an object on stdout."""
    if as_json:
        print_json({"ok": False, "error": error.as_dict()})
    else:
        click.echo(escaped(f"brainforge-edge: {error}"), err=True)


def escaped(text: str) -> str:
    """What a terminal shows and does not obey: a text that somebody else wrote."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def is_terminal() -> bool:
    """Whether a person looks at stdout: only then rich is imported."""
    return sys.stdout.isatty()


def print_table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows under their column names: a rich table on a terminal, aligned text elsewhere."""
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    if is_terminal():
        from rich.console import Console  # noqa: PLC0415 - only where a person looks
        from rich.table import Table  # noqa: PLC0415

        table = Table(*[column.replace("_", " ") for column in columns], box=None, pad_edge=False)
        for line in cells:
            table.add_row(*line)
        Console().print(table)
        return
    widths = [
        max([len(column), *(len(line[index]) for line in cells)])
        for index, column in enumerate(columns)
    ]
    for line in [list(columns), *cells]:
        padded = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo(padded.rstrip())


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1f}"
    return escaped(str(value))
