"""A whole session over a real broker: every transition is told of once it is acknowledged, whoever is killed meanwhile."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from brainforge_edge.cloud.broker.embedded import BrokerKind, EmbeddedBroker
from brainforge_edge.core import topics
from brainforge_edge.core.events import SystemEvent
from brainforge_edge.outbox.events import Outbox
from brainforge_edge.storage.node import NODE_FILE
from brainforge_edge.storage.sqlite import Database
from brainforge_edge.uplink.client import Connection
from tests.broker.rig import Ingest
from tests.faults.sessionbox import MOST_S, PLAN, WORN, SessionBox, session_box

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

PHASES = (("look", 1.0), ("relax", 3600.0))
FIRST_S = 3.0
STORY = [
    "session.started",
    "devices_ready",
    "flushed",
    "look",
    "relax",
    "protocol_ended",
    "session.completed",
]


class Listener:
    """Events as a subscriber gets them, by their id; a repetition is equal to the first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: dict[str, SystemEvent] = {}

    def hear(self, topic: str, payload: bytes) -> None:
        event = msgspec.msgpack.decode(payload, type=SystemEvent)
        if event.source == "daemon":
            return
        assert topic == topics.event("box", event.event_type.value)
        with self._lock:
            assert self._events.setdefault(event.event_id, event) == event

    def story(self, session_id: str) -> list[str]:
        """What happened in a session, in the order in which it did."""
        with self._lock:
            told = [e for e in self._events.values() if e.session_id == session_id]
        words = []
        for event in sorted(told, key=lambda event: event.t_ns):
            kind, data = event.event_type.value, event.data
            if "devices" in data and "before" not in data:
                continue  # a device that was not there for a moment
            is_named = kind not in {"session.state_changed", "session.phase_changed"}
            words.append(kind if is_named else data.get("phase") or data["cause"])
        return words

    def count(self, kind: str) -> int:
        with self._lock:
            return sum(event.event_type.value == kind for event in self._events.values())


@contextmanager
def told_box(root: Path) -> Iterator[tuple[SessionBox, Listener]]:
    broker = EmbeddedBroker(root / "broker", kind=BrokerKind.MOSQUITTO)
    listener = Listener()
    try:
        port = broker.start().port
        ingest = Ingest(root / "cloud", port)
        connection = Connection(
            host="127.0.0.1", port=port, client_id="listener",
            on_message=listener.hear, on_lost=lambda _: None,
        )  # fmt: skip
        try:
            ingest.start()
            connection.open(30.0)
            connection.subscribe(topics.event("box", "+"), 1)
            with session_box(root, *PHASES, uplink=f"port = {port}") as box:
                yield box, listener
        finally:
            connection.close()
            ingest.stop()
    finally:
        broker.stop()


def waiting(box: SessionBox) -> int:
    """Events in the outbox."""
    database = Database(box.root / "box" / NODE_FILE, read_only=True)
    try:
        return Outbox(database).count()
    finally:
        database.close()


def test_every_transition_of_a_session_arrives_though_uplink_and_agent_are_killed(
    tmp_path: Path,
) -> None:
    with told_box(tmp_path) as (box, listener):
        assert box.begin(duration=FIRST_S)["state"] == "connecting"
        box.until_recording()
        assert box.ask("mark", description="eyes closed")["ok"]
        last = box.until_state("idle")["last"]
        summary = last["summary"]
        assert (last["outcome"], summary["markers"]) == ("protocol_ended", 1)
        assert [phase["lasted_s"] for phase in summary["phases"]] == [1.0, 2.0]
        told = {s["stream_id"]: (s["n_samples"], s["lost"]) for s in summary["streams"]}
        (account,) = box.verify().values()
        assert told == {
            key: (s["rows"], sum(gap["n"] for gap in s["gaps"]))
            for key, s in account.items()
            if key != "markers"
        }
        assert {"one-eeg", "two-eeg"} <= set(told)
        assert bool(summary["lost"]) == any(lost for _, lost in told.values())
        first = last["session_id"]
        box.until(lambda: listener.story(first) == STORY, MOST_S, "the events of the session")
        assert listener.count("consent.granted") == len(WORN)

        second = box.begin()["session_id"]
        for name in ("uplink", "agent"):
            os.kill(box.worker(name)["pid"], signal.SIGKILL)
        box.until_state("recording")
        box.session("emergency_stop", by="doctor")
        box.until_state("failed")
        box.session("acknowledge")
        box.until(lambda: waiting(box) == 0, MOST_S, "an empty outbox")
        box.until(lambda: listener.count("safety.emergency_stop"), MOST_S, "the emergency stop")
        box.until(
            lambda: "acknowledged" in listener.story(second),
            MOST_S,
            "the end of the second session",
        )
        story = listener.story(second)
        assert story[0] == "session.started"
        assert {"devices_ready", "flushed", "session.completed"} <= set(story)
        assert listener.story(first) == STORY
        assert box.refused("start", protocol=PLAN, devices=WORN) == "session.emergency_stop"
