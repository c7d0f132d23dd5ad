"""What comes on `desired` and `job/…`, until the agent has judged it. Runs in: uplink process, main thread and paho's.

Nothing is read here but its size. What waits is bounded: who can publish there can flood, and then
costs what one look at a topic costs. What the agent could not carry out yet, or never heard of because
it was started again, is handed over again, later and later.
"""

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from brainforge_edge.core import ipc, topics
from brainforge_edge.core.retry import backoff
from brainforge_edge.security.order import MOST_BYTES
from brainforge_edge.uplink.inbox import Heard

MOST_JOBS = 16
MOST_AT_ONCE = 4  # handed over in one beat
AGAIN_S = (5.0, 600.0)
_OURS = {topics.DESIRED, topics.JOB}
_ID = re.compile(r"[0-9a-f]{16}")  # OrderFile.id


class _Slot:
    """One document that waits."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.due = 0.0
        self.delays: Iterator[float] = backoff(*AGAIN_S)


class OrderDesk:
    """Between the broker and the agent."""

    def __init__(self, node: str, beside: Callable[[Heard], None]) -> None:
        """`beside` takes what belongs elsewhere."""
        self.topics = (topics.desired(node), topics.job(node, "+"))
        self._node = node
        self._beside = beside
        self._slots: dict[str, _Slot] = {}  # by job, "" for `desired`
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def hear(self, topic: str, payload: bytes) -> None:
        """From paho's thread, at once."""
        parsed = topics.parse(topic)
        if parsed is None or parsed[0] != self._node or parsed[1] not in _OURS:
            self._beside(Heard(topic, payload))
            return
        job = parsed[2]
        if not (_ID.fullmatch(job) if parsed[1] == topics.JOB else not job):
            self._counts["foreign"] += 1  # also a name under which nothing could be answered
        elif len(payload) > MOST_BYTES:
            self._counts["oversize"] += 1
        elif payload:  # an empty one says that what was retained is gone: nothing follows from it
            self._put(job, payload)

    def _put(self, job: str, payload: bytes) -> None:
        with self._lock:
            known = self._slots.get(job)
            if known is not None and known.payload == payload:
                return
            if job and known is None and sum(map(bool, self._slots)) >= MOST_JOBS:
                self._counts["dropped"] += 1
                return
            self._slots[job] = _Slot(payload)

    def hand_over(self, send: Callable[[ipc.Message], None], now: float) -> None:
        """What is due, a few at a time, the desired state first."""
        with self._lock:
            due = sorted((job for job, slot in self._slots.items() if slot.due <= now), key=bool)
            messages = []
            for job in due[:MOST_AT_ONCE]:
                slot = self._slots[job]
                slot.due = now + next(slot.delays)
                messages.append(ipc.Directive(job=job, payload=slot.payload))
        for message in messages:
            send(message)

    def settled(self, job: str) -> None:
        """Nothing more will become of what was handed over; what came since waits."""
        with self._lock:
            if job in self._slots and self._slots[job].due:
                del self._slots[job]

    def figures(self) -> dict[str, Any]:
        with self._lock:
            return {"waiting": len(self._slots), "refused": dict(self._counts)}
