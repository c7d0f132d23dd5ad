"""Who may ask, and what a browser may do with the answer. Runs in: web process, its asyncio loop.

An ASGI application around another. A page of somebody else's in the same browser reaches this
machine's addresses too: neither its requests, nor a name of its own that leads here, get through.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Final

import msgspec

from brainforge_edge.web.problem import MEDIA_TYPE, Problem, problem

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]

MOST_AT_ONCE: Final = 64  # requests and viewers
BODY_S: Final = 20.0
_SAFE: Final = {"GET", "HEAD", "OPTIONS"}
_OWN_NAMES: Final = ("127.0.0.1", "localhost", "[::1]")
HEADERS: Final = tuple(
    (name.encode(), value.encode())
    for name, value in {
        "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
        "connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'",
        "cache-control": "no-store",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "permissions-policy": "camera=(), geolocation=(), microphone=()",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
    }.items()
)


class Guard:
    """`inner` hears only what may be asked; its answers get the headers."""

    def __init__(
        self, inner: App, *, host: str, port: int, names: Sequence[str] = (), is_tls: bool = False
    ) -> None:
        own = {*_OWN_NAMES, f"[{host}]" if ":" in host else host, *map(str.lower, names)}
        plain = own if port == (443 if is_tls else 80) else set()
        self._hosts = {f"{name}:{port}" for name in own} | plain
        self._scheme = "https" if is_tls else "http"
        self._inner = inner
        self._busy = 0

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._inner(scope, receive, send)
            return
        refused = self._judge(scope)
        if refused is not None:
            await refuse(scope, _with_headers(send), refused)
            return
        self._busy += 1
        try:
            await self._inner(scope, _hurried(scope, receive), _with_headers(send))
        finally:
            self._busy -= 1

    def _judge(self, scope: Any) -> Problem | None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if host not in self._hosts:
            return problem(
                421,
                "web.wrong_host",
                "the request was refused",
                detail=f"this box is not called {host[:100]!r}",
                fix=f"Open it as {self._scheme}://{min(self._hosts)}",
            )
        is_asking = scope["type"] == "http" and scope["method"] in _SAFE
        origin = headers.get(b"origin")
        if not is_asking and origin is not None and not self._is_own(origin):
            return problem(
                403,
                "web.foreign_page",
                "the request was refused",
                detail="it comes from a page that is not this box's",
                fix="Use the box's own page, or a program that is no browser",
            )
        if not is_asking and scope["type"] == "http" and not _is_json(headers):
            return problem(
                415,
                "web.not_json",
                "the request was refused",
                detail="its body is not marked as JSON",
                fix="Send it with content-type: application/json",
            )
        if self._busy >= MOST_AT_ONCE:
            return problem(
                503,
                "web.busy",
                "the request was refused",
                detail=f"{MOST_AT_ONCE} others are served",
                fix="Close pages that nobody looks at, and try again",
                transient=True,
            )
        return None

    def _is_own(self, origin: bytes) -> bool:
        scheme, _, host = origin.decode("latin-1").lower().partition("://")
        return scheme == self._scheme and host in self._hosts


def _is_json(headers: dict[bytes, bytes]) -> bool:
    """A body is JSON or there is none: no form of a foreign page can send the one or be the other."""
    if headers.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in headers:
        return True
    return headers.get(b"content-type", b"").split(b";")[0].strip().lower() == b"application/json"


def _with_headers(send: Send) -> Send:
    async def told(message: Message) -> None:
        if message["type"] in {"http.response.start", "websocket.http.response.start"}:
            message["headers"] = [*message.get("headers", []), *HEADERS]
        await send(message)

    return told


def _hurried(scope: Any, receive: Receive) -> Receive:
    """A body that does not come in time is a caller that is gone."""
    is_whole = scope["type"] == "websocket"

    async def heard() -> Message:
        nonlocal is_whole
        if is_whole:
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), BODY_S)
        except TimeoutError:
            return {"type": "http.disconnect"}
        is_whole = not message.get("more_body", False)
        return message

    return heard


async def refuse(scope: Any, send: Send, said: Problem) -> None:
    """Instead of what was asked for; a WebSocket is not opened."""
    kind = "http" if scope["type"] == "http" else "websocket.http"
    await _tell(send, kind, said.status, msgspec.json.encode(said), MEDIA_TYPE)


async def answer(send: Send, status: int, said: Any, *, cookie: str = "") -> None:
    """JSON, perhaps with a cookie."""
    await _tell(send, "http", status, msgspec.json.encode(said), "application/json", cookie)


async def _tell(
    send: Send, kind: str, status: int, body: bytes, media_type: str, cookie: str = ""
) -> None:
    headers = [
        (b"content-type", media_type.encode()),
        (b"content-length", str(len(body)).encode()),
    ]
    if cookie:
        headers.append((b"set-cookie", cookie.encode()))
    await send({"type": f"{kind}.response.start", "status": status, "headers": headers})
    await send({"type": f"{kind}.response.body", "body": body})
