"""Hands a device's markers on, batch by batch; each waits until the agent has it on the disk.

Runs in: acquire process, main thread (the pull thread only fills the queue).
"""

from collections import deque
from collections.abc import Callable

from brainforge_edge.core import ipc
from brainforge_edge.core.block import Marker
from brainforge_edge.core.errors import from_dict

# One chunk of a marker segment: recorder/segment.py keeps 8 KiB for it.
MOST_BYTES = 6000
EACH_BYTES = 32
ANSWER_NS = 25_000_000_000  # the supervisor itself gives the agent 20 s

Entry = tuple[int, float, str]


class Markers:
    """At most one batch is under way. An agent that dies between disk and answer is asked again:
    its markers are then there twice, never not at all. What comes while no recording is open is counted, not kept."""

    def __init__(self, queue: deque[Marker], send: Callable[[ipc.Message], None]) -> None:
        self._queue = queue
        self._send = send
        self._token = 0
        self._batch: tuple[Entry, ...] = ()
        self._sent_ns: int | None = None  # while an answer is waited for
        self.stored = 0
        self.unrecorded = 0

    def advance(self, now_ns: int) -> None:
        """Each heartbeat: send what waits."""
        if self._sent_ns is not None and now_ns - self._sent_ns < ANSWER_NS:
            return
        if not self._batch:
            self._batch = self._next()
        if self._batch:
            self._token += 1
            self._sent_ns = now_ns
            self._send(ipc.Marks(marks=self._batch, token=self._token))

    def answered(self, message: ipc.MarkStored, now_ns: int) -> None:
        """Stored, refused for good, or to be sent again at the next heartbeat."""
        if message.token != self._token or not self._batch:
            return
        self._sent_ns = None
        if message.error is None:
            self.stored += len(self._batch)
        elif from_dict(message.error).transient:
            return
        else:
            self.unrecorded += len(self._batch)
        self._batch = ()
        self.advance(now_ns)

    def _next(self) -> tuple[Entry, ...]:
        taken: list[Entry] = []
        size = 0
        while self._queue:
            marker = self._queue[0]
            size += EACH_BYTES + len(marker.description.encode("utf-8", "replace"))
            if taken and size > MOST_BYTES:
                break
            self._queue.popleft()
            taken.append((marker.t_ns, marker.duration_s, marker.description))
        return tuple(taken)
