"""Rows that were in a recording and are not on this box any more. Runs in: `brainforge-edge export`.

A file that lacks them looks like one with gaps: it is not made unless that was asked for.
"""

from pathlib import Path

from brainforge_edge.core.errors import StorageError
from brainforge_edge.recorder.freed import Freed, read_gone, rows_of
from brainforge_edge.storage.files import Disk

_MOST_NAMED = 6


def gone_from(folder: Path, stream_id: str | None, disk: Disk) -> list[Freed]:
    """Segments that an export of that stream, or of all, would lack; markers go with every stream."""
    gone = read_gone(folder, disk)
    return [line for line in gone if stream_id in {None, line.stream_id} or not line.held]


def in_words(gone: list[Freed]) -> list[str]:
    """For each stream which rows lie elsewhere."""
    streams: dict[str, list[Freed]] = {}
    for line in gone:
        streams.setdefault(line.stream_id, []).append(line)
    return [
        f"{name}: {_listed([f'{r.incarnation}:{r.first}–{r.end}' for r in rows_of(lines)])}"
        for name, lines in sorted(streams.items())
    ]


def _listed(rows: list[str]) -> str:
    if not rows:
        return "markers"
    more = f" and {len(rows) - _MOST_NAMED} stretches more" if len(rows) > _MOST_NAMED else ""
    return f"rows {', '.join(rows[:_MOST_NAMED])}{more}"


def refusal(name: str, gone: list[Freed], *, is_all: bool) -> StorageError:
    """That a file would not be whole, or that nothing of it is here."""
    remedy = "Fetch it from the aggregator, or from the medium it was copied to"
    return StorageError(
        "rows_elsewhere",
        f"{name} is not {'here any more' if is_all else 'whole on this box'}",
        why=f"delivered or copied, then freed here: {'; '.join(in_words(gone))}",
        remedy=remedy if is_all else f"{remedy}; --partial exports what is left, with gaps",
    )
