"""Sessions that are over, as node.sqlite keeps them. Runs in: agent process, one thread."""

from typing import Any, NamedTuple

import msgspec

from brainforge_edge.storage.sqlite import Database


class Ended(NamedTuple):
    """How a session ended."""

    session_id: str
    outcome: str  # the cause that ended it
    summary: dict[str, Any] | None  # None: it was given up before it was saved


def ended(database: Database, session_id: str = "") -> Ended | None:
    """One session, or the one that ended last; None where there is no such one."""
    row = database.one(
        "SELECT session_id, outcome, summary FROM session WHERE outcome IS NOT NULL"
        " AND (?1 = '' OR session_id = ?1) ORDER BY (SELECT max(id) FROM session_step"
        " WHERE session_step.session_id = session.session_id) DESC LIMIT 1",
        (session_id,),
    )
    if row is None:
        return None
    name, outcome, data = row
    return Ended(str(name), str(outcome), None if data is None else msgspec.json.decode(data))
