"""The authority's desk: takes a request's bytes by POST and gives the answer's. Runs in: the process that serves the authority.

Threads: asyncio loop (this) · one that signs, since it waits for the ledger's lock and the disk. Request
and answer prove themselves, so nothing here trusts whoever calls, and nothing that is said is secret.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from threading import BoundedSemaphore
from typing import Any, Final, TypeVar

import msgspec

from brainforge_edge.cloud.authority.authority import Authority
from brainforge_edge.cloud.authority.ledger import Issued
from brainforge_edge.cloud.authority.rate import Rate, peer_key
from brainforge_edge.core import log
from brainforge_edge.core.errors import BrainforgeError, CloudError, SecurityError
from brainforge_edge.security import certificates
from brainforge_edge.security.enrolment import MOST_BYTES, read_ask

T = TypeVar("T")
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

ENROL_PATH: Final = "/enrol"
HEALTH_PATH: Final = "/health"
READ_S: Final = 5.0  # for a whole request
SIGN_S: Final = 10.0  # for the ledger's lock and the disk
_MOST_WAITING = 64  # requests, those that were given up included
_PEER_RATE = (
    120,
    60.0,
)  # calls of one peer in so many seconds: a site may stand behind one address
_WRONG_RATE = (10, 600.0)  # wrong proofs under one token
_STATUS = {"request_unreadable": 400, "bad_request": 400, "not_a_certificate": 400, "key_known": 409, "too_many_certificates": 429}  # fmt: skip
_OWN = {"authority_damaged", "no_authority", "private_key", "signing_key", "not_a_public_key"}


class Reply(Exception):
    """Ends a call with an error."""

    def __init__(self, status: int, error: BrainforgeError, **headers: str) -> None:
        super().__init__(status)
        self.status = status
        self.error = error
        self.headers = headers


class Desk:
    """An ASGI application (asgi.readthedocs.io, HTTP)."""

    def __init__(
        self,
        authority: Authority,
        *,
        days: float,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._authority = authority
        self._days = days
        self._now = now
        self._peers = Rate(*_PEER_RATE, monotonic)
        self._wrong = Rate(*_WRONG_RATE, monotonic)
        self._signing = ThreadPoolExecutor(1, "sign")
        self._room = BoundedSemaphore(_MOST_WAITING)

    def close(self) -> None:
        """Returns when the request at hand is signed."""
        self._signing.shutdown(cancel_futures=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        peer = str((scope.get("client") or ("?",))[0])
        try:
            status, body, headers = 200, await self._called(scope, receive, peer), {}
        except Reply as refused:
            said = {"ok": False, "error": refused.error.as_dict()}
            status, body, headers = refused.status, msgspec.json.encode(said), refused.headers
        headers |= {"content-type": "application/json", "connection": "close"}
        headers |= {"content-length": str(len(body)), "cache-control": "no-store"}
        pairs = [
            (name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()
        ]
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        await send({"type": "http.response.body", "body": body})

    async def _called(self, scope: Scope, receive: Receive, peer: str) -> bytes:
        self._check_peer(peer)
        method, path = scope["method"], scope["path"]
        wanted = {ENROL_PATH: "POST", HEALTH_PATH: "GET"}.get(path)
        if wanted is None:
            raise Reply(404, _odd("no_such_page", "the authority has no such page"))
        if method != wanted:
            raise Reply(405, _odd("wrong_method", f"{path} takes {wanted} alone"), allow=wanted)
        if path == HEALTH_PATH:
            return await self._work(self._health)
        request = await _body(scope, receive)
        try:
            return await self._enrolled(request, peer)
        except Reply as refused:
            _tell(request, peer, decision="refused", code=refused.error.code)
            raise

    def _check_peer(self, peer: str) -> None:
        key = peer_key(peer)
        wait_s = self._peers.wait_s(key)
        if self._peers.count(key):  # told once in a while, or a flood would fill the log as well
            log.get(part="authority").warning("too many calls", peer=peer)
        if wait_s:
            raise _too_many("this address called too often", wait_s)

    async def _enrolled(self, request: bytes, peer: str) -> bytes:
        try:
            token = read_ask(request).token
        except SecurityError as error:
            raise Reply(400, error) from error
        if token and (wait_s := self._wrong.wait_s(token)):
            raise _too_many("too many requests were not made with the token that they name", wait_s)
        try:
            answer, issued = await self._work(lambda: self._sign(request))
        except SecurityError as error:
            reason = error.code.partition(".")[2]
            if token and reason == "request_forged":
                self._wrong.count(token)
            raise Reply(_STATUS.get(reason, 403), error) from error
        _tell(request, peer, decision="signed", serial=issued.serial)
        return answer

    def _sign(self, request: bytes) -> tuple[bytes, Issued]:
        return self._authority.sign(request, now=self._now(), days=self._days)

    def _health(self) -> bytes:
        own = self._authority.certificate
        self._authority.ledger()
        self._authority.published()
        said = {"ok": True, "site": certificates.common_name(own)}
        return msgspec.json.encode(said | {"until": own.not_valid_after_utc.isoformat()})

    async def _work(self, work: Callable[[], T]) -> T:
        """What `work` comes to on the thread that signs; what is wrong with the authority itself stays in its log."""
        if not self._room.acquire(blocking=False):
            raise Reply(503, _busy(), retry_after="10")
        running = self._signing.submit(work)
        running.add_done_callback(lambda _: self._room.release())
        try:
            return await asyncio.wait_for(asyncio.wrap_future(running), SIGN_S)
        except TimeoutError as error:
            raise Reply(503, _busy(), retry_after="10") from error
        except BrainforgeError as error:
            if isinstance(error, SecurityError) and error.code.partition(".")[2] not in _OWN:
                raise
            log.get(part="authority").error("authority unwell", **error.as_dict())
            raise Reply(500, _unwell()) from error
        except Exception as error:
            # Outermost of the signing thread: the box gets an answer, and asks again.
            log.get(part="authority").exception("authority failed")
            raise Reply(500, _unwell()) from error


async def _body(scope: Scope, receive: Receive) -> bytes:
    told = dict(scope["headers"]).get(b"content-length", b"0")
    if not told.isdigit() or int(told) > MOST_BYTES:
        raise _too_large()
    body = b""
    try:
        async with asyncio.timeout(READ_S):
            while True:
                message = await receive()
                body += bytes(message.get("body", b""))
                if len(body) > MOST_BYTES:
                    raise _too_large()
                if message["type"] == "http.disconnect" or not message.get("more_body"):
                    return body
    except TimeoutError as error:
        raise Reply(408, _odd("too_slow", "the request did not come in time")) from error


def _tell(request: bytes, peer: str, **fields: str) -> None:
    """One line for each decision. The name is what the request says, proven only where it was signed."""
    try:
        name, _ = certificates.read_request(read_ask(request).request.encode())
    except SecurityError:
        name = ""
    log.get(part="authority").info("enrolment", node=name[:64], peer=peer, **fields)


def _too_large() -> Reply:
    return Reply(413, _odd("too_large", f"a request has at most {MOST_BYTES} bytes"))


def _too_many(why: str, wait_s: float) -> Reply:
    error = CloudError(
        "too_many_requests",
        "the request was not looked at",
        why=why,
        remedy=f"Try again after {wait_s:.0f} s, or with a new token",
        transient=True,
    )
    return Reply(429, error, retry_after=f"{wait_s:.0f}")


def _busy() -> CloudError:
    return CloudError(
        "authority_busy",
        "the request was not answered yet",
        why="others are served first, or somebody holds the ledger",
        remedy="Send the same request again: its token is not lost",
        transient=True,
    )


def _unwell() -> CloudError:
    return CloudError(
        "authority_unwell",
        "the request was not answered",
        why="the authority cannot work now",
        remedy="See the log of brainforge-edge cloud ca serve, then send the same request again",
        transient=True,
    )


def _odd(code: str, why: str) -> CloudError:
    return CloudError(
        code,
        "the call was refused",
        why=why,
        remedy=f"POST the bytes of a request to {ENROL_PATH}: brainforge-edge enrol now does",
    )
