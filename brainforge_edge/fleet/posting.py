"""Events from the outbox to the uplink and, once the broker has them, out of it. Runs in: agent process, main thread."""

from collections.abc import Callable

import msgspec

from brainforge_edge.core import ipc
from brainforge_edge.core.clock import Clock
from brainforge_edge.outbox.events import Outbox

MOST = 50  # events under way
MOST_BYTES = 1024 * 1024  # in one message
AGAIN_NS = 10_000_000_000  # nothing was delivered for so long: handed over anew, the uplink knows what it holds


class Posting:
    """Each event is handed over until the broker has it; a repetition has the same event_id."""

    def __init__(
        self, outbox: Outbox, *, clock: Clock, send: Callable[[ipc.Message], None]
    ) -> None:
        self._outbox = outbox
        self._clock = clock
        self._send = send
        self._handed: set[int] = set()
        self._moved_ns = clock.monotonic_ns()
        self.delivered = 0

    def advance(self) -> None:
        """Hand over what is not under way; urgent ones come first, also before those that are."""
        now_ns = self._clock.monotonic_ns()
        if self._handed and now_ns - self._moved_ns > AGAIN_NS:
            self._handed.clear()
        fresh: list[tuple[int, str, bytes]] = []
        size = 0
        for number, event in self._outbox.unsent(MOST):
            if number in self._handed:
                continue
            packed = msgspec.msgpack.encode(event)
            size += len(packed)
            if fresh and size > MOST_BYTES:
                break
            fresh.append((number, event.event_type.value, packed))
        if fresh:
            self._handed.update(number for number, _, _ in fresh)
            self._moved_ns = now_ns
            self._send(ipc.Outgoing(events=tuple(fresh)))

    def heard(self, message: ipc.Delivered) -> None:
        """The broker has them."""
        if message.begins:
            self._handed.clear()
            return
        self._outbox.mark_sent(message.numbers)
        self._handed.difference_update(message.numbers)
        self._moved_ns = self._clock.monotonic_ns()
        self.delivered += len(message.numbers)
