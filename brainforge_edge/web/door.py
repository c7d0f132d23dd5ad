"""Lets in who is logged in, to what their role may do. Runs in: web process, its asyncio loop.

An ASGI application around the API, inside of `guard.py`. Where the page is for this machine alone
there are no logins, and everybody is let through.
"""

import asyncio
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final

import msgspec

from brainforge_edge.core import log
from brainforge_edge.core.errors import BrainforgeError
from brainforge_edge.core.garbled import GARBLED
from brainforge_edge.web.guard import App, Receive, Send, answer, refuse
from brainforge_edge.web.logins import PERSON, Logins, Person, Role
from brainforge_edge.web.problem import Problem, not_allowed, of_error, problem

COOKIE: Final = "brainforge"
LOOK_S: Final = 1.0  # how often a viewer's session is looked at
MOST_BYTES: Final = 4096
_ENDED: Final = 4401
_SAFE: Final = {"GET", "HEAD", "OPTIONS"}

_log = log.get(part="web")


class _Said(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    password: str


class Door:
    """`logins` is None where none are needed."""

    def __init__(self, inner: App, logins: Logins | None) -> None:
        self._inner = inner
        self._logins = logins
        self._one_at_a_time = asyncio.Lock()  # a guess costs memory

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] in {"/login", "/logout"}:
            await self._desk(scope, receive, send)
            return
        if self._logins is None or _is_public(scope):
            await self._inner(scope, receive, send)
            return
        is_viewer = scope["type"] == "websocket"
        token = _token(scope)
        person = self._logins.person(token, is_active=not is_viewer)
        is_asking = is_viewer or scope["method"] in _SAFE
        if person is None:
            await refuse(scope, send, _needed())
        elif not is_asking and person.role is not Role.OPERATOR:
            await refuse(scope, send, not_allowed(person))
        elif is_viewer:
            await self._watched(token, {**scope, PERSON: person}, receive, send)
        else:
            if not is_asking:
                _log.info("asked by a person", name=person.name, path=scope["path"])
            await self._inner(scope, receive, send)

    async def _watched(self, token: str, scope: Any, receive: Receive, send: Send) -> None:
        """A viewer is let go when its session is over, though it asks for nothing."""
        assert self._logins is not None
        viewing = asyncio.ensure_future(self._inner(scope, receive, send))
        while self._logins.person(token, is_active=False) is not None:
            done, _ = await asyncio.wait([viewing], timeout=LOOK_S)
            if done:
                await viewing
                return
        viewing.cancel()
        await asyncio.gather(viewing, return_exceptions=True)
        await send({"type": "websocket.close", "code": _ENDED, "reason": "log in again"})

    async def _desk(self, scope: Any, receive: Receive, send: Send) -> None:
        if self._logins is None:
            await answer(send, 200, {"needed": False})
        elif scope["method"] in _SAFE:
            person = self._logins.person(_token(scope), is_active=True)
            if person is None:
                await refuse(scope, send, _needed())
            else:
                await answer(send, 200, _told(person))
        elif scope["path"] == "/logout":
            self._logins.end(_token(scope))
            await answer(send, 200, {"needed": True}, cookie=_cookie("", 0))
        else:
            await self._let_in(self._logins, scope, receive, send)

    async def _let_in(self, logins: Logins, scope: Any, receive: Receive, send: Send) -> None:
        peer = str((scope.get("client") or ("",))[0])
        try:
            said = msgspec.json.decode(await _body(receive), type=_Said)
        except GARBLED:
            await refuse(scope, send, _malformed())
            return
        async with self._one_at_a_time:
            if not logins.may_try(peer):
                await refuse(scope, send, _too_often())
                return
            try:
                person = await asyncio.to_thread(logins.check, said.name, said.password)
            except BrainforgeError as error:
                await refuse(scope, send, of_error(error))
                return
            if person is None:
                logins.failed(peer)
        if person is None:
            _log.warning("login refused", peer=peer)
            await refuse(scope, send, _wrong())
            return
        _log.info("logged in", name=person.name, role=person.role.value, peer=peer)
        await answer(send, 200, _told(person), cookie=_cookie(logins.begin(person)))


def _is_public(scope: Any) -> bool:
    """The page itself tells nothing of the box: it has the form to log in with."""
    path: str = scope["path"]
    is_page = path == "/" or path.startswith("/static/")
    return is_page and bool(scope["type"] == "http")


def _token(scope: Any) -> str:
    for name, value in scope["headers"]:
        if name == b"cookie":
            try:
                found = SimpleCookie(value.decode("latin-1")).get(COOKIE)
            except CookieError:
                return ""
            return found.value if found is not None else ""
    return ""


def _cookie(token: str, seconds: int | None = None) -> str:
    ends = "" if seconds is None else f"; Max-Age={seconds}"
    return f"{COOKIE}={token}; Path=/; Secure; HttpOnly; SameSite=Strict{ends}"


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        part: bytes = message.get("body", b"")
        body += part
        if not message.get("more_body", False) or len(body) > MOST_BYTES:
            return body[: MOST_BYTES + 1]


def _told(person: Person) -> dict[str, Any]:
    return {"needed": True, "name": person.name, "role": person.role.value}


def _needed() -> Problem:
    return problem(
        401,
        "web.login_needed",
        "the request was refused",
        detail="nobody is logged in, or was idle for too long",
        fix="Log in",
    )


def _malformed() -> Problem:
    return problem(
        400,
        "web.malformed",
        "nobody was logged in",
        detail="the body is not a name and a password as JSON",
        fix='Send {"name": …, "password": …}',
    )


def _wrong() -> Problem:
    return problem(
        401,
        "web.wrong_login",
        "nobody was logged in",
        detail="name or password is wrong",
        fix="Try again, or have the login made anew",
    )


def _too_often() -> Problem:
    return problem(
        429,
        "web.too_often",
        "nobody was logged in",
        detail="it failed too often from this address",
        fix="Wait a minute, then try again",
        transient=True,
    )
