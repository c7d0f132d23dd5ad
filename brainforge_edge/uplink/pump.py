"""Log → publish → receipt → cursor. Runs in: uplink process, pump thread; others only put into its inbox.

Nothing is sent before the aggregator has answered a hello: a broker without an aggregator costs
nothing but a hello now and then.
"""

import queue
from collections.abc import Callable
from typing import Any

from brainforge_edge.core import ipc, log, topics, wire
from brainforge_edge.core.clock import Clock
from brainforge_edge.core.config import UplinkConfig
from brainforge_edge.core.errors import StorageError, TransportError
from brainforge_edge.core.events import EventType
from brainforge_edge.core.retry import backoff
from brainforge_edge.security.sign import Verifier
from brainforge_edge.security.tls import TlsFiles
from brainforge_edge.uplink.acks import OUTDATED, Acks
from brainforge_edge.uplink.claims import Claims
from brainforge_edge.uplink.client import STEADY_S, Connection
from brainforge_edge.uplink.cursor import CursorStore, Ref
from brainforge_edge.uplink.figures import figures
from brainforge_edge.uplink.hello import greeting, parting
from brainforge_edge.uplink.inbox import Emit, Heard, Inbox, Link, Lost, OutEvent, Word, Written
from brainforge_edge.uplink.index import LogIndex
from brainforge_edge.uplink.keys import KeyDesk
from brainforge_edge.uplink.lanes import TokenBucket, Window
from brainforge_edge.uplink.orderdesk import OrderDesk
from brainforge_edge.uplink.postbox import Postbox
from brainforge_edge.uplink.sender import Sender

SAVE_EVERY_S = 1.0
SCAN_EVERY_S = 10.0
CLONE_PAUSE_S = 30.0
RETRY_MOST_S = 10.0  # a broker that is back is used again within this time
_IDLE_S = 0.25


