"""Events on their way to the uplink, in node.sqlite. Runs in: agent process, one thread.

`append` belongs into the transaction of the change that the event tells of. Publishing comes later and
may be repeated: an event leaves the table when it was sent, and its id tells a repetition.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.events import EventType, SystemEvent
from brainforge_edge.core.garbled import GARBLED
from brainforge_edge.storage.sqlite import Database

MOST_BYTES = 256 * 1024  # of one event
URGENT = frozenset({EventType.EMERGENCY_STOP})

_decoder = msgspec.json.Decoder(SystemEvent)


class Waiting(NamedTuple):
    """An event and its number in the table."""

    id: int
    event: SystemEvent


class Outbox:
    """Events that were not sent, urgent ones first, else in the order in which they happened."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, event: SystemEvent) -> None:
        """Durable with the transaction in which this is called; StorageError for one that is too large."""
        data = msgspec.json.encode(event)
        if len(data) > MOST_BYTES:
            raise StorageError(
                "event_too_large", f"the event {event.event_type} was not stored",
                why=f"it has {len(data)} bytes, and none more than {MOST_BYTES}",
                remedy="Report this as a fault of the program",
            )  # fmt: skip
        self._database.execute(
            "INSERT INTO outbox (event_id, is_urgent, event) VALUES (?, ?, ?)",
            (event.event_id, event.event_type in URGENT, data),
        )

    def unsent(self, most: int = 100) -> list[Waiting]:
        """The next ones. One that cannot be read, as after a step back to an older program, waits behind all."""
        rows = self._database.query(
            "SELECT id, event FROM outbox ORDER BY is_urgent DESC, id LIMIT ?", (most,)
        )
        found = []
        for number, data in rows:
            try:
                found.append(Waiting(number, _decoder.decode(data)))
            except GARBLED:
                self._database.execute("UPDATE outbox SET is_urgent = -1 WHERE id = ?", (number,))
        return found

    def mark_sent(self, ids: Sequence[int]) -> None:
        """They were taken by who publishes; marking twice changes nothing."""
        with self._database.transaction():
            self._database.many("DELETE FROM outbox WHERE id = ?", [(each,) for each in ids])

    def count(self) -> int:
        """How many wait."""
        row = self._database.one("SELECT count(*) FROM outbox")
        return 0 if row is None else int(row[0])
