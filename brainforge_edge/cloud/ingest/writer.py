"""The single writer: verify, store durably, then receipt. Runs in: ingest, writer thread.

Nothing a box sends can stop it: what cannot be stored is counted and refused with a reason. A
failing disk is: no receipts go out, the boxes keep everything and send again.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from brainforge_edge.cloud.ingest.claims import Claims
from brainforge_edge.cloud.ingest.dispatch import Dispatch
from brainforge_edge.cloud.ingest.logs import PROBE_S, LogRegistry
from brainforge_edge.cloud.ingest.subscriber import CONNECTED, Inbox, Message
from brainforge_edge.cloud.store.chunks import ChunkStore, Incoming, Outcome, Placed, StreamKey
from brainforge_edge.cloud.store.keys import entry_of
from brainforge_edge.core import log, topics, wire
from brainforge_edge.core.errors import ConfigError, StorageError
from brainforge_edge.core.garbled import GARBLED
from brainforge_edge.core.ids import checked_name
from brainforge_edge.core.retry import backoff
from brainforge_edge.recorder.chunk import ChunkDamaged, read_head
from brainforge_edge.security.sign import Signer, acknowledging

BATCH_BYTES = 16 * 1024 * 1024
CREDITS = 64
_SECOND_NS = 1_000_000_000


class Post(Protocol):
    def __call__(self, topic: str, payload: bytes) -> bool: ...


@dataclass(slots=True)
class StreamCount:
    """What one stream of one log brought since this process started."""

    chunks: int = 0
    rows: int = 0
    duplicates: int = 0
    bytes: int = 0
    refused: Counter[str] = field(default_factory=Counter)


class Writer:
    """Drains the inbox into the store in batches; `step` is one batch."""

    def __init__(
        self,
        store: ChunkStore,
        inbox: Inbox,
        post: Post,
        *,
        signer: Signer | None = None,
        dispatch: Dispatch | None = None,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
        probe_s: float = PROBE_S,
    ) -> None:
        self.counts: dict[StreamKey, StreamCount] = {}
        self.ignored: Counter[str] = Counter()  # messages that belong to nobody, by reason
        self.failing = ""
        self.logs = LogRegistry(probe_s=probe_s)
        self.claims = Claims(
            store, signer, lambda node, answer: self._say(topics.ack(node, topics.LOG), answer)
        )
        self._store = store
        self._inbox = inbox
        self._post = post
        self._signer = signer
        self._dispatch = dispatch
        self._monotonic_ns = monotonic_ns
        self._sleep = sleep
        self._log = log.get(part="writer")
        self._pauses = backoff(0.2, 10.0)
        self._asked: dict[str, float] = {}

    def step(self, timeout_s: float = 0.1) -> None:
        """One batch: at most `timeout_s` of waiting, then a group commit, its receipts, a claim."""
        chunks: list[Incoming] = []
        patience_s = 0.0 if self.claims.waiting else timeout_s
        for message in self._inbox.take(patience_s, most_bytes=BATCH_BYTES):
            if message is CONNECTED:
                self.logs.forget()
                if self._dispatch is not None:
                    self._dispatch.restart()
                for node in sorted(set(self._store.nodes().values())):
                    self._ask(node, "started")
                continue
            parsed = topics.parse(message.topic)
            if parsed is None or not _named(parsed[0]):
                self._ignore("foreign_topic", message)
            elif parsed[1] == "chunk" and _named(parsed[2]):
                chunks.append(Incoming(parsed[0], parsed[2], message.payload))
            elif parsed[1] == "hello" and not parsed[2]:
                # What came before a hello is stored before it is answered.
                self._store_batch(chunks)
                chunks = []
                self._hello(parsed[0], message)
            else:
                self._other(parsed, message)
        self._store_batch(chunks)
        for hello in self.logs.ripe(self._now()):
            self._welcome(hello)
        self.claims.step()
        if self._dispatch is not None:
            self._dispatch.step(self._now())

    def _other(self, parsed: tuple[str, str, str], message: Message) -> None:
        """What changes nothing about chunks that came before it."""
        node, kind, name = parsed
        if kind == "keys" and not name:
            self._keys(node, message)
        elif kind == "claim" and not name:
            self._claim(node, message)
        elif kind in {topics.REPORTED, topics.JOB_STATUS} and self._dispatch is not None:
            reason = self._dispatch.hear(node, kind, name, message.payload)
            if reason:
                self._ignore(reason, message)
        else:
            self._ignore("foreign_topic", message)

    def _say(self, topic: str, word: msgspec.Struct) -> bool:
        """Publish, signed if there is a key for it."""
        body = msgspec.msgpack.encode(word)
        if self._signer is not None:
            body = msgspec.msgpack.encode(self._signer.sign(acknowledging(topic), body))
        return self._post(topic, body)

    # ---- hello -------------------------------------------------------------------------------

    def _hello(self, node: str, message: Message) -> None:
        try:
            hello = msgspec.msgpack.decode(message.payload, type=wire.Hello)
            for stream in hello.streams:
                checked_name(stream.stream_id, "the stream id")
        except (*GARBLED, ConfigError):
            self._ignore("garbage_hello", message)
            return
        numbers_fit = all(0 <= stream.number < 2**32 for stream in hello.streams)
        if hello.node != node or len(hello.log_id) != 16 or not numbers_fit:
            self._ignore("garbage_hello", message)
            return
        verdict, rival = self.logs.hear(hello, self._now())
        if rival is not None:
            self._log.warning("clone refused", node=rival.node, log_id=rival.log_id.hex())
            self._resume(rival, refused="clone")
        if verdict == "welcome":
            self._welcome(hello)
        elif verdict == "probe":
            known = self._store.nodes().get(hello.log_id)
            for other in {node, known or node}:
                self._ask(other, "who_is_there", now=True)

    def _welcome(self, hello: wire.Hello) -> None:
        try:
            contradictions = self._store.register(hello.node, hello.log_id, hello.streams)
        except StorageError as error:
            self._fail(error)
            return
        if contradictions:
            self.ignored["contradicting_stream"] += contradictions
        self._resume(hello)

    def _resume(self, hello: wire.Hello, *, refused: str = "") -> None:
        reply = wire.Resume(
            log_id=hello.log_id,
            answers=hello.token,
            streams=() if refused else self._store.inventory(hello.log_id),
            others=() if refused else self._store.others(hello.log_id),
            credits=self._credits(),
            store_generation=self._store.generation,
            refused=refused,
        )
        self._say(topics.ack(hello.node, topics.LOG), reply)

    def _ask(self, node: str, reason: str, *, now: bool = False) -> None:
        """Ask a node for a hello; at most once a second unless it matters now."""
        if not now and self._now() - self._asked.get(node, -1.0) < 1.0:
            return
        if len(self._asked) > 10_000:
            self._asked.clear()
        self._asked[node] = self._now()
        self._say(topics.ack(node, topics.LOG), wire.Ask(reason))

    # ---- claims ------------------------------------------------------------------------------

    def _claim(self, node: str, message: Message) -> None:
        reason = self.claims.hear(node, message.payload)
        if reason:
            self._ignore(reason, message)
        if reason == "foreign_claim":
            self._ask(node, "unknown_log")

    # ---- keys --------------------------------------------------------------------------------

    def _keys(self, node: str, message: Message) -> None:
        """Wrapped data keys, of the log that this node speaks for; stored before what they open."""
        try:
            keys = msgspec.msgpack.decode(message.payload, type=wire.Keys)
            entries = [entry_of(key) for key in keys.keys]
        except (*GARBLED, ValueError):
            self._ignore("malformed_keys", message)
            return
        if self._store.nodes().get(keys.log_id) != node:
            self._ignore("foreign_keys", message)
            self._ask(node, "unknown_log")
            return
        try:
            for entry in entries:
                refused = self._store.keys.add(keys.log_id, entry)
                if refused:
                    self._ignore(refused, message)
        except StorageError as error:
            self._fail(error)

    # ---- chunks ------------------------------------------------------------------------------

    def _store_batch(self, batch: Sequence[Incoming]) -> None:
        if not batch:
            return
        try:
            placed = self._store.put(batch)
        except StorageError as error:
            self._fail(error)
            return
        if self.failing:
            self._log.info("store works again")
            self.failing = ""
            self._pauses = backoff(0.2, 10.0)
        touched: dict[tuple[str, StreamKey], _Answer] = {}
        for incoming, result in zip(batch, placed, strict=True):
            self._account(incoming, result, touched)
        for (node, key), answer in touched.items():
            self._receipt(node, key, answer)

    def _account(
        self, incoming: Incoming, result: Placed, touched: "dict[tuple[str, StreamKey], _Answer]"
    ) -> None:
        chunk = result.chunk
        if chunk is None:
            self._refuse_damaged(incoming, result.reason, touched)
            return
        key = StreamKey(chunk.log_id, chunk.product, incoming.stream_id)
        answer = touched.setdefault((incoming.node, key), _Answer())
        if result.outcome is Outcome.REFUSED and self._store.nodes().get(chunk.log_id) is None:
            # A log nobody introduced may be anything: no counters of its own.
            self.ignored["unknown_log"] += 1
            self._ask(incoming.node, "unknown_log")
            answer.refused.append(wire.Refusal(chunk.segment_id, chunk.number, result.reason))
            return
        count = self.counts.setdefault(key, StreamCount())
        if result.outcome is Outcome.REFUSED:
            count.refused[result.reason] += 1
            answer.refused.append(wire.Refusal(chunk.segment_id, chunk.number, result.reason))
            if result.reason == "unknown_stream":
                self._ask(incoming.node, "unknown_log")
            return
        if result.outcome is Outcome.DUPLICATE:
            count.duplicates += 1
        else:
            count.chunks += 1
            count.rows += result.rows
            count.bytes += len(incoming.data)
        if chunk.n_samples:
            answer.incarnations.add(chunk.incarnation)
        else:
            answer.others.append((chunk.segment_id, chunk.number))

    def _refuse_damaged(
        self,
        incoming: Incoming,
        reason: str,
        touched: "dict[tuple[str, StreamKey], _Answer]",
    ) -> None:
        """Bytes that are no chunk: named to the sender if at least the header can be trusted."""
        self.ignored["damaged_chunk"] += 1
        try:
            head = read_head(incoming.data)
        except ChunkDamaged:
            key = StreamKey(bytes(16), 0, incoming.stream_id)
            refusal = wire.Refusal(bytes(16), 0, reason)
        else:
            key = StreamKey(head.log_id, head.product, incoming.stream_id)
            refusal = wire.Refusal(head.segment_id, head.number, reason)
        touched.setdefault((incoming.node, key), _Answer()).refused.append(refusal)

    def _receipt(self, node: str, key: StreamKey, answer: "_Answer") -> None:
        receipt = wire.Receipt(
            log_id=key.log_id,
            product=key.product,
            stream_id=key.stream_id,
            ranges=self._store.ranges(key, answer.incarnations),
            refused=tuple(answer.refused),
            credits=self._credits(),
            store_generation=self._store.generation,
            others=tuple(answer.others),
        )
        self._say(topics.ack(node, key.stream_id), receipt)

    def _credits(self) -> int:
        return max(1, round(CREDITS * (1.0 - self._inbox.fill)))

    def _fail(self, error: StorageError) -> None:
        level = self._log.debug if self.failing else self._log.error
        level("store failed, no receipts", error=str(error))
        self.failing = str(error)
        self._sleep(next(self._pauses))

    def _ignore(self, reason: str, message: Message) -> None:
        self.ignored[reason] += 1
        self._log.debug("message ignored", reason=reason, topic=message.topic[:200])

    def _now(self) -> float:
        return self._monotonic_ns() / _SECOND_NS

    def status(self) -> dict[str, Any]:
        """For status.json: totals and counts per stream since the start."""
        return {
            "failing": self.failing,
            "ignored": dict(self.ignored),
            "dropped": self._inbox.dropped,
            "clones": self.logs.clones,
            "attested": self.claims.attested,
            "denied": dict(self.claims.denied),
            "claims_waiting": self.claims.waiting,
            "streams": [
                {
                    "log_id": key.log_id.hex(),
                    "node": self._store.nodes().get(key.log_id, ""),
                    "product": key.product,
                    "stream_id": key.stream_id,
                    "chunks": count.chunks,
                    "rows": count.rows,
                    "duplicates": count.duplicates,
                    "refused": dict(count.refused),
                    "bytes": count.bytes,
                    "stored_rows": sum(r.end - r.first for r in self._store.ranges(key)),
                }
                for key, count in sorted(self.counts.items())
            ],
        }


@dataclass(slots=True)
class _Answer:
    """What one receipt will say about one stream."""

    incarnations: set[int] = field(default_factory=set)
    refused: list[wire.Refusal] = field(default_factory=list)
    others: list[tuple[bytes, int]] = field(default_factory=list)


def _named(name: str) -> bool:
    try:
        checked_name(name, "the name")
    except ConfigError:
        return False
    return True
