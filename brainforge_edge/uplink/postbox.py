"""Events on their way to the broker. Runs in: uplink process, pump thread.

Those of the agent's outbox are held until the broker has acknowledged them (PUBACK), and told of then:
with a new link, or process, they are published again under the same event_id. Others are published once.
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol

from brainforge_edge.core import log, topics
from brainforge_edge.core.errors import TransportError
from brainforge_edge.core.events import EventType
from brainforge_edge.uplink.client import Written
from brainforge_edge.uplink.inbox import OutEvent

EVENTS_KEPT = 1000
URGENT = EventType.EMERGENCY_STOP.value

_log = log.get(part="postbox")


class Publishes(Protocol):
    """Of a link to a broker what is needed here."""

    def publish(
        self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False
    ) -> Written | None: ...


class Postbox:
    """`delivered` is told the numbers of the outbox's events that the broker has."""

    def __init__(self, node: str, delivered: Callable[[tuple[int, ...]], None]) -> None:
        self._node = node
        self._delivered = delivered
        self._waiting: deque[OutEvent] = deque()
        self._once: deque[OutEvent] = deque(maxlen=EVENTS_KEPT)
        self._under_way: dict[int, OutEvent] = {}  # by the message's id on this link
        self._held: set[int] = set()  # numbers of the outbox
        self._acknowledged: list[int] = []  # … and not told of yet

    def put(self, event: OutEvent) -> None:
        """To be published; one of the outbox that is held already is not taken twice."""
        if event.number is None:
            self._once.append(event)
        elif event.number not in self._held:
            self._held.add(event.number)
            if event.kind == URGENT:
                self._waiting.appendleft(event)
            else:
                self._waiting.append(event)

    def send(self, connection: Publishes) -> None:
        """As much as the link takes; what the outbox keeps goes first. Tells what was acknowledged since."""
        self._tell()
        while self._waiting:
            try:
                message = self._publish(connection, self._waiting[0])
            except TransportError as error:  # larger than this broker takes: it stays in the outbox
                event = self._waiting.popleft()
                self._held.discard(event.number or 0)
                _log.error("event not sent", kind=event.kind, **error.as_dict())
                continue
            if message is None:
                break
            self._under_way[message.mid] = self._waiting.popleft()
        while self._once:
            event = self._once.popleft()
            try:
                self._publish(connection, event)
            except TransportError as error:
                _log.error("event not sent", kind=event.kind, **error.as_dict())

    def written(self, mid: int) -> None:
        """The broker acknowledged a message, if it was one of these."""
        event = self._under_way.pop(mid, None)
        if event is not None and event.number is not None:
            self._held.discard(event.number)
            self._acknowledged.append(event.number)

    def lost(self) -> None:
        """The link is gone: what was not acknowledged waits again, in its order."""
        self._tell()
        self._waiting.extendleft(reversed(self._under_way.values()))
        self._under_way.clear()

    def _tell(self) -> None:
        if self._acknowledged:
            self._delivered(tuple(self._acknowledged))
            self._acknowledged.clear()

    def _publish(self, connection: Publishes, event: OutEvent) -> Written | None:
        return connection.publish(topics.event(self._node, event.kind), event.payload, qos=1)