class Pump:
    """One log on its way to one aggregator; `run` is the thread's body, `turn` and `wait` by turns."""

    def __init__(
        self,
        *,
        node: str,
        log_id: bytes,
        index: LogIndex,
        keys: KeyDesk,
        cursors: CursorStore,
        config: UplinkConfig,
        clock: Clock,
        random: Callable[[int], bytes],
        emit: Emit,
        delivered: Callable[[tuple[int, ...]], None] = lambda _numbers: None,
        verifier: Verifier | None = None,
        connection: Callable[..., Connection] = Connection,
    ) -> None:
        self.inbox: Inbox = queue.SimpleQueue()
        self.desk = OrderDesk(node, self.inbox.put)
        self.connection = connection(
            host=config.host,
            port=config.port,
            client_id=f"bf-{node}-{random(6).hex()}",
            on_message=self.desk.hear,
            on_lost=lambda reason: self.inbox.put(Lost(reason)),
            on_written=lambda mid: self.inbox.put(Written(mid)),
            keepalive_s=config.keepalive_s,
            protocol=config.protocol,
            tls=TlsFiles.of(config.tls),
        )
        self.stats: dict[str, Any] = {}
        self._node = node
        self._log_id = log_id
        self._index = index
        self._cursors = cursors
        self._clock = clock
        self._random = random
        self._emit = emit
        life = random(8).hex()  # this process, as against a clone with the same log
        self._hello = wire.Hello(node, log_id, life, ())
        self._parting = parting(self._hello)
        self.sender = Sender(
            node=node,
            log_id=log_id,
            index=index,
            keys=keys,
            connection=self.connection,
            window=Window(config.window_chunks, config.window_bytes),
            bucket=TokenBucket(config.backfill_bytes_s, self._now()),
            on_left_behind=self.left_behind,
        )
        index.on_damage = self.sender.left_behind
        self.acks = Acks(node, log_id, verifier, emit)
        self.claims = Claims(index, node=node, log_id=log_id, verifier=verifier, random=random)
        self._post = Postbox(node, delivered)
        self._generation = cursors.generation
        self._has_void = False  # attestations that are still to be set aside
        self._link = Link.NO_BROKER
        self._token = ""
        self._hello_due = self._last_heard = self._next_save = self._next_scan = 0.0
        self._hello_delays = backoff(0.5, 15.0)
        self._stop_by: float | None = None
        self._is_serving = self._is_lost = self._quiet = False
        self._served_since = self._connect_due = 0.0
        self._connect_delays = backoff(0.5, RETRY_MOST_S)
        self._log = log.get(part="pump")

    def stop(self, drain_s: float = 0.0) -> None:
        """From any thread: send what is left for at most `drain_s`, save, say goodbye, end `run`."""
        self._stop_by = self._now() + drain_s
        self.inbox.put(None)

    @property
    def _stopping(self) -> bool:
        """Told to stop, and nothing more can be delivered in the time that was given."""
        if self._stop_by is None:
            return False
        is_open = self._link is Link.OPEN and self.connection.connected
        is_done = self.inbox.empty() and not self._index.lag()[0]
        return not is_open or is_done or self._now() >= self._stop_by

    def look_again(self) -> None:
        """From any thread: look through the log now, not at the next turn."""
        self.sender.look_again = True
        self.inbox.put(None)

    def run(self) -> None:
        try:
            while not self._stopping:
                self.wait(self.turn())
        finally:
            self._goodbye()
            self._save()

    def turn(self) -> float:
        """Everything that is due; seconds until the clock, and not a message, makes something due."""
        self._housekeeping()
        if self._is_serving and (self._is_lost or not self.connection.connected):
            self._lose()
        if not self._is_serving and not self._find_broker():
            return min(1.0, self._connect_due - self._now())
        now = self._now()
        if self._link is Link.OPEN:
            self._post.send(self.connection)
            self._is_lost |= not (self.sender.send_again(now) and self.sender.fill(now))
            self.claims.ask(self.connection, now)
            self._mind_silence(now)
        elif now >= self._hello_due:
            self._say_hello(now)
        return self._until_next(self._now())

    # ---- connection --------------------------------------------------------------------------

    def _find_broker(self) -> bool:
        """Connect if that is due; whether there is a link."""
        if self._now() < self._connect_due:
            return False
        try:
            self._connect()
        except TransportError as error:
            self._say_once("broker absent, will try again", error=str(error))
            self._connect_due = self._now() + next(self._connect_delays)
            return False
        self._is_serving, self._served_since = True, self._now()
        return True

    def _connect(self) -> None:
        self.connection.will = (topics.hello(self._node), self._parting)
        self._is_lost = False
        self.connection.open()
        self._quiet = False
        self._log.info(
            "connected", broker=self.connection.broker, protocol=self.connection.protocol
        )
        for topic in (topics.ack(self._node, "+"), *self.desk.topics):
            self.connection.subscribe(topic, 1)
        self.acks.restart()
        self.sender.restart()
        self._ask_anew()

    def _goodbye(self) -> None:
        if self.connection.connected:
            self.connection.publish(topics.hello(self._node), self._parting, qos=1)
        self.connection.close(flush_s=1.0)

    def _ask_anew(self) -> None:
        self._link = Link.ASKING
        self._hello_delays = backoff(0.5, 15.0)
        self._hello_due = self._now()

    def _lose(self) -> None:
        """The link is gone: another one is looked for at once, unless this one was a failed try itself."""
        self._is_serving = False
        self._link = Link.NO_BROKER
        self._post.lost()
        if self._now() - self._served_since >= STEADY_S:
            self._connect_delays = backoff(0.5, RETRY_MOST_S)
        else:
            self._connect_due = self._now() + next(self._connect_delays)
        self._say_once("link lost, will connect again", broker=self.connection.broker)
        self.connection.close()

    def _say_hello(self, now: float) -> None:
        self._token = self._random(8).hex()
        topic = topics.hello(self._node)
        payload = greeting(
            self._hello, self._index.inventory(), self._token,
            fits=lambda size: self.connection.fits(topic, size),
        )  # fmt: skip
        self.connection.publish(topic, payload, qos=1)
        pause = CLONE_PAUSE_S if self._link is Link.CLONE else next(self._hello_delays)
        self._hello_due = now + pause

    def _mind_silence(self, now: float) -> None:
        """No receipt for long: the aggregator is gone. Ask, instead of sending into the void."""
        since = self.sender.waiting_since()
        if since is None:
            return
        silent = now - max(self._last_heard, since)
        if silent > 3.0 * self.sender.window.timeout_s:
            self._log.warning("no receipts, asking for the aggregator", silent_s=round(silent, 1))
            self._ask_anew()

    # ---- inbox -------------------------------------------------------------------------------

    def wait(self, seconds: float) -> None:
        """Sleep until something comes, then take all that came."""
        until = self._now() + seconds
        while True:
            try:
                message = self.inbox.get(timeout=max(0.0, until - self._now()))
            except queue.Empty:
                return
            self._take(message)
            while not self.inbox.empty():
                self._take(self.inbox.get())
            if self.connection.connected or self._stopping:
                return

    def _until_next(self, now: float) -> float:
        """Seconds to the next thing that is due by the clock."""
        if not self._index.is_checked:
            return 0.0
        due = [now + _IDLE_S, self._next_save, self._next_scan]
        if self._link is Link.OPEN:
            due += (self.sender.next_due(now), self.claims.due)
        else:
            due.append(self._hello_due)
        return max(0.001, min(due) - now)

    def _take(self, message: Word) -> None:
        match message:
            case Written(mid):
                self.sender.written(mid, self._now())
                self._post.written(mid)
            case Heard(topic, payload):
                self._hear(topic, payload)
            case ipc.Archived():
                try:
                    self.sender.lanes.announce(self._index.announce(message))
                except StorageError as error:
                    self._log.warning("announced segment not readable", error=str(error))
            case OutEvent():
                self._post.put(message)
            case Lost():
                self._is_lost = not self.connection.connected
            case None:
                pass

    def _hear(self, topic: str, payload: bytes) -> None:
        match self.acks.read(topic, payload):
            case wire.Receipt() as receipt:
                self._receipt(receipt)
            case wire.Resume() as word if word.answers and word.answers == self._token:
                self._resume(word)
            case wire.Ask(reason):
                self._asked(reason)
            case wire.Answer() as answer:
                self.claims.answered(answer, self._generation, self._now())

    def _asked(self, reason: str) -> None:
        """The aggregator wants a hello."""
        if reason == "who_is_there" and self._link is not Link.OPEN:
            return  # only who was welcomed before answers: that is the question
        if self._link is Link.OPEN:
            self._link = Link.ASKING
        self._hello_due = min(self._hello_due, self._now())

    def _resume(self, word: wire.Resume) -> None:
        """The answer to our hello: the truth about what is stored."""
        self._token = ""
        self._last_heard = self._now()
        if self.acks.is_outdated(word.store_generation, self._generation):
            self.acks.trouble, self._has_void = OUTDATED, True  # fresh: what was signed for is gone
            self._set_aside()
            return
        if word.refused:
            if self._link is not Link.CLONE:
                self._log.error("refused by the aggregator", reason=word.refused)
                self._emit(EventType.CLONE_REFUSED, "", {"log_id": self._log_id.hex()})
            self._link = Link.CLONE
            self._hello_due = self._now() + CLONE_PAUSE_S
            return
        self._index.stored.clear()
        for product, stream in word.streams:
            self._index.learn(product, stream.stream_id, stream.ranges)
        self._index.others = set(word.others)
        moved = self._index.compare()
        self._has_void |= moved > 0 or word.store_generation != self._generation
        if self._has_void and not self._set_aside():
            return
        if moved:
            self._log.warning(
                "aggregator has less than it receipted, sending again", segments=moved
            )
            self.sender.counts["moved_back"] += moved
            self._save()  # before the generation: who dies between has no cursor past what is stored
        self._new_generation(word.store_generation)
        self.sender.resumed(self._now(), most=word.credits)
        self.claims.restart(self._now())
        self.acks.trouble = ""
        self._link = Link.OPEN

    def _set_aside(self) -> bool:
        """Attestations that no longer hold go before a cursor or generation is saved: who dies between finds both again."""
        try:
            self.claims.void()
        except StorageError as error:
            self._say_once("attestations not set aside, asking again", error=str(error))
            return False
        self._has_void = False
        return True

    def _receipt(self, receipt: wire.Receipt) -> None:
        if self.acks.is_outdated(receipt.store_generation, self._generation):
            return
        now = self._last_heard = self._now()
        if receipt.store_generation != self._generation:
            if self._link is Link.OPEN:
                self._ask_anew()  # the store was restored: only its answer to hello counts
            return
        self._index.learn(receipt.product, receipt.stream_id, receipt.ranges)
        self._index.others.update(receipt.others)
        self.sender.receipted(receipt, now)

    def left_behind(self, ref: Ref, offset: int, reason: str) -> None:
        """A chunk cannot be delivered: say so to people and to the cloud."""
        data = {**ref._asdict(), "offset": offset, "reason": reason}
        self._emit(EventType.CHUNK_REFUSED, ref.stream_id, data)

    # ---- housekeeping ------------------------------------------------------------------------

    def _housekeeping(self) -> None:
        now = self._now()
        if now >= self._next_scan or self.sender.look_again:
            self._index.scan()
            self.sender.look_at_keys()
            self.claims.look()
            self._next_scan = now + SCAN_EVERY_S
            self.sender.look_again = False
        self._index.check_one()
        if now >= self._next_save:
            self._save()
            self._next_save = now + SAVE_EVERY_S
        self._report()

    def _save(self) -> None:
        if self._has_void:
            return
        try:
            self._index.save()
        except StorageError as error:
            self._say_once("cursor not saved, receipts will be asked for again", error=str(error))

    def _new_generation(self, generation: int) -> None:
        if generation != self._generation:
            self._log.warning("store generation changed", was=self._generation, now=generation)
            self._generation = generation
            try:
                self._cursors.set_generation(generation)
            except StorageError as error:
                self._say_once("cursor not saved", error=str(error))

    def _report(self) -> None:
        self.stats = figures(
            self._link, connection=self.connection, index=self._index, sender=self.sender,
            acks=self.acks, claims=self.claims, generation=self._generation,
        )  # fmt: skip

    def _say_once(self, event: str, **facts: object) -> None:
        """First as a warning, then quietly."""
        (self._log.debug if self._quiet else self._log.warning)(event, **facts)
        self._quiet = True

    def _now(self) -> float:
        return self._clock.monotonic_ns() / 1e9
