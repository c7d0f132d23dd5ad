"""The list for people: a table as wide as the terminal allows, lines elsewhere. Runs in: the CLI process."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import click

from brainforge_edge.cli.output import is_terminal, print_table
from brainforge_edge.core.errors import BrainforgeError
from brainforge_edge.devices.sighting import GONE, IN_USE, NEW, Sighting

Marked = Sequence[tuple[str, Sighting]]

_WIDE = 150
_MEDIUM = 110
_COLUMNS = ("state", "link", "address", "kind", "name", "identity", "rssi", "sign of life", "seen")
_STYLES = {IN_USE: "green", NEW: "bold", GONE: "dim"}


class Screen(Protocol):
    def show(
        self, marked: Marked, troubles: Sequence[BrainforgeError], hidden: int, utc_ns: int | None
    ) -> None: ...


def show(
    rows: Sequence[Sighting],
    troubles: Sequence[BrainforgeError],
    hidden: int,
    utc_ns: int | None,
) -> None:
    """Once."""
    if is_terminal():
        from rich.console import Console  # noqa: PLC0415  only where a person looks

        Console().print(_table([("", row) for row in rows], troubles, hidden, utc_ns))
        return
    if rows:
        print_table(_COLUMNS, [_cells("", row, utc_ns) for row in rows])
    for line in _lines(rows, troubles, hidden):
        click.echo(line)


@contextmanager
def screen(*, is_live: bool) -> Iterator[Screen]:
    """A live table on a terminal; elsewhere a line for each change."""
    if not is_live:
        yield _Changes()
        return
    from rich.live import Live  # noqa: PLC0415  only where a person looks

    with Live("looking …", auto_refresh=False) as live:
        yield _Live(live)


class _Live:
    def __init__(self, live: Any) -> None:
        self._live = live

    def show(
        self, marked: Marked, troubles: Sequence[BrainforgeError], hidden: int, utc_ns: int | None
    ) -> None:
        self._live.update(_table(marked, troubles, hidden, utc_ns), refresh=True)


class _Changes:
    def __init__(self) -> None:
        self._said: dict[tuple[str, str], str] = {}
        self._troubles: set[str] = set()

    def show(
        self, marked: Marked, troubles: Sequence[BrainforgeError], hidden: int, utc_ns: int | None
    ) -> None:
        del hidden
        for mark, row in marked:
            cells = _cells("", row, utc_ns)
            line = "  ".join(cells[key] for key in _COLUMNS[:6] if cells[key] != "-")
            if self._said.get(row.key) != line:
                self._said[row.key] = line
                click.echo(f"{mark or ' '} {line}")
        for trouble in troubles:
            if str(trouble) not in self._troubles:
                self._troubles.add(str(trouble))
                click.echo(f"! {trouble}")


def _table(
    marked: Marked, troubles: Sequence[BrainforgeError], hidden: int, utc_ns: int | None
) -> Any:
    """Rich renderable that chooses its columns by the width it gets."""
    from rich.console import Console, ConsoleOptions, RenderResult  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    class Devices:
        def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
            columns = _fitting(options.max_width)
            if all(row.rssi_dbm is None for _, row in marked):
                columns = tuple(column for column in columns if column != "rssi")
            table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
            for column in columns:
                table.add_column(column, overflow="fold", no_wrap=column in {"state", "rssi"})
            for mark, row in marked:
                cells = _cells(mark, row, utc_ns)
                if "identity" not in columns:
                    own = [cells["kind"]] if row.basis not in _SURE else []
                    cells["address"] = "\n".join([cells["address"], *own, row.identity]).strip()
                table.add_row(
                    *(Text(cells[column]) for column in columns), style=_STYLES.get(row.state)
                )
            if marked:
                yield table
            for line in _lines([row for _, row in marked], troubles, hidden):
                yield Text(line)

    return Devices()


def _fitting(width: int) -> tuple[str, ...]:
    if width >= _WIDE:
        return _COLUMNS
    if width >= _MEDIUM:
        return ("state", "link", "address", "kind", "identity", "rssi", "sign of life")
    return ("state", "link", "address", "sign of life")


def _cells(mark: str, row: Sighting, utc_ns: int | None) -> dict[str, str]:
    state = row.state
    if row.device:
        state = f"gone: {row.device}" if row.state == GONE else f"{row.state} as {row.device}"
    return {
        "state": f"{mark} {state}".strip(),
        "link": row.link,
        "address": row.address or "-",
        "kind": (row.kind or "?")
        if row.basis in _SURE
        else f"{row.kind or 'unknown'}: {row.basis}",
        "name": row.alias or row.name or "-",
        "identity": row.identity or "-",
        "rssi": "-" if row.rssi_dbm is None else f"{row.rssi_dbm} dBm",
        "sign of life": row.alive or "-",
        "seen": ago(row.last_seen_ns, utc_ns),
    }


_SURE = {"the configuration", "the registry"}


def ago(then_ns: int | None, now_ns: int | None) -> str:
    """`now`, `12 s ago`, `3 h ago` …; `-` while either is unknown."""
    if then_ns is None or now_ns is None:
        return "-"
    seconds = max(0, now_ns - then_ns) / 1e9
    if seconds < 2:
        return "now"
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _lines(
    rows: Sequence[Sighting], troubles: Sequence[BrainforgeError], hidden: int
) -> Iterator[str]:
    if not rows:
        yield "no device is in reach"
    if hidden:
        yield f"{hidden} Bluetooth devices of no known kind are not shown (--all)"
    for trouble in troubles:
        yield f"! {trouble}"
