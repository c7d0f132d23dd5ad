"""The aggregator's end of MQTT: messages in, bounded; receipts out. Runs in: ingest, its link thread and paho's."""

import threading
import time
from collections import deque
from typing import NamedTuple

from brainforge_edge.core import log, topics
from brainforge_edge.core.errors import TransportError
from brainforge_edge.core.retry import backoff
from brainforge_edge.security.tls import TlsFiles
from brainforge_edge.uplink.client import STEADY_S, Connection

MAX_QUEUED_BYTES = 64 * 1024 * 1024
MAX_QUEUED_MESSAGES = 4096


class Message(NamedTuple):
    topic: str
    payload: bytes


CONNECTED = Message("", b"connected")  # queued when a link was made: everyone is asked for a hello


class Inbox:
    """Messages between paho's thread and the writer. Full means dropped: the boxes send again."""

    def __init__(
        self, *, max_bytes: int = MAX_QUEUED_BYTES, max_messages: int = MAX_QUEUED_MESSAGES
    ) -> None:
        self.dropped = 0
        self._max_bytes = max_bytes
        self._max_messages = max_messages
        self._queue: deque[Message] = deque()
        self._bytes = 0
        self._ready = threading.Condition()

    def offer(self, message: Message) -> None:
        with self._ready:
            full = self._bytes + len(message.payload) > self._max_bytes
            if message.topic and (full or len(self._queue) >= self._max_messages):
                self.dropped += 1
                return
            self._queue.append(message)
            self._bytes += len(message.payload)
            self._ready.notify()

    def take(self, timeout_s: float, *, most_bytes: int) -> list[Message]:
        """All that waits, up to about `most_bytes`; empty after the time-out."""
        with self._ready:
            if not self._queue:
                self._ready.wait(timeout_s)
            taken: list[Message] = []
            size = 0
            while self._queue and size < most_bytes:
                message = self._queue.popleft()
                size += len(message.payload)
                taken.append(message)
            self._bytes -= size
            return taken

    @property
    def fill(self) -> float:
        """0 empty … 1 full."""
        return max(self._bytes / self._max_bytes, len(self._queue) / self._max_messages)


class Subscriber:
    """Keeps a link to the broker and the subscriptions on it."""

    def __init__(
        self,
        inbox: Inbox,
        *,
        host: str,
        port: int,
        client_id: str,
        keepalive_s: int = 8,
        protocol: int = 5,
        tls: TlsFiles | None = None,
    ) -> None:
        self._inbox = inbox
        self._stopping = threading.Event()
        self._lost = threading.Event()
        self._log = log.get(part="subscriber")
        self._connection = Connection(
            host=host,
            port=port,
            client_id=client_id,
            on_message=lambda topic, payload: inbox.offer(Message(topic, payload)),
            on_lost=lambda _reason: self._lost.set(),
            keepalive_s=keepalive_s,
            protocol=protocol,
            tls=tls,
        )
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def connected(self) -> bool:
        return self._connection.connected

    @property
    def protocol(self) -> int:
        return self._connection.protocol

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        """QoS 1, as far as the link lasts; a lost receipt is made up for by the next."""
        try:
            return self._connection.publish(topic, payload, qos=1, retain=retain) is not None
        except TransportError as error:
            self._log.warning("message not sent", error=str(error))
            return False

    def close(self) -> None:
        self._stopping.set()
        self._lost.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        delays = backoff(0.1, 5.0)
        quiet = False
        while not self._stopping.is_set():
            self._lost.clear()
            try:
                self._connection.open()
            except TransportError as error:
                (self._log.debug if quiet else self._log.warning)("broker absent", error=str(error))
                quiet = True
                self._stopping.wait(next(delays))
                continue
            self._log.info("connected", broker=self._connection.broker, protocol=self.protocol)
            since, quiet = time.monotonic(), False
            # Chunks at most once, hellos at least once.
            self._connection.subscribe(topics.chunk("+", "+"), 0)
            self._connection.subscribe(topics.hello("+"), 1)
            self._connection.subscribe(topics.keys("+"), 1)
            self._connection.subscribe(topics.claim("+"), 1)
            self._connection.subscribe(topics.reported("+"), 1)
            self._connection.subscribe(topics.job_status("+", "+"), 1)
            self._inbox.offer(CONNECTED)
            while not self._stopping.is_set() and not self._lost.wait(1.0):
                if not self._connection.connected:
                    break
            if time.monotonic() - since >= STEADY_S:
                delays = backoff(0.1, 5.0)
            else:
                self._stopping.wait(next(delays))
        self._connection.close(flush_s=1.0)
