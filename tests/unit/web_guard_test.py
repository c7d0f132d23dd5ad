"""What a browser, or a foreign page in it, may ask of the box."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from brainforge_edge.web.guard import BODY_S, HEADERS, MOST_AT_ONCE, Guard, _hurried

HOST = "127.0.0.1:8080"


async def _inner(_: Any, __: Any, send: Callable[[Any], Any]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"in"})


def _ask(
    guard: Guard, method: str = "GET", *, kind: str = "http", **headers: str
) -> tuple[int, dict[str, Any], dict[bytes, bytes]]:
    said: list[Any] = []

    async def send(message: Any) -> None:
        said.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    named = {"host": HOST, **{key.replace("_", "-"): value for key, value in headers.items()}}
    scope = {
        "type": kind,
        "method": method,
        "path": "/",
        "headers": [(key.encode(), value.encode()) for key, value in named.items()],
    }
    asyncio.run(guard(scope, receive, send))
    body = said[1]["body"]
    answer = {} if body == b"in" else msgspec.json.decode(body)
    return said[0]["status"], answer, dict(said[0]["headers"])


@pytest.fixture
def guard() -> Guard:
    return Guard(_inner, host="127.0.0.1", port=8080)


@pytest.mark.parametrize("host", [HOST, "localhost:8080", "[::1]:8080", "LOCALHOST:8080"])
def test_own_names_get_in_and_every_answer_has_the_headers(guard: Guard, host: str) -> None:
    status, _, headers = _ask(guard, host=host)
    assert status == 200
    assert set(HEADERS) <= set(headers.items())
    policy = headers[b"content-security-policy"].decode()
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "127.0.0.1", "", "a@" + HOST]
)
def test_a_name_that_is_not_ours_is_refused_with_what_to_do(guard: Guard, host: str) -> None:
    status, said, headers = _ask(guard, host=host)
    assert (status, said["code"]) == (421, "web.wrong_host")
    assert HOST in said["fix"]
    assert set(HEADERS) <= set(headers.items())


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://" + HOST, "http://127.0.0.1:9", "http://"]
)
@pytest.mark.parametrize(("kind", "method"), [("http", "POST"), ("websocket", "GET")])
def test_a_foreign_page_changes_nothing_and_hears_nothing(
    guard: Guard, origin: str, kind: str, method: str
) -> None:
    status, said, _ = _ask(guard, method, kind=kind, origin=origin)
    assert (status, said["code"]) == (403, "web.foreign_page")


def test_its_own_page_and_a_program_may_ask(guard: Guard) -> None:
    assert _ask(guard, "POST", origin="http://" + HOST)[0] == 200
    assert _ask(guard, "POST")[0] == 200
    json = {"content_type": "application/json; charset=utf-8", "content_length": "2"}
    assert _ask(guard, "POST", **json)[0] == 200


def test_a_box_with_a_certificate_has_its_names_and_https() -> None:
    guard = Guard(_inner, host="0.0.0.0", port=443, names=("bed-1.Local",), is_tls=True)
    for host in ("bed-1.local", "bed-1.local:443", "localhost"):
        assert _ask(guard, "POST", host=host, origin=f"https://{host}")[0] == 200
        assert _ask(guard, "POST", host=host, origin=f"http://{host}")[0] == 403
    assert _ask(guard, host="bed-2.local")[1]["fix"].startswith("Open it as https://")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_what_a_form_could_send_is_refused(guard: Guard, kind: str) -> None:
    status, said, _ = _ask(guard, "POST", content_type=kind, content_length="2")
    assert (status, said["code"]) == (415, "web.not_json")
    assert _ask(guard, "POST", content_type=kind, transfer_encoding="chunked")[0] == 415


def test_more_than_are_served_are_told_so() -> None:
    async def run() -> list[int]:
        until, refused = asyncio.Event(), asyncio.Event()
        statuses: list[int] = []

        async def inner(_: Any, __: Any, send: Callable[[Any], Any]) -> None:
            await until.wait()
            await _inner(_, __, send)

        async def send(message: Any) -> None:
            if "status" in message:
                statuses.append(message["status"])
            if len(statuses) == 3:
                refused.set()

        guard = Guard(inner, host="127.0.0.1", port=8080)
        scope = {"type": "http", "method": "GET", "headers": [(b"host", HOST.encode())]}
        asked = [asyncio.create_task(guard(scope, None, send)) for _ in range(MOST_AT_ONCE + 3)]  # type: ignore[arg-type]
        await refused.wait()
        until.set()
        await asyncio.gather(*asked)
        return statuses

    statuses = asyncio.run(run())
    assert statuses[:3] == [503] * 3
    assert statuses[3:] == [200] * MOST_AT_ONCE


def test_a_body_that_never_ends_is_a_caller_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brainforge_edge.web.guard.BODY_S", 0.01)
    assert BODY_S > 1

    async def never() -> Any:
        await asyncio.Event().wait()

    heard = _hurried({"type": "http"}, never)
    assert asyncio.run(heard())["type"] == "http.disconnect"  # type: ignore[arg-type]
