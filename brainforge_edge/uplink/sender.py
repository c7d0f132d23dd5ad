"""Chunks under way: published, awaited, sent again, settled or left behind. Runs in: uplink process, pump thread.

Memory is bounded by what paho may hold unwritten: a payload is read when it is published, and again
for a retransmission.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from brainforge_edge.core import log, topics, wire
from brainforge_edge.core.errors import StorageError
from brainforge_edge.uplink.client import Connection
from brainforge_edge.uplink.cursor import Quarantined, Ref
from brainforge_edge.uplink.index import LogIndex
from brainforge_edge.uplink.keys import KeyDesk
from brainforge_edge.uplink.lanes import Item, Lanes, TokenBucket, Window

MOST_UNWRITTEN = 1024 * 1024  # bytes handed to paho that the kernel has not taken
MOST_REFUSALS = 5
REFUSAL_PAUSE_S = 0.5  # doubled at each refusal
_NEVER = float("inf")


class Sender:
    """The traffic of one pump; it knows nothing of hellos and links that come and go."""

    def __init__(
        self,
        *,
        node: str,
        log_id: bytes,
        index: LogIndex,
        keys: KeyDesk,
        connection: Connection,
        window: Window,
        bucket: TokenBucket,
        on_left_behind: Callable[[Ref, int, str], None],
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.refused: dict[str, Counter[str]] = {}  # stream → reason → count
        self.window = window
        self.lanes = Lanes(index, lambda key: key in window.items)
        self.held_back: Counter[str] = (
            Counter()
        )  # chunks that must not leave the box yet, by reason
        self.look_again = (
            False  # the log could not be read, or someone knows more: look at the disk
        )
        self._node = node
        self._log_id = log_id
        self._index = index
        self._keys = keys
        self._connection = connection
        self._bucket = bucket
        self._on_left_behind = on_left_behind
        self._by_mid: dict[int, Item] = {}
        self._unwritten = 0
        self._log = log.get(part="sender")

    def restart(self) -> None:
        """A new link: nothing that was handed over before will ever be written."""
        self._by_mid.clear()
        self._unwritten = 0
        self._keys.restart()
        for item in self.window.items.values():
            item.written_at, item.due = None, _NEVER

    def fill(self, now: float) -> bool:
        """Publish what the window takes; False when the link is down."""
        keys = self._keys.to_tell(self._log_id, now)
        if keys is not None:
            self._connection.publish(topics.keys(self._node), msgspec.msgpack.encode(keys), qos=1)
        while self._unwritten < MOST_UNWRITTEN:
            item = self._next(now)
            if item is None:
                return True
            if not self._publish(item):
                return self.look_again
        return True

    def send_again(self, now: float) -> bool:
        """Publish what was not receipted in time; False when the link is down."""
        for item in self.window.overdue(now):
            if self._unwritten >= MOST_UNWRITTEN:
                return True
            if not self._publish(item):
                return self.look_again
        return True

    def next_due(self, now: float) -> float:
        """When the clock, and not a message, makes something possible."""
        wait = self._bucket.wait_s(now)
        due = min((item.due for item in self.window.items.values()), default=_NEVER)
        return min(due, now + wait) if wait else due

    def waiting_since(self) -> float | None:
        """When the oldest unreceipted chunk left."""
        times = [i.written_at for i in self.window.items.values() if i.written_at is not None]
        return min(times, default=None)

    # ---- out ---------------------------------------------------------------------------------

    def _next(self, now: float) -> Item | None:
        try:
            if self.window.room(live=True):
                item = self.lanes.next_live()
                if item is not None:
                    return item
            if self.window.room(live=False) and self._bucket.wait_s(now) == 0.0:
                return self.lanes.next_backfill()
        except StorageError as error:
            self._unreadable(error)
        return None

    def _publish(self, item: Item) -> bool:
        """Read and send a chunk; False when the link is down or the log unreadable."""
        topic = topics.chunk(self._node, item.track.ref.stream_id)
        assert item.found.head is not None
        try:
            objection = self._keys.objection(item.track.ref.recording, item.found.head)
            if objection:
                self._hold_back(item, objection)
                return True
            if not self._send_key(item):
                return False
        except StorageError as error:
            self._unreadable(error)
            self.window.remove(item)
            return False
        if not self._connection.fits(topic, item.size):
            self._hold(item)
            return True
        try:
            payload = self._index.read(item.track, item.found)
        except StorageError as error:
            self._unreadable(error)
            self.window.remove(item)
            return False
        sent = self._connection.publish(topic, payload)
        if sent is None:
            return False
        if item.key not in self.window.items:
            self.window.add(item)
        item.mid = sent.mid
        item.tries += 1
        item.written_at, item.due = None, _NEVER
        self._by_mid[sent.mid] = item
        self._unwritten += item.size
        self.counts["sent"] += 1
        self.counts["bytes_sent"] += item.size
        self.counts["sent_again"] += item.tries > 1
        if not item.live:
            self._bucket.take(item.size)
        return True

    def written(self, mid: int, now: float) -> None:
        """paho has handed a message to the kernel."""
        item = self._by_mid.pop(mid, None)
        if item is not None:
            self._unwritten -= item.size
            if item.mid == mid and item.key in self.window.items:
                self.window.written(item, now)

    def _send_key(self, item: Item) -> bool:
        """The wrapped key that the chunk needs goes before it, once a link; False when it is down."""
        head = item.found.head
        assert head is not None
        keys = self._keys.to_send(item.track.ref.recording, self._log_id, head)
        if keys is None:
            return True
        payload = msgspec.msgpack.encode(keys)
        if self._connection.publish(topics.keys(self._node), payload, qos=1) is None:
            return False
        self._keys.sent(head)
        return True

    def _hold_back(self, item: Item, reason: str) -> None:
        """It stays here until the box knows more keys; looked at again with the next link or change."""
        self.window.remove(item)
        self.lanes.held.add((item.track, item.found.offset))
        if not self.held_back[reason]:
            ref = item.track.ref
            self._log.warning("chunks held back", reason=reason, recording=ref.recording)
        self.held_back[reason] += 1

    def look_at_keys(self) -> None:
        """What was held back may go if the keys that are known have changed."""
        if self.held_back and self._keys.has_changed():
            self.held_back.clear()
            self.lanes.restart()

    def _hold(self, item: Item) -> None:
        """Too large for this broker: named once per connection, tried again at the next."""
        self.window.remove(item)
        self.lanes.held.add((item.track, item.found.offset))
        ref = item.track.ref
        self._count_refusal(ref.stream_id, "oversize")
        self._log.warning(
            "chunk larger than the broker takes",
            stream=ref.stream_id,
            bytes=item.size,
            most=self._connection.max_packet,
        )
        self._on_left_behind(ref, item.found.offset, "oversize")

    def _unreadable(self, error: StorageError) -> None:
        # A segment that went away between two scans; an I/O error is named again at the next.
        level = self._log.debug if self.look_again else self._log.warning
        level("log not readable, looking again", error=str(error))
        self.look_again = True

    # ---- in ----------------------------------------------------------------------------------

    def resumed(self, now: float, *, most: int) -> None:
        """The index knows anew what is stored: settle that, send the rest again."""
        self.window.credits = most
        self.held_back.clear()
        for item in list(self.window.items.values()):
            if self._is_stored(item):
                self._settle(item)
            elif item.mid not in self._by_mid:
                item.due = min(item.due, now)
        self.lanes.restart()

    def receipted(self, receipt: wire.Receipt, now: float) -> None:
        """Settle what a receipt covers (the index has learnt it), take up what it refuses."""
        self.window.credits = receipt.credits
        for item in list(self.window.items.values()):
            if item.track.ref.stream_id == receipt.stream_id and self._is_stored(item):
                self.window.measured(item, now)
                self._settle(item)
        for refusal in receipt.refused:
            refused = self.window.items.get((refusal.segment_id, refusal.chunk_number))
            if refused is not None and refused.track.ref.stream_id == receipt.stream_id:
                self._refuse(refused, refusal.reason, now)

    def _is_stored(self, item: Item) -> bool:
        assert item.found.head is not None
        return self._index.is_stored(item.track, item.found.head)

    def _settle(self, item: Item) -> None:
        self.window.remove(item)
        self._index.done(item.track, item.found)
        self.counts["receipted"] += 1

    def _refuse(self, item: Item, reason: str, now: float) -> None:
        """Try again a few times; then leave it behind and go on."""
        self._count_refusal(item.track.ref.stream_id, reason)
        item.due = now + REFUSAL_PAUSE_S * 2.0**item.refusals
        if reason == "unknown_stream":
            return  # the aggregator asks for a hello, which makes the stream known
        if reason == "unknown_key":
            assert item.found.head is not None
            self._keys.refused(item.found.head)
            return
        item.refusals += 1
        if item.refusals >= MOST_REFUSALS:
            self.window.remove(item)
            self._index.quarantine(item.track, item.found, reason)

    def left_behind(self, ref: Ref, stretch: Quarantined) -> None:
        """A stretch of the log went into quarantine (the index calls this)."""
        facts: dict[str, Any] = {**ref._asdict(), **stretch._asdict()}
        self._log.error("chunk left behind", **facts)
        self._on_left_behind(ref, stretch.offset, stretch.reason)

    def _count_refusal(self, stream_id: str, reason: str) -> None:
        self.refused.setdefault(stream_id, Counter())[reason] += 1
