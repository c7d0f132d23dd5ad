"""The dataset's tables and JSON files. Runs in: `brainforge-edge export`."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from brainforge_edge.core.errors import StorageError
from brainforge_edge.export.label import one_line
from brainforge_edge.storage.files import Disk

ABSENT = "n/a"


class Table(NamedTuple):
    """Tab-separated values; every row has every column."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> "Table":
        """Of any texts; those of a file that was read stay as they are."""
        return cls(tuple(columns), tuple(tuple(map(cell, row)) for row in rows))

    def text(self) -> str:
        return "".join("\t".join(line) + "\n" for line in (self.columns, *self.rows))

    def column(self, name: str) -> list[str]:
        """Its values; ABSENT for each row where there is no such column."""
        if name not in self.columns:
            return [ABSENT] * len(self.rows)
        return [row[self.columns.index(name)] for row in self.rows]

    def with_row(self, values: Mapping[str, str]) -> "Table":
        """One row more, and the columns that it brings."""
        more = [name for name in values if name not in self.columns]
        columns = (*self.columns, *more)
        rows = [row + (ABSENT,) * len(more) for row in self.rows]
        return Table(columns, (*rows, tuple(cell(values.get(name, ABSENT)) for name in columns)))


def cell(text: str) -> str:
    """On one line and without a tab; ABSENT for a blank one."""
    return one_line(text) or ABSENT


def number(value: float) -> str:
    """Plain digits, to the nanosecond where it is a time."""
    text = f"{value:.9f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def as_json(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_table(path: Path, disk: Disk) -> Table:
    """StorageError `dataset_damaged` for what is no table."""
    try:
        lines = disk.read_file(path).decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        raise damaged(path, str(error)) from error
    cells = [tuple(line.split("\t")) for line in lines if line]
    if not cells or len(set(cells[0])) != len(cells[0]):
        raise damaged(path, "its columns have no names, or two the same")
    for line in cells[1:]:
        if len(line) != len(cells[0]):
            raise damaged(path, f"it has {len(cells[0])} columns, and a row of {len(line)}")
    return Table(cells[0], tuple(cells[1:]))


def damaged(path: Path, why: str) -> StorageError:
    return StorageError(
        "dataset_damaged",
        f"nothing was added to the dataset: {path} cannot be read",
        why=why,
        remedy="Mend that file, or choose another folder",
    )
