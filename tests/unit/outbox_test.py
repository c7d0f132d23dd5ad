"""Events that wait: with their change or not at all, urgent ones first, none in the way of the others."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.events import EventType, SystemEvent
from brainforge_edge.outbox.events import MOST_BYTES, Outbox
from brainforge_edge.storage.node import open_node
from brainforge_edge.storage.sqlite import Database
from tests.unit.session_material import HandClock


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_node(tmp_path)
    yield opened
    opened.close()


def event(kind: EventType = EventType.CONSENT_GRANTED, **data: object) -> SystemEvent:
    return SystemEvent.root(
        kind, source="test", node_id="box", clock=HandClock(), random=os.urandom, data=data
    )


def test_events_leave_in_their_order_and_urgent_ones_first(database: Database) -> None:
    outbox = Outbox(database)
    first, second, stop = event(n=1), event(n=2), event(EventType.EMERGENCY_STOP)
    for each in (first, second, stop):
        outbox.append(each)
    waiting = outbox.unsent()
    assert [each.event for each in waiting] == [stop, first, second]
    assert outbox.unsent(1) == waiting[:1]
    outbox.mark_sent([each.id for each in waiting[:2]])
    assert [each.event for each in outbox.unsent()] == [second]
    assert outbox.count() == 1


def test_an_event_is_gone_with_the_change_that_was_undone(database: Database) -> None:
    outbox = Outbox(database)

    def change() -> None:
        with database.transaction():
            outbox.append(event())
            raise ValueError

    with pytest.raises(ValueError):
        change()
    assert outbox.unsent() == []


def test_an_event_that_nobody_could_send_is_refused(database: Database) -> None:
    outbox = Outbox(database)
    with pytest.raises(StorageError) as refused:
        outbox.append(event(text="x" * MOST_BYTES))
    assert refused.value.code == "storage.event_too_large"
    assert outbox.count() == 0


def test_an_event_that_cannot_be_read_is_in_nobodys_way(database: Database) -> None:
    outbox = Outbox(database)
    for _ in range(3):
        outbox.append(event())
    strange = b'{"event_type": "of.another_program"}'
    database.execute("UPDATE outbox SET event = ? WHERE id < 3", (strange,))
    assert outbox.unsent(2) == []
    assert [each.id for each in outbox.unsent(2)] == [3]
    assert outbox.count() == 3
