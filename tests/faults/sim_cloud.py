"""The other end of the simulation: the uplink of the box, and the aggregator with its store."""

import random
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from brainforge_edge.cloud.ingest.subscriber import CONNECTED, Inbox, Message
from brainforge_edge.cloud.ingest.writer import Writer
from brainforge_edge.cloud.store.chunks import ChunkStore, Incoming, Placed
from brainforge_edge.codec import registry
from brainforge_edge.core import topics
from brainforge_edge.core.config import UplinkConfig
from brainforge_edge.core.errors import TransportError
from brainforge_edge.core.events import EventType
from brainforge_edge.recorder.log import read_log_id
from brainforge_edge.storage.files import SystemDisk
from brainforge_edge.uplink.cursor import CursorStore
from brainforge_edge.uplink.index import LogIndex
from brainforge_edge.uplink.keys import KeyDesk
from brainforge_edge.uplink.pump import Pump
from tests.faults.sim_box import NODE
from tests.faults.sim_network import Post, SimulatedLink
from tests.faults.turns import SetClock
from tests.unit.recorder_faulty_disk import Killed

WINDOW_CHUNKS = 16
INBOX_MESSAGES = 64


class Uplink:
    """The real pump, index and cursors; started again when it dies."""

    def __init__(self, recordings: Path, cursors: Path, post: Post, chance: random.Random, clock: SetClock) -> None:  # fmt: skip
        self._recordings = recordings
        self._path = cursors
        self._post = post
        self._chance = chance
        self._clock = clock
        self.left_behind: list[str] = []
        self.cursors: CursorStore
        self.index: LogIndex
        self.pump: Pump
        self.is_alive = False

    def start(self) -> None:
        disk = SystemDisk()
        self.cursors = CursorStore(self._path)
        self.index = LogIndex(self._recordings, self.cursors, disk, monotonic=self._clock.monotonic)
        self.pump = Pump(
            node=NODE, log_id=read_log_id(self._recordings, disk), index=self.index,
            keys=KeyDesk(self._recordings, disk, seals=False, aggregator=""),
            cursors=self.cursors, config=UplinkConfig(window_chunks=WINDOW_CHUNKS),
            clock=self._clock, random=self._chance.randbytes, emit=self._emit,
            connection=partial(SimulatedLink, post=self._post),
        )  # fmt: skip
        self.is_alive = True

    @property
    def link(self) -> SimulatedLink:
        link = self.pump.connection
        assert isinstance(link, SimulatedLink)
        return link

    def _emit(self, kind: EventType, stream_id: str, data: dict[str, Any]) -> None:
        self.left_behind.append(f"{kind.value} {stream_id} {data}")

    def turn(self) -> None:
        self.pump.wait(0.0)
        self.pump.turn()

    def die(self) -> None:
        self._post.cut(self.link)
        self.cursors.close()
        self.is_alive = False


class MortalStore(ChunkStore):
    """The real store, whose process dies in a `put`, before or after it is durable."""

    dies = ""

    def put(self, batch: Sequence[Incoming]) -> list[Placed]:
        if self.dies == "before":
            raise Killed
        if self.dies == "inside":
            self._packs.sync = self._die  # type: ignore[method-assign]
        placed = super().put(batch)
        if self.dies:
            raise Killed
        return placed

    def _die(self) -> None:
        raise Killed


class Aggregator:
    """The real writer and store behind a simulated link."""

    def __init__(self, folder: Path, post: Post, clock: SetClock) -> None:
        self._root = folder / "cloud"
        self._backup = folder / "backup"
        self._post = post
        self._clock = clock
        self.store: MortalStore
        self.writer: Writer
        self.inbox: Inbox
        self.link: SimulatedLink
        self.is_alive = False
        self.restored = 0
        self.most_fill = 0.0

    @property
    def root(self) -> Path:
        return self._root

    @property
    def has_backup(self) -> bool:
        return self._backup.exists()

    def start(self) -> None:
        self._root.mkdir(exist_ok=True)
        self.store = MortalStore(self._root, decode=registry.decode)
        self.inbox = Inbox(max_messages=INBOX_MESSAGES)
        self.link = SimulatedLink(
            post=self._post,
            on_message=lambda topic, payload: self.inbox.offer(Message(topic, payload)),
            on_lost=lambda _: None,
        )
        self.writer = Writer(
            self.store, self.inbox,
            lambda topic, payload: self.link.publish(topic, payload, qos=1) is not None,
            monotonic_ns=self._clock.monotonic_ns, sleep=self._clock.sleep,
        )  # fmt: skip
        self.is_alive = True

    def turn(self) -> None:
        """As subscriber and writer do."""
        if not self.link.connected:
            try:
                self.link.open()
            except TransportError:
                return
            self.link.subscribe(topics.chunk("+", "+"), 0)
            self.link.subscribe(topics.hello("+"), 1)
            self.inbox.offer(CONNECTED)
        self.most_fill = max(self.most_fill, self.inbox.fill)
        try:
            self.writer.step(0.0)
        except Killed:
            self.die()

    def die(self) -> None:
        """What was not committed is not there; the broker sees the link break."""
        if self.is_alive:
            self._post.cut(self.link)
            self.store.close()
            self.is_alive = False

    def back_up(self) -> None:
        self.die()
        shutil.rmtree(self._backup, ignore_errors=True)
        shutil.copytree(self._root, self._backup)

    def restore(self) -> None:
        """The store of the last backup, with a new generation: as the operator is told to."""
        self.die()
        shutil.rmtree(self._root)
        shutil.copytree(self._backup, self._root)
        self.restored += 1
        store = ChunkStore(self._root, decode=registry.decode)
        for _ in range(self.restored):
            store.raise_generation()
        store.close()
