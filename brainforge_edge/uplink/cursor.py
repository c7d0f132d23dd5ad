"""How far the log has been receipted, in a file of its own. Runs in: uplink process, pump thread.

Losing it costs only bandwidth: the aggregator's answer to hello says what need not be sent again.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from brainforge_edge.core.wire import Range
from brainforge_edge.storage.sqlite import Database

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE segment (
        recording TEXT NOT NULL,
        stream_id TEXT NOT NULL,
        segment TEXT NOT NULL,
        segment_id BLOB NOT NULL,
        stream_number INTEGER NOT NULL,
        product INTEGER NOT NULL,
        cursor INTEGER NOT NULL,        -- bytes before it are receipted or in quarantine
        chunks INTEGER NOT NULL,        -- … that many chunks
        receipted BLOB NOT NULL,        -- msgpack of the ranges receipted before the cursor
        PRIMARY KEY (recording, stream_id, segment)
    ) WITHOUT ROWID;
    CREATE TABLE quarantine (
        recording TEXT NOT NULL,
        stream_id TEXT NOT NULL,
        segment TEXT NOT NULL,
        "offset" INTEGER NOT NULL,
        length INTEGER NOT NULL,
        reason TEXT NOT NULL,
        PRIMARY KEY (recording, stream_id, segment, "offset")
    ) WITHOUT ROWID;
    """,
)


class Ref(NamedTuple):
    """A segment's place below the recordings folder."""

    recording: str
    stream_id: str
    segment: str


class SegmentCursor(msgspec.Struct, frozen=True):
    """What is kept of one segment."""

    ref: Ref
    segment_id: bytes
    stream_number: int
    product: int
    cursor: int
    chunks: int
    receipted: tuple[Range, ...]


class Quarantined(NamedTuple):
    """A stretch of a segment that the aggregator will not have, or that cannot be read."""

    offset: int
    length: int
    reason: str


class CursorStore:
    """uplink.sqlite. The generation is remembered by who signs: what was forged before counts for nothing after."""

    def __init__(self, path: Path, *, signer: str = "") -> None:
        """`signer` is the id of the aggregator's key, "" if none is known."""
        self._generation_key = f"generation {signer}".rstrip()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = Database(path, migrations=MIGRATIONS)

    def close(self) -> None:
        self._database.close()

    @property
    def generation(self) -> int:
        row = self._database.one("SELECT value FROM meta WHERE key = ?", (self._generation_key,))
        return 0 if row is None else int(row[0])

    def set_generation(self, generation: int) -> None:
        self._database.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
            (self._generation_key, generation),
        )

    def segments(self) -> list[SegmentCursor]:
        return [
            SegmentCursor(
                Ref(row[0], row[1], row[2]),
                row[3],
                row[4],
                row[5],
                row[6],
                row[7],
                msgspec.msgpack.decode(row[8], type=tuple[Range, ...]),
            )
            for row in self._database.query("SELECT * FROM segment")
        ]

    def save(self, cursors: Iterable[SegmentCursor]) -> None:
        """Durable as a whole; a cursor may move back."""
        with self._database.transaction():
            self._database.many(
                "INSERT OR REPLACE INTO segment VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (*c.ref, c.segment_id, c.stream_number, c.product, c.cursor, c.chunks,
                     msgspec.msgpack.encode(c.receipted))
                    for c in cursors
                ],
            )  # fmt: skip

    def forget(self, refs: Iterable[Ref]) -> None:
        """Segments that are no longer on the disk."""
        with self._database.transaction():
            for table in ("segment", "quarantine"):
                self._database.many(
                    f"DELETE FROM {table} WHERE recording = ? AND stream_id = ? AND segment = ?",  # noqa: S608 (two constants)
                    list(refs),
                )

    def quarantine(self, ref: Ref, stretch: Quarantined) -> None:
        self._database.execute(
            "INSERT OR REPLACE INTO quarantine VALUES (?, ?, ?, ?, ?, ?)", (*ref, *stretch)
        )

    def quarantined(self) -> dict[Ref, list[Quarantined]]:
        found: dict[Ref, list[Quarantined]] = {}
        for row in self._database.query("SELECT * FROM quarantine"):
            found.setdefault(Ref(*row[:3]), []).append(Quarantined(*row[3:]))
        return found


def delivered_bytes(path: Path) -> dict[bytes, int]:
    """Segment id → bytes before its cursor, read beside the process that writes them; {} where there is no file."""
    if not path.exists():
        return {}
    database = Database(path, read_only=True)
    try:
        return dict(database.query("SELECT segment_id, cursor FROM segment"))
    finally:
        database.close()
