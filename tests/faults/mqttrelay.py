"""A network between an MQTT client and its broker that loses, doubles and delays whole messages, or is deaf.

Of a packet only the fixed header and the remaining length are understood, of a PUBLISH its packet id too.
CONNECT, SUBSCRIBE, PINGREQ and their answers stay in their order; nothing overtakes a DISCONNECT. A
message of QoS 1 that is lost is answered for the one who should have heard it: it was acknowledged, and
never arrived. A direction that is deaf passes nothing, not even the end of a connection, until it is mended.
"""

import random
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

CONNACK, PUBLISH, DISCONNECT = 2, 3, 14
UP, DOWN = "up", "down"  # to the broker, from the broker
HELD_S = 0.05  # a message that is overtaken comes this late at most
_MOST_HELD = 8
_DUP = 0x08


class Packet(NamedTuple):
    kind: int
    data: bytes
    body: int  # offset behind the fixed header

    @property
    def qos(self) -> int:
        return self.data[0] >> 1 & 3

    @property
    def topic(self) -> str:
        end = self.body + 2 + self._topic_bytes
        return self.data[self.body + 2 : end].decode()

    @property
    def packet_id(self) -> bytes:
        at = self.body + 2 + self._topic_bytes
        return self.data[at : at + 2]

    @property
    def _topic_bytes(self) -> int:
        return int.from_bytes(self.data[self.body : self.body + 2], "big")


def packets(buffer: bytearray) -> Iterator[Packet]:
    """The whole packets at the front of `buffer`, taken out of it."""
    while len(buffer) >= 2:
        length = at = 0
        for at in range(1, min(5, len(buffer))):
            length |= (buffer[at] & 0x7F) << 7 * (at - 1)
            if buffer[at] < 0x80:
                break
        else:
            return
        end = at + 1 + length
        if len(buffer) < end:
            return
        data = bytes(buffer[:end])
        del buffer[:end]
        yield Packet(data[0] >> 4, data, at + 1)


@dataclass
class Trouble:
    """Shares of the messages, and what is wrong with the line; may be changed at any time."""

    lost: float = 0.0
    doubled: float = 0.0
    delayed: float = 0.0
    deaf: str = ""  # UP or DOWN
    hangs_up: bool = False  # once the broker has accepted a connection


class MqttRelay:
    """Forwards to a broker on loopback; `connects` are the times at which it was called."""

    def __init__(
        self,
        broker_port: int,
        seed: int,
        *,
        seen: Callable[[str, Packet], None] = lambda _direction, _packet: None,
    ) -> None:
        self.trouble = Trouble()
        self.counts: Counter[str] = Counter()
        self.connects: list[float] = []
        self._broker = ("127.0.0.1", broker_port)
        self._seed = seed
        self._seen = seen
        self._is_over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.1)
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._accepts = threading.Thread(target=self._accept, name="relay")
        self._accepts.start()

    def close(self) -> None:
        self._is_over.set()
        self._accepts.join()
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def most_connects(self, seconds: float) -> int:
        """In any stretch of so many seconds."""
        times = self.connects
        return max((sum(t <= u < t + seconds for u in times) for t in times), default=0)

    def _accept(self) -> None:
        while not self._is_over.is_set():
            try:
                near, _ = self._listener.accept()
            except TimeoutError:
                continue
            self.connects.append(time.monotonic())
            try:
                far = socket.create_connection(self._broker)
            except OSError:
                near.close()
                continue
            for one in (near, far):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open += [near, far]
            ends = _Ends(near, far)
            for direction in (UP, DOWN):
                chance = random.Random(f"{self._seed} {len(self.connects)} {direction}")
                lane = _Lane(self, ends, direction, chance)
                thread = threading.Thread(target=lane.run, name=f"relay-{direction}")
                self._threads.append(thread)
                thread.start()
            self._threads = [t for t in self._threads if t.is_alive()]
            self._open = [one for one in self._open if one.fileno() >= 0]

    def is_deaf(self, direction: str) -> bool:
        return self.trouble.deaf == direction and not self._is_over.is_set()

    @property
    def is_over(self) -> bool:
        return self._is_over.is_set()

    def note(self, direction: str, packet: Packet) -> None:
        """A message was sent, whatever becomes of it."""
        self._seen(direction, packet)


