"""A broker and the ways to it, in simulated time: drops, repeats, delays, reorders, dies, and hears one side only."""

import heapq
import random
from collections.abc import Callable
from typing import Any, NamedTuple

from brainforge_edge.core.errors import TransportError
from brainforge_edge.uplink.client import Connection
from tests.faults.turns import SetClock

DEAD_AFTER_S = 12.0  # a half-open link is given up: one and a half keepalives of 8 s
MOST_DELAY_S = 3.0


class _Mail(NamedTuple):
    due_ns: int
    number: int
    link: "SimulatedLink"  # to whom
    topic: str
    payload: bytes
    mid: int  # > 0: nothing is delivered, but its sender told that it left


class Post:
    """The broker. `chance` decides what becomes of each message while `is_rough`."""

    def __init__(self, clock: SetClock, chance: random.Random) -> None:
        self.clock = clock
        self.is_up = True
        self.is_rough = False
        self.lost = 0
        self.delivered = 0
        self._chance = chance
        self._links: list[SimulatedLink] = []
        self._mail: list[_Mail] = []
        self._number = 0

    def join(self, link: "SimulatedLink") -> None:
        if not self.is_up:
            raise TransportError(
                "broker_absent", "the broker cannot be reached", why="it is down in this simulation",
                remedy="Wait until the fault is over", transient=True,
            )  # fmt: skip
        self._links.append(link)

    def leave(self, link: "SimulatedLink") -> None:
        if link in self._links:
            self._links.remove(link)

    def kill(self) -> None:
        """Every link breaks, what was under way is gone; nobody's will is told."""
        self.is_up = False
        self._mail.clear()
        for link in self._links:
            link.break_off("the broker died")
        self._links.clear()

    def cut(self, link: "SimulatedLink") -> None:
        """One link breaks; the broker tells its will."""
        if link in self._links:
            self._links.remove(link)
            link.break_off("the link was cut")
            if link.will is not None:
                self.send(None, *link.will)

    def send(self, sender: "SimulatedLink | None", topic: str, payload: bytes) -> None:
        """To every link that subscribed, or to nobody."""
        if sender is not None and sender.is_deaf_out:
            self.lost += 1
            return
        for link in self._links:
            if not link.hears(topic):
                continue
            if link.is_deaf_in or (self.is_rough and self._chance.random() < 0.1):
                self.lost += 1
                continue
            copies = 2 if self.is_rough and self._chance.random() < 0.1 else 1
            for _ in range(copies):
                late_s = self._chance.random() * MOST_DELAY_S if self.is_rough else 0.01
                self.put(late_s, link, topic, payload)

    def put(
        self, late_s: float, link: "SimulatedLink", topic: str, payload: bytes, mid: int = 0
    ) -> None:
        self._number += 1
        due = self.clock.now_ns + round(late_s * 1e9)
        heapq.heappush(self._mail, _Mail(due, self._number, link, topic, payload, mid))

    def deliver(self) -> bool:
        """All that is due; whether there was anything."""
        was_there = False
        while self._mail and self._mail[0].due_ns <= self.clock.now_ns:
            mail = heapq.heappop(self._mail)
            if mail.link not in self._links:
                continue
            was_there = True
            if mail.mid:
                mail.link.written(mail.mid)
            else:
                self.delivered += 1
                mail.link.receive(mail.topic, mail.payload)
        return was_there

    @property
    def next_ns(self) -> int | None:
        return self._mail[0].due_ns if self._mail else None


class SimulatedLink(Connection):
    """What the pump and the aggregator hold for their connection to the broker."""

    def __init__(
        self, *, post: Post, on_message: Callable[[str, bytes], None],
        on_lost: Callable[[str], None], on_written: Callable[[int], None] = lambda _mid: None,
        **_: Any,
    ) -> None:  # fmt: skip
        super().__init__(host="simulated", port=0, client_id="", on_message=on_message, on_lost=on_lost, on_written=on_written)  # fmt: skip
        self.is_deaf_in = self.is_deaf_out = False
        self.deaf_since_ns = 0
        self._post = post
        self._is_open = False
        self._topics: list[str] = []
        self._mid = 0

    @property
    def connected(self) -> bool:
        return self._is_open

    def open(self, timeout_s: float = 5.0) -> None:
        self.close()
        self._post.join(self)
        self._is_open = True

    def subscribe(self, topic: str, qos: int) -> None:
        self._topics.append(topic)

    def hears(self, topic: str) -> bool:
        return any(_matches(pattern, topic) for pattern in self._topics)

    def publish(
        self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False
    ) -> "_Sent | None":
        if not self._is_open:
            return None
        self._mid += 1
        self._post.put(0.0, self, topic, b"", self._mid)
        self._post.send(self, topic, payload)
        return _Sent(self._mid)

    def receive(self, topic: str, payload: bytes) -> None:
        self._on_message(topic, payload)

    def written(self, mid: int) -> None:
        self._on_written(mid)

    def break_off(self, why: str) -> None:
        self._is_open = False
        self._on_lost(why)

    def close(self, *, flush_s: float = 0.0) -> None:
        self._post.leave(self)
        self._is_open = self.is_deaf_in = self.is_deaf_out = False
        self._topics = []


class _Sent(NamedTuple):
    mid: int

    def is_published(self) -> bool:
        return True


def _matches(pattern: str, topic: str) -> bool:
    ours, theirs = pattern.split("/"), topic.split("/")
    return len(ours) == len(theirs) and all(
        a in ("+", b) for a, b in zip(ours, theirs, strict=True)
    )
