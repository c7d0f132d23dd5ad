"""Serves the authority over HTTP. Runs in: a process of its own, so that the authority's key is in no process that hears boxes all day.

uvicorn's door. A connection brings one request and lives for seconds, so that nobody can hold the
place of others by saying nothing, nor by a handshake of TLS that is never done (handshakes.py).
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from brainforge_edge.cloud.authority.authority import Authority
from brainforge_edge.cloud.authority.desk import Desk
from brainforge_edge.cloud.authority.handshakes import HANDSHAKE_S, CountedSocket
from brainforge_edge.cloud.authority.rate import peer_key
from brainforge_edge.core import log
from brainforge_edge.core.errors import CloudError, SecurityError
from brainforge_edge.security.certificates import common_name

CONNECTION_S: Final = 20.0  # longer than all that a request may wait for
_MOST_CONNECTIONS = 128
_MOST_OF_A_PEER = 32
_MOST_HEADER_BYTES = 16 * 1024
_END_S = 5


class _Connection(H11Protocol):
    _end: asyncio.TimerHandle | None = None
    _counted: CountedSocket | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if self._counted is not None:
            self._counted.done(transport.get_extra_info("socket").fileno())
        super().connection_made(transport)
        peer = self._peer()
        of_peer = sum(isinstance(c, _Connection) and c._peer() == peer for c in self.connections)
        if len(self.connections) > _MOST_CONNECTIONS or of_peer > _MOST_OF_A_PEER:
            transport.abort()
            return
        self._end = self.loop.call_later(CONNECTION_S, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(exc)

    def _peer(self) -> str:
        return peer_key(self.client[0]) if self.client else ""


class _Server(uvicorn.Server):
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Told to end: an end in order, not by the signal itself."""
        self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """CloudError `listen` if the address is taken or not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_MOST_CONNECTIONS)
    except OSError as error:
        raise CloudError(
            "listen",
            f"cannot listen at {host}:{port}",
            why=str(error.strerror or error).lower(),
            remedy="End what listens there, or name an address of this machine and a free port with --listen",
        ) from error


def serve(
    authority: Authority,
    listening: socket.socket,
    *,
    days: float,
    tls: tuple[Path, Path] | None = None,
    handshake_s: float = HANDSHAKE_S,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> None:
    """Until SIGTERM or SIGINT. `tls`: certificate and key; SecurityError if they cannot be used."""
    with listening:
        desk = Desk(authority, days=days, now=now, monotonic=time.monotonic)
        config = _config(desk)
        if tls is not None:
            config.ssl = _tls_context(*tls)
            listening = _counted(listening, config, handshake_s)
        host, port = listening.getsockname()[:2]
        log.get(part="authority").info(
            "authority serves", host=host, port=port, tls=tls is not None,
            site=common_name(authority.certificate),
        )  # fmt: skip
        try:
            _Server(config).run(sockets=[listening])
        finally:
            desk.close()


def _config(desk: Desk) -> uvicorn.Config:
    config = uvicorn.Config(
        desk,
        http=_Connection,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        h11_max_incomplete_event_size=_MOST_HEADER_BYTES,
        timeout_graceful_shutdown=_END_S,
    )
    config.load()
    return config


def _counted(listening: socket.socket, config: uvicorn.Config, handshake_s: float) -> CountedSocket:
    counted = CountedSocket(listening, handshake_s=handshake_s)

    class Counted(_Connection):
        _counted = counted

    config.http_protocol_class = Counted
    return counted


def _tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:
        raise SecurityError(
            "server_certificate",
            f"the authority cannot be served with the certificate {certificate}",
            why=str(error.strerror or error).lower(),
            remedy="Name a certificate for servers and its key with --tls-cert and --tls-key: brainforge-edge cloud ca issue broker --host makes them",
        ) from error
    return context
