"""The authority's desk as an application that is called, without a socket: how often one may knock, what it says."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from brainforge_edge.cloud.authority.desk import ENROL_PATH, HEALTH_PATH, Desk, Scope
from brainforge_edge.cloud.authority.rate import Rate, peer_key
from brainforge_edge.security import certificates
from brainforge_edge.security.enrolment import MOST_BYTES, Token, ask
from tests.unit.enrolment_material import NOW, authority


class Called:
    """A desk, and calls of it one after the other."""

    def __init__(self, root: Path) -> None:
        self.site = authority(root)
        self.at = 0.0
        self.desk = Desk(self.site, days=7, now=lambda: NOW, monotonic=lambda: self.at)

    def __call__(
        self, body: bytes = b"", *, peer: str = "10.0.0.1", method: str = "POST",
        path: str = ENROL_PATH, headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> tuple[int, Any, dict[bytes, bytes]]:  # fmt: skip
        """HTTP status, JSON, headers."""
        scope: Scope = {
            "method": method, "path": path, "client": (peer, 1), "headers": list(headers),
        }  # fmt: skip
        parts = [body[i : i + 1000] for i in range(0, len(body), 1000)] or [b""]
        messages = [
            {"type": "http.request", "body": part, "more_body": n < len(parts) - 1}
            for n, part in enumerate(parts)
        ]
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return messages.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(self.desk(scope, receive, send))
        head, said = sent
        return head["status"], json.loads(said["body"]), dict(head["headers"])

    def code(self, body: bytes = b"", **options: Any) -> str:
        return str(self(body, **options)[1]["error"]["code"])

    def request(self, token: Token) -> bytes:
        return ask(certificates.make_key(), "bed-1", token)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Called]:
    made = Called(tmp_path)
    yield made
    made.desk.close()


def test_one_address_is_heard_so_often_a_minute_and_others_meanwhile(desk: Called) -> None:
    for _ in range(120):
        assert desk.code(b"x") == "security.request_unreadable"
    status, _, headers = desk(b"x")
    assert status == 429
    assert headers[b"retry-after"] == b"60"
    assert desk.code(method="GET", path=HEALTH_PATH) == "cloud.too_many_requests"
    assert desk.code(b"x", peer="10.0.0.2") == "security.request_unreadable"
    desk.at = 59.0
    assert desk(b"x")[2][b"retry-after"] == b"1"
    desk.at = 60.0
    assert desk.code(b"x") == "security.request_unreadable"


def test_a_token_that_was_guessed_at_is_heard_again_after_a_while(desk: Called) -> None:
    token = desk.site.invite("bed-1", now=NOW)
    for _ in range(10):
        assert desk.code(desk.request(Token(token.id, bytes(32)))) == "security.request_forged"
    right = desk.request(token)
    assert desk.code(right, peer="10.0.0.2") == "cloud.too_many_requests"
    desk.at = 600.0
    assert desk(right)[0] == 200


def test_a_body_is_taken_up_to_its_bound_whatever_its_head_says(desk: Called) -> None:
    length = ((b"content-length", b"9999999"),)
    assert desk(b"x", headers=length)[0] == 413
    assert desk(b"x", headers=((b"content-length", b"-1"),))[0] == 413
    assert desk(b" " * (MOST_BYTES + 1))[0] == 413
    assert desk.code(b" " * MOST_BYTES) == "security.request_unreadable"


def test_all_that_it_says_ends_the_connection_and_is_kept_by_nobody(desk: Called) -> None:
    for status, _, headers in (desk(b"x"), desk(path="/x"), desk(method="GET", path=HEALTH_PATH)):
        assert status in {200, 400, 404}
        assert headers[b"connection"] == b"close"
        assert headers[b"cache-control"] == b"no-store"
        assert headers[b"content-type"] == b"application/json"
    assert desk(method="PUT")[2][b"allow"] == b"POST"


def test_a_rate_forgets_the_oldest_of_thousands() -> None:
    rate = Rate(1, 60.0, lambda: 5.0)
    for n in range(5000):
        rate.count(str(n))
    assert rate.wait_s("0") == 0.0
    assert rate.wait_s("4999") == 60.0
    assert len(rate._seen) == 4096


def test_a_peer_with_a_network_of_addresses_is_one_peer() -> None:
    assert peer_key("2001:db8::1") == peer_key("2001:db8::ffff:2") != peer_key("2001:db9::1")
    assert peer_key("10.0.0.1") != peer_key("10.0.0.2")
    assert peer_key("::ffff:10.0.0.1") != peer_key("::ffff:10.0.0.2")
    assert peer_key("fe80::1%eth0") == "fe80::"
    assert peer_key("?") == "?"
