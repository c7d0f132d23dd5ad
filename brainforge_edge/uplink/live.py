"""Live messages from the pipeline to MQTT, latest wins. Runs in: uplink process, live thread.

A datagram is a u8 length, the stream id, then the complete payload of `live/{stream}`.
"""

import select
import socket
import threading
from collections.abc import Callable

from brainforge_edge.core import topics
from brainforge_edge.core.errors import ConfigError, TransportError
from brainforge_edge.core.ids import checked_name
from brainforge_edge.uplink.client import Connection, Written

MAX_DATAGRAM = 512 * 1024
_UNDER_WAY = 2  # messages of one stream that may wait in this process


class LiveForwarder:
    """Thread body `run`; messages that cannot leave at once make room for newer ones."""

    def __init__(
        self, sock: socket.socket, connection: Callable[[], Connection], node: str
    ) -> None:
        self.sent = 0
        self.dropped = 0
        self._sock = sock
        self._connection = connection
        self._node = node
        self._under_way: dict[str, list[Written]] = {}
        self._stopping = threading.Event()
        sock.setblocking(False)

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        while not self._stopping.is_set():
            if not poll.poll(250):
                continue
            for stream_id, payload in self._newest().items():
                self._forward(stream_id, payload)

    def _newest(self) -> dict[str, bytes]:
        """Everything that waits, the last message per stream."""
        newest: dict[str, bytes] = {}
        while True:
            try:
                datagram = self._sock.recv(MAX_DATAGRAM)
            except BlockingIOError:
                return newest
            if not datagram:  # every sender is gone
                self._stopping.wait(0.25)
                return newest
            end = 1 + datagram[0]
            try:
                stream_id = checked_name(datagram[1:end].decode("ascii"), "the stream id")
            except (ConfigError, UnicodeDecodeError):
                self.dropped += 1
                continue
            if stream_id in newest:
                self.dropped += 1
            newest[stream_id] = datagram[end:]

    def _forward(self, stream_id: str, payload: bytes) -> None:
        waiting = [w for w in self._under_way.get(stream_id, []) if not w.is_published()]
        sent: Written | None = None
        if len(waiting) < _UNDER_WAY:
            try:
                sent = self._connection().publish(topics.live(self._node, stream_id), payload)
            except TransportError:  # larger than the broker takes
                sent = None
        if sent is None:
            self.dropped += 1
            # What waits on a lost link never leaves: forget it, so that the next link starts fresh.
            self._under_way[stream_id] = waiting if self._connection().connected else []
            return
        self.sent += 1
        self._under_way[stream_id] = [*waiting, sent]
