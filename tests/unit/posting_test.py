"""The outbox empties into the uplink, and forgets an event only once the broker has it."""

import random
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from brainforge_edge.core import ipc
from brainforge_edge.core.events import EventType, SystemEvent
from brainforge_edge.fleet.posting import AGAIN_NS, MOST, Posting
from brainforge_edge.outbox.events import Outbox
from brainforge_edge.storage.node import open_node
from tests.unit.session_material import HandClock

RANDOM = random.Random(3)


class Desk:
    """An outbox, and what the uplink was handed."""

    def __init__(self, root: Path) -> None:
        self.clock = HandClock()
        self.database = open_node(root)
        self.outbox = Outbox(self.database)
        self.said: list[ipc.Outgoing] = []
        self.posting = Posting(self.outbox, clock=self.clock, send=self._send)

    def _send(self, message: ipc.Message) -> None:
        assert isinstance(message, ipc.Outgoing)
        self.said.append(message)

    def happened(self, kind: EventType, size: int = 1) -> SystemEvent:
        event = SystemEvent.root(
            kind, source="sessions", node_id="box", clock=self.clock, random=RANDOM.randbytes,
            data={"text": "x" * size},
        )  # fmt: skip
        self.outbox.append(event)
        return event

    def handed(self) -> list[int]:
        """Numbers, since it was asked last."""
        self.posting.advance()
        numbers = [number for message in self.said for number, _, _ in message.events]
        self.said.clear()
        return numbers


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.database.close()


def test_an_event_is_handed_over_once_until_the_uplink_starts_anew(desk: Desk) -> None:
    event = desk.happened(EventType.SESSION_STARTED)
    desk.posting.advance()
    ((number, kind, packed),) = desk.said[0].events
    assert kind == "session.started"
    assert msgspec.msgpack.decode(packed, type=SystemEvent) == event
    desk.said.clear()
    assert desk.handed() == []
    desk.posting.heard(ipc.Delivered(numbers=(), begins=True))
    assert desk.handed() == [number]
    desk.clock.now_ns += AGAIN_NS + 1
    assert desk.handed() == [number]  # the word of it may be lost
    assert desk.outbox.count() == 1
    desk.posting.heard(ipc.Delivered(numbers=(number,)))
    assert (desk.handed(), desk.outbox.count()) == ([], 0)


def test_an_emergency_stop_does_not_wait_behind_those_that_are_under_way(desk: Desk) -> None:
    for _ in range(MOST + 20):
        desk.happened(EventType.PHASE_CHANGED)
    assert desk.handed() == list(range(1, MOST + 1))
    desk.happened(EventType.EMERGENCY_STOP)
    assert desk.handed() == [MOST + 21]
    desk.posting.heard(ipc.Delivered(numbers=(MOST + 21, *range(1, MOST + 1))))
    assert desk.handed() == list(range(MOST + 1, MOST + 21))


def test_a_message_stays_below_what_a_worker_takes(desk: Desk) -> None:
    for _ in range(12):
        desk.happened(EventType.SESSION_COMPLETED, size=200_000)
    desk.posting.advance()
    sizes = [len(ipc.encode(message)) for message in desk.said]
    assert max(sizes) < ipc.MAX_MESSAGE // 2
    assert len(desk.handed()) == 10  # both
