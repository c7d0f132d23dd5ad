"""A device's end of a network link: one host at a time over TCP or UDP. Runs in: emulator process.

Without a host in its address it listens on 127.0.0.1 only.
"""

import errno
import random
import socket
from collections.abc import Callable
from typing import NamedTuple

from brainforge_edge.core.clock import Clock, SystemClock
from brainforge_edge.core.errors import ConfigError
from brainforge_edge.devices.network import BEYOND, is_beyond, is_datagram

_GONE = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT, errno.ENOTCONN})
OVERTAKEN_BY = 3  # datagrams
GONE_NS = 2_000_000_000  # a host that listens asks for the time each second


class Mangling(NamedTuple):
    """What a bad network does to datagrams, as shares of them; seeded."""

    loss: float = 0.0
    repeat: float = 0.0
    overtake: float = 0.0
    seed: int = 1


class NetPort:
    """`tcp://[HOST]:PORT` or `udp://[HOST]:PORT`; port 0 takes a free one, `address` tells which.

    `changed` is called when another host, or one that had gone, speaks to the device. A host that
    vanished without a word (no FIN) gives way to the next one that connects.
    """

    def __init__(
        self,
        address: str,
        *,
        changed: Callable[[], None],
        mangling: Mangling | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._host, self._port = _parse(address)
        self._is_datagram = is_datagram(address)
        self._changed = changed
        self._mangling = mangling
        self._chance = random.Random(mangling.seed if mangling else 0)  # noqa: S311  no secret
        self._held: bytes | None = None  # a datagram that the next ones overtake
        self._until_sent = 0
        self._socket: socket.socket | None = None
        self._client: socket.socket | None = None
        self._peer: object = None
        self._clock = clock or SystemClock()
        self._heard_ns = 0
        self.lost = self.repeated = self.overtaken = 0

    @property
    def is_plugged(self) -> bool:
        return self._socket is not None

    @property
    def address(self) -> str:
        return f"{'udp' if self._is_datagram else 'tcp'}://{self._host}:{self._port}"

    def fileno(self) -> int:
        link = self._client or self._socket
        return link.fileno() if link is not None else -1

    def plug(self) -> None:
        """Listen; again at the same port."""
        if self._socket is not None:
            return
        kind = socket.SOCK_DGRAM if self._is_datagram else socket.SOCK_STREAM
        link = socket.socket(socket.AF_INET, kind)
        try:
            if not self._is_datagram:
                link.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            link.bind((self._host, self._port))
            if not self._is_datagram:
                link.listen(1)
            link.setblocking(False)
        except OSError as error:
            link.close()
            raise _not_made(self.address, str(error.strerror or error).lower()) from error
        self._port = link.getsockname()[1]
        self._socket = link

    def unplug(self) -> None:
        self._drop_client()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._peer = None

    def read(self) -> bytes:
        """What the host has sent; empty if nothing, or when one has just come or gone."""
        link = self._socket
        if link is None:
            return b""
        try:
            if self._is_datagram:
                data, peer = link.recvfrom(65_536)
                if peer != self._peer:
                    self._peer = peer
                    self._changed()
                return data
            if self._client is None:
                self._accept(link)
                return b""
            data = self._client.recv(65_536)
            self._heard_ns = self._clock.monotonic_ns()
            if not data:
                self._drop_client()
            return data
        except BlockingIOError:
            return b""
        except OSError as error:
            if error.errno not in _GONE:
                raise
            self._drop_client()
            return b""

    def write(self, data: bytes | memoryview) -> int:
        """Bytes taken, 0 when there is no room or no host."""
        try:
            if not self._is_datagram:
                if self._gives_way():
                    return 0
                return self._client.send(data) if self._client is not None else 0
            if self._peer is None or self._socket is None:
                return len(data)  # into the void
            return self._send(bytes(data), self._socket)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno not in _GONE:
                raise
            self._drop_client()
            return 0

    def unread(self) -> int:
        """What the host has not taken yet stays in its own memory, not here."""
        return 0

    def _accept(self, link: socket.socket) -> None:
        client, _ = link.accept()
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._drop_client()
        self._client = client
        self._heard_ns = self._clock.monotonic_ns()
        self._changed()

    def _gives_way(self) -> bool:
        """To a host that waits, when the present one has been silent."""
        link = self._socket
        silent_ns = self._clock.monotonic_ns() - self._heard_ns
        if link is None or self._client is None or silent_ns <= GONE_NS:
            return False
        try:
            self._accept(link)
        except BlockingIOError:  # nobody waits
            return False
        return True

    def _send(self, data: bytes, link: socket.socket) -> int:
        mangling = self._mangling
        if mangling is None:
            return link.sendto(data, self._peer)  # type: ignore[call-overload,no-any-return]
        if self._chance.random() < mangling.loss:
            self.lost += 1
            return len(data)
        if self._held is None and self._chance.random() < mangling.overtake:
            self._held, self._until_sent = data, OVERTAKEN_BY
            self.overtaken += 1
            return len(data)
        times = 2 if self._chance.random() < mangling.repeat else 1
        self.repeated += times - 1
        self._until_sent -= 1
        held = self._held if self._until_sent <= 0 else None
        if held is not None:
            self._held = None
        for each in [data] * times + ([held] if held is not None else []):
            link.sendto(each, self._peer)  # type: ignore[call-overload]
        return len(data)

    def _drop_client(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()


def _parse(address: str) -> tuple[str, int]:
    host, colon, port = address.partition("://")[2].rpartition(":")
    if not colon or not port.isdecimal():
        raise _not_made(address, "it has not the form tcp://HOST:PORT or udp://HOST:PORT")
    if is_beyond(port):
        raise _not_made(address, BEYOND)
    return host or "127.0.0.1", int(port)


def _not_made(address: str, why: str) -> ConfigError:
    return ConfigError(
        "unwritable",
        f"cannot listen at {address}",
        why=why,
        remedy="Give another address of this machine, or port 0 for any free one",
    )
