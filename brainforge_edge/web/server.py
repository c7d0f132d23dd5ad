"""Serves the page and the API over HTTP. Runs in: web process, a thread with an asyncio loop.

uvicorn's door. Connections are bounded, in number and in what they may hold.
"""

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from brainforge_edge.core.errors import SecurityError, TransportError

STALLED_S: Final = 30.0  # a viewer that takes nothing for this long is let go
SILENT_S: Final = 20.0  # … and a connection that says nothing, or never ends its request
_MOST_CONNECTIONS: Final = 128
_MOST_HEADER_BYTES: Final = 16 * 1024
_MOST_FRAME_BYTES: Final = 4096  # of what viewers say
_SEND_BUFFER: Final = 128 * 1024  # what the kernel holds for a viewer is what it sees late
_END_S: Final = 2


class _Connection(H11Protocol):
    _end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > _MOST_CONNECTIONS:
            transport.abort()
            return
        self._end = self.loop.call_later(SILENT_S, self._look, transport, None)

    def _look(self, transport: asyncio.Transport, before: object) -> None:
        """Between requests twice in a row, with the same one behind it: it only holds a place."""
        is_between = self.cycle is None or self.cycle.response_complete
        if is_between and before == (self.cycle,):
            transport.abort()
            return
        seen = (self.cycle,) if is_between else None
        self._end = self.loop.call_later(SILENT_S, self._look, transport, seen)

    def _cease(self) -> None:
        if self._end is not None:
            self._end.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cease()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: Any) -> None:
        self._cease()
        super().handle_websocket_upgrade(event)


class _Viewer(WebSocketsSansIOProtocol):
    stalled_s = STALLED_S
    _end: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._end = self.loop.call_later(self.stalled_s, self.transport.abort)

    def resume_writing(self) -> None:
        self._cease()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cease()
        super().connection_lost(exc)

    def _cease(self) -> None:
        if self._end is not None:
            self._end.cancel()


def listen(host: str, port: int) -> socket.socket:
    """TransportError `listen` if the address is taken or not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=_MOST_CONNECTIONS)
    except OSError as error:
        raise TransportError(
            "listen",
            f"the page cannot be served at {host}:{port}",
            why=str(error.strerror or error).lower(),
            remedy="End what listens there, or set another web.port; recording goes on without the page",
        ) from error
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    # Else the second part of an answer waits 40 ms for a word of the client's. asyncio sets it only
    # on sockets that name their protocol, which those of `create_server` do not.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """SecurityError `server_certificate` if they cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:
        raise SecurityError(
            "server_certificate",
            f"the page cannot be served with the certificate {certificate}",
            why=str(error.strerror or error).lower(),
            remedy="Name a certificate for servers and its key in [web], readable for the daemon's user",
        ) from error
    return context


class Server(uvicorn.Server):
    """`serve` it as a task; it ends when `should_exit` is set."""

    def __init__(
        self, app: Any, *, tls: ssl.SSLContext | None = None, stalled_s: float = STALLED_S
    ) -> None:
        config = uvicorn.Config(
            app,
            http=_Connection,
            ws=type("_Viewer", (_Viewer,), {"stalled_s": stalled_s}),
            loop="asyncio",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            h11_max_incomplete_event_size=_MOST_HEADER_BYTES,
            ws_max_size=_MOST_FRAME_BYTES,
            ws_per_message_deflate=False,
            ws_ping_interval=10.0,
            ws_ping_timeout=20.0,
            timeout_graceful_shutdown=_END_S,
        )
        config.load()
        config.ssl = tls
        super().__init__(config)
