"""An order as whoever signs it reads it, and as a file. Runs in: the CLI process."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from brainforge_edge.cli.output import escaped
from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.errors import SecurityError

if TYPE_CHECKING:
    from brainforge_edge.security.order import EraseOrder, OrderFile

DAY_NS = 86_400_000_000_000


def issued_now() -> int:
    """UTC in nanoseconds, for an order that is made now."""
    utc_ns = SystemClock().utc_ns()
    if utc_ns is None:
        raise SecurityError(
            "order_time_unknown",
            "no order was made",
            why="it has to say when it was issued, and this machine does not know the time yet",
            remedy="Set the clock",
        )
    return utc_ns


def encoded(file: "OrderFile") -> str:
    """An order as it lies in a file."""
    import msgspec  # noqa: PLC0415 - --help stays light

    return msgspec.json.format(msgspec.json.encode(file), indent=1).decode() + os.linesep


def order_at(path: Path) -> "OrderFile":
    """The order in a file; SecurityError for what is none, without waiting for anything."""
    from brainforge_edge.security.keystore import read_regular  # noqa: PLC0415 - --help stays light
    from brainforge_edge.security.order import read_order_file  # noqa: PLC0415

    try:
        data = read_regular(path)
    except OSError as error:
        raise SecurityError(
            "order_unreadable",
            f"{path} cannot be read",
            why=str(error.strerror).lower(),
            remedy="Name the file that `brainforge-edge erase request` wrote",
        ) from error
    return read_order_file(data)


def lines(file: "OrderFile", order: "EraseOrder") -> Iterator[str]:
    """Everything that is signed, one name a line, so that none can pass for another."""
    yield f"order         {file.id}: erase"
    yield f"participant   {escaped(order.participant) or '(nobody in particular)'}"
    for label, names, every in (
        ("recording", order.recordings, "(all)"),
        ("node", order.nodes, "(none)"),
        ("log id", order.log_ids, "(all of these nodes)"),
    ):
        for name in names or (every,):
            yield f"{label:12}  {escaped(name)}"
    yield f"reason        {escaped(order.reason)}"
    yield f"issued        {when(order.issued_utc_ns)}"
    yield f"expires       {when(order.expires_utc_ns)}"
    yield f"counter       {order.counter}"


def when(utc_ns: int) -> str:
    return datetime.fromtimestamp(utc_ns // 10**9, UTC).isoformat().replace("+00:00", "Z")