class _Ends:
    """The two sockets of a connection, closed by the last of its two lanes."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self._sockets = {UP: (near, far), DOWN: (far, near)}
        self._locks = {near: threading.Lock(), far: threading.Lock()}
        self._lanes = 2
        self._lock = threading.Lock()

    def of(self, direction: str) -> tuple[socket.socket, socket.socket]:
        return self._sockets[direction]

    def send(self, one: socket.socket, data: bytes) -> None:
        with self._locks[one]:
            one.sendall(data)

    def left(self) -> None:
        with self._lock:
            self._lanes -= 1
            if not self._lanes:
                for one in self._locks:
                    one.close()


class _Lane:
    """One direction of one connection, a thread."""

    def __init__(
        self, relay: MqttRelay, ends: _Ends, direction: str, chance: random.Random
    ) -> None:
        self._relay = relay
        self._ends = ends
        self._direction = direction
        self._one, self._other = ends.of(direction)
        self._chance = chance
        self._held: list[bytes] = []

    def run(self) -> None:
        buffer = bytearray()
        try:
            while (data := self._read()) is not None:
                buffer += data
                for packet in packets(buffer):
                    self._pass(packet)
                if not data:
                    self._let_go()
        except OSError:
            # The one who should hear it is gone. Who speaks learns it when the way back is not deaf.
            self._wait_until_heard(DOWN if self._direction == UP else UP)
        self._wait_until_heard(self._direction)
        for one in (self._one, self._other):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._ends.left()

    def _read(self) -> bytes | None:
        """What came; b"" after a pause, None at the end. A deaf direction is not read."""
        self._wait_until_heard(self._direction)
        if self._relay.is_over:
            return None
        if not select.select([self._one], [], [], HELD_S if self._held else 0.2)[0]:
            return b""
        return self._one.recv(65_536) or None

    def _wait_until_heard(self, direction: str) -> None:
        while self._relay.is_deaf(direction):
            time.sleep(0.02)

    def _send(self, data: bytes) -> None:
        self._wait_until_heard(self._direction)
        self._ends.send(self._other, data)

    def _pass(self, packet: Packet) -> None:
        if packet.kind != PUBLISH:
            if packet.kind == DISCONNECT:
                self._let_go()
            self._send(packet.data)
            if packet.kind == CONNACK and self._relay.trouble.hangs_up:
                self._relay.counts["hung_up"] += 1
                raise ConnectionAbortedError
            return
        trouble, counts = self._relay.trouble, self._relay.counts
        self._relay.note(self._direction, packet)
        fate = self._chance.random()
        if fate < trouble.lost:
            counts["lost"] += 1
            if packet.qos:
                self._ends.send(self._one, b"\x40\x02" + packet.packet_id)
            return
        fate -= trouble.lost
        if fate < trouble.doubled:
            counts["doubled"] += 1
            self._send(packet.data)
            again = _DUP if packet.qos else 0
            self._hold(bytes([packet.data[0] | again]) + packet.data[1:])
        elif fate - trouble.doubled < trouble.delayed:
            counts["delayed"] += 1
            self._hold(packet.data)
        else:
            self._send(packet.data)

    def _hold(self, data: bytes) -> None:
        """Others go first."""
        self._held.append(data)
        if len(self._held) >= _MOST_HELD:
            self._let_go()

    def _let_go(self) -> None:
        """What was held, in any order."""
        self._chance.shuffle(self._held)
        held, self._held = self._held, []
        for data in held:
            self._send(data)
