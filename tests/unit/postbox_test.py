"""Events of the outbox at the uplink: held until the broker has them, an emergency stop before all others."""

from typing import NamedTuple

from brainforge_edge.core.errors import TransportError
from brainforge_edge.uplink.inbox import OutEvent
from brainforge_edge.uplink.postbox import URGENT, Postbox


class Sent(NamedTuple):
    mid: int

    def is_published(self) -> bool:
        return False


class Link:
    """Takes `room` messages, none larger than 100 bytes."""

    def __init__(self, room: int = 1000) -> None:
        self.room = room
        self.sent: list[tuple[str, bytes]] = []

    def publish(
        self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False
    ) -> Sent | None:
        assert (qos, retain) == (1, False)
        if len(payload) > 100:
            raise TransportError("oversize", "it was not sent", why="size", remedy="None")
        if len(self.sent) == self.room:
            return None
        self.sent.append((topic, payload))
        return Sent(len(self.sent))


def posted(*numbers: int, kind: str = "session.started") -> list[OutEvent]:
    return [OutEvent(kind, str(number).encode(), number) for number in numbers]


def put(postbox: Postbox, events: list[OutEvent]) -> None:
    for event in events:
        postbox.put(event)


def test_what_was_not_acknowledged_is_published_again_with_the_next_link() -> None:
    told: list[tuple[int, ...]] = []
    postbox = Postbox("box", told.append)
    put(postbox, posted(1, 2, 3))
    first, second = Link(), Link()
    postbox.send(first)
    assert [payload for _, payload in first.sent] == [b"1", b"2", b"3"]
    postbox.written(2)
    put(postbox, posted(1, 3))  # handed over once more, while they are under way
    postbox.lost()
    assert told == [(2,)]
    postbox.written(3)  # of the link that is gone
    postbox.send(second)
    assert [payload for _, payload in second.sent] == [b"1", b"3"]
    postbox.written(1)
    postbox.written(2)
    postbox.send(second)
    assert told == [(2,), (1, 3)]
    put(postbox, posted(1))  # the agent did not hear of it: told again, under the same number
    postbox.send(second)
    assert len(second.sent) == 3


def test_an_emergency_stop_leaves_first_and_a_full_link_waits() -> None:
    postbox = Postbox("box", lambda _: None)
    put(postbox, [*posted(1, 2), *posted(3, kind=URGENT)])
    link = Link(room=2)
    postbox.send(link)
    assert [payload for _, payload in link.sent] == [b"3", b"1"]
    link.room = 3
    postbox.send(link)
    assert link.sent[2][1] == b"2"


def test_one_that_the_broker_does_not_take_holds_up_no_other() -> None:
    told: list[tuple[int, ...]] = []
    postbox = Postbox("box", told.append)
    put(postbox, [OutEvent("a", bytes(200), 1), OutEvent("b", bytes(200)), *posted(2)])
    link = Link()
    postbox.send(link)
    postbox.written(1)
    postbox.send(link)
    assert told == [(2,)]
