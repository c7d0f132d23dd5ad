"""The authority as it is served: a real process, real sockets, and whoever may knock there."""

import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from pathlib import Path
from typing import Any

import msgspec
import pytest

from brainforge_edge.cloud.authority.authority import Authority
from brainforge_edge.cloud.authority.desk import ENROL_PATH, HEALTH_PATH
from brainforge_edge.security import certificates
from brainforge_edge.security.enrolment import Answer, Token, ask, ask_again
from brainforge_edge.storage.files import SystemDisk
from tests.broker.served import Served, call, code

MOST_S = 60.0  # a slow machine
MANY = 20


def now() -> datetime:
    return datetime.now(UTC)


class Site:
    """An authority that is served."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.authority = Authority.create(
            root, "site", now=now(), days=400, disk=SystemDisk(), random=os.urandom
        )
        self.served = Served(root)

    @property
    def port(self) -> int:
        return self.served.port

    def token(self, name: str = "bed-1", *, ago: timedelta = timedelta()) -> Token:
        return self.authority.invite(name, now=now() - ago)

    def request(self, name: str = "bed-1", *, token: Token | None = None) -> bytes:
        return ask(certificates.make_key(), name, token or self.token(name))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "site")
    made.served.start()
    try:
        yield made
    finally:
        made.served.stop()


def serial(said: Any) -> int:
    answer = msgspec.convert(said, Answer)
    return certificates.read_certificate(answer.certificate.encode(), "").serial_number


def at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """What they come to, begun together."""
    barrier = threading.Barrier(len(calls))

    def one(each: Callable[[], Any]) -> Any:
        barrier.wait(MOST_S)
        return each()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(one, calls))


def test_a_token_is_good_once_however_many_ask_at_once(site: Site) -> None:
    token = site.token()
    requests = [site.request(token=token) for _ in range(MANY)]
    done = at_once([lambda r=r: call(site.port, r) for r in requests])  # type: ignore[misc]
    assert sorted(status for status, _ in done) == [200] + [403] * (MANY - 1)
    assert {s["error"]["code"] for status, s in done if status != 200} == {"security.token_used"}
    assert len(site.authority.ledger().issued) == 1


def test_the_same_request_sent_by_many_at_once_has_one_certificate(site: Site) -> None:
    request = site.request()
    done = at_once([lambda: call(site.port, request)] * MANY)
    assert {status for status, _ in done} == {200}
    (issued,) = site.authority.ledger().issued
    assert {f"{serial(said):x}" for _, said in done} == {issued.serial}


def test_commands_beside_the_server_and_it_lose_nothing_of_each_other(site: Site) -> None:
    """Tokens, revocations and requests in one heap: each change of the ledger is there afterwards."""
    names = [f"bed-{n}" for n in range(8)]
    for name in names:
        assert call(site.port, site.request(name))[0] == 200
    requests = [site.request(f"new-{n}") for n in range(8)]
    done = at_once(
        [
            *(lambda r=r: call(site.port, r)[0] for r in requests),
            *(lambda n=n: site.authority.revoke(n, now=now()) for n in names),
            *(lambda n=n: site.token(f"more-{n}") for n in range(4)),
        ]
    )
    assert done[:8] == [200] * 8
    ledger = site.authority.ledger()
    assert len(ledger.issued) == 16
    assert {each.name for each in ledger.issued if each.revoked} == set(names)
    assert len(ledger.invitations) == 20
    assert sum(each.used is not None for each in ledger.invitations) == 16


@pytest.mark.parametrize(
    ("make", "status", "reason"),
    [
        (lambda _: b"", 400, "request_unreadable"),
        (lambda _: os.urandom(3000), 400, "request_unreadable"),
        (lambda _: b'{"request": "x", "proof": ""}', 400, "bad_request"),
        (lambda _: b"[" * 60_000, 400, "request_unreadable"),
        (lambda s: s.request()[:-20], 400, "request_unreadable"),
        (lambda s: s.request(token=Token(s.token().id, bytes(32))), 403, "request_forged"),
        (lambda s: s.request(token=Token("0" * 16, bytes(32))), 403, "token_unknown"),
        (lambda s: s.request(token=s.token(ago=timedelta(minutes=20))), 403, "token_expired"),
        (lambda s: s.request("bed-2", token=s.token("bed-1")), 403, "token_of_another"),
        (lambda s: s.request() + b"\n", 200, ""),
    ],
)
def test_each_bad_request_has_its_status_and_a_sentence(
    site: Site, make: Callable[[Site], bytes], status: int, reason: str
) -> None:
    got, said = call(site.port, make(site))
    assert got == status
    if reason:
        assert said["error"]["code"] == f"security.{reason}"
        assert said["error"]["why"]
        assert said["error"]["remedy"]
        assert site.authority.ledger().issued == ()
    (line,) = site.served.lines("enrolment")
    assert line["decision"] == ("refused" if reason else "signed")
    assert line.get("code", "") == (f"security.{reason}" if reason else "")


def test_renewals_are_judged_over_the_network_as_by_hand(site: Site) -> None:
    key = certificates.make_key()
    _, said = call(site.port, ask(key, "bed-1", site.token()))
    held = certificates.read_certificate(said["certificate"].encode(), "")
    own = key, held
    assert call(site.port, ask_again(certificates.make_key(), "bed-1", own))[0] == 200
    stranger = certificates.make_key(), held
    forged = ask_again(certificates.make_key(), "bed-1", stranger)
    assert code(site.port, forged) == (403, "security.request_forged")
    other = ask_again(certificates.make_key(), "bed-2", own)
    assert code(site.port, other) == (403, "security.renewal_of_another")
    broken = msgspec.json.decode(forged) | {"certificate": "-----BEGIN CERTIFICATE-----"}
    assert code(site.port, msgspec.json.encode(broken)) == (400, "security.not_a_certificate")
    ago = now() - timedelta(days=8)
    was = site.authority.invite("bed-3", now=ago)
    answer, _ = site.authority.sign(ask(key3 := certificates.make_key(), "bed-3", was), now=ago)
    over = certificates.read_certificate(msgspec.json.decode(answer)["certificate"].encode(), "")
    after = ask_again(certificates.make_key(), "bed-3", (key3, over))
    assert code(site.port, after) == (403, "security.certificate_expired")
    site.authority.revoke(f"{held.serial_number:x}", now=now())
    late = ask_again(certificates.make_key(), "bed-1", own)
    assert code(site.port, late) == (403, "security.certificate_revoked")


def test_who_guesses_at_a_token_is_not_heard_any_more_under_it(site: Site) -> None:
    token, other = site.token(), site.token()
    for _ in range(10):
        wrong = site.request(token=Token(token.id, os.urandom(32)))
        assert code(site.port, wrong) == (403, "security.request_forged")
    right = site.request(token=token)
    assert code(site.port, right) == (429, "cloud.too_many_requests")
    assert call(site.port, site.request(token=other))[0] == 200
    assert len(site.authority.ledger().issued) == 1


def test_a_flood_is_refused_before_it_is_read_and_fills_no_log(site: Site) -> None:
    said: list[int] = []
    while 429 not in said:
        assert len(said) < 5000  # 120 within a minute are heard
        said.append(call(site.port, b"x")[0])
    assert len(said) > 120
    assert set(said[:-1]) == {400}
    heard = len(site.served.lines("enrolment"))
    for _ in range(20):
        call(site.port, b"x")
    assert heard == len(said) - 1
    assert len(site.served.lines("enrolment")) <= heard + 20
    assert len(site.served.lines("too many calls")) >= 1
    assert site.authority.ledger().issued == ()


@pytest.mark.parametrize("head", [b"Content-Length: 10485760", b"Transfer-Encoding: chunked"])
def test_ten_megabytes_are_refused_and_not_kept(site: Site, head: bytes) -> None:
    with socket.create_connection(("127.0.0.1", site.port), MOST_S) as sock:
        sock.sendall(
            b"POST " + ENROL_PATH.encode() + b" HTTP/1.1\r\nHost: a\r\n" + head + b"\r\n\r\n"
        )
        part = b"x" * 16_384 if b"Length" in head else b"4000\r\n" + b"x" * 16_384 + b"\r\n"
        with suppress(ConnectionError):  # it may have hung up before all is sent
            for _ in range(640):
                sock.sendall(part)
        heard = b""
        with suppress(ConnectionError):
            while more := sock.recv(4096):
                heard += more
    assert heard == b"" or heard.startswith(b"HTTP/1.1 413 ")
    assert call(site.port, site.request())[0] == 200
    rss = Path(f"/proc/{site.served.pid}/status").read_text().split("VmHWM:")[1].split()[0]
    assert int(rss) < 200_000  # kB


@pytest.mark.slow
def test_connections_that_say_nothing_take_no_place_for_long(site: Site) -> None:
    slow = []
    try:
        for n in range(40):
            sock = socket.create_connection(("127.0.0.1", site.port), MOST_S)
            slow.append(sock)
            begun = (b"", b"P", b"POST /enrol HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{")
            with suppress(ConnectionError):
                sock.sendall(begun[n % 3])
        # Of one address 32 are let in; another address is served meanwhile.
        with socket.create_connection(("127.0.0.1", site.port), MOST_S, ("127.0.0.2", 0)) as sock:
            sock.sendall(f"GET {HEALTH_PATH} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            assert sock.recv(4096).startswith(b"HTTP/1.1 200 ")
        heard = []
        for sock in slow:  # each ends by itself
            sock.settimeout(MOST_S)
            words = b""
            with suppress(ConnectionError):
                while more := sock.recv(4096):
                    words += more
            heard.append(words[:13])
        assert set(heard) == {b"", b"HTTP/1.1 408 "}
    finally:
        for sock in slow:
            sock.close()
    assert call(site.port, site.request())[0] == 200


def test_other_pages_and_methods_are_refused_and_its_health_is_told(site: Site) -> None:
    assert code(site.port, b"", path="/") == (404, "cloud.no_such_page")
    assert code(site.port, b"", method="GET") == (405, "cloud.wrong_method")
    status, said = call(site.port, method="GET", path=HEALTH_PATH)
    assert (status, said["ok"], said["site"]) == (200, True, "site")
    ledger = site.authority.folder / "ledger.json"
    whole = ledger.read_bytes()
    ledger.write_bytes(whole[:-1])
    status, said = call(site.port, method="GET", path=HEALTH_PATH)
    assert (status, said["error"]["code"]) == (500, "cloud.authority_unwell")
    assert str(site.root) not in json.dumps(said)  # that is for its log
    request = site.served.lines("authority unwell")
    assert request[-1]["code"] == "security.authority_damaged"
    ledger.write_bytes(whole)
    assert call(site.port, site.request())[0] == 200


def test_while_somebody_holds_the_ledger_it_says_busy_and_loses_nothing(site: Site) -> None:
    request = site.request()
    with SystemDisk().exclusive(site.authority.folder / ".lock"):
        assert code(site.port, request) == (503, "cloud.authority_busy")
    assert call(site.port, request)[0] == 200
    assert len(site.authority.ledger().issued) == 1


_KILLED_BEFORE_IT_ANSWERS = """
import os, signal, sys
from brainforge_edge.cli.main import main
from brainforge_edge.cloud.authority.authority import Authority
sign = Authority.sign
def killed(self, *args, **options):
    sign(self, *args, **options)
    os.kill(os.getpid(), signal.SIGKILL)
Authority.sign = killed
sys.exit(main(["cloud", "ca", "serve", *sys.argv[1:]]))
"""


def test_an_authority_killed_between_its_ledger_and_the_answer_answers_after_its_restart(
    tmp_path: Path,
) -> None:
    site = Site(tmp_path / "site")
    request = site.request()
    dying = Served(site.root, command=(sys.executable, "-c", _KILLED_BEFORE_IT_ANSWERS)).start()
    with pytest.raises((ConnectionError, OSError)):
        call(dying.port, request)
    assert dying.wait() == -9
    (issued,) = site.authority.ledger().issued
    site.served.start()
    try:
        status, said = call(site.port, request)
        assert (status, f"{serial(said):x}") == (200, issued.serial)
        assert len(site.authority.ledger().issued) == 1
    finally:
        site.served.stop()


def test_a_server_killed_amid_many_requests_leaves_a_ledger_that_knows_what_it_said(
    site: Site,
) -> None:
    """Whoever got no answer sends the same again."""
    for n in range(3):
        requests = [site.request(f"bed-{n}-{i}") for i in range(MANY)]
        answered = threading.Event()

        def asked(request: bytes, answered: threading.Event = answered) -> Any:
            with suppress(OSError, HTTPException, ValueError):
                status, said = call(site.port, request)
                answered.set()
                assert status == 200
                return said
            return None

        def killed(answered: threading.Event = answered) -> None:
            assert answered.wait(MOST_S)
            site.served.kill()

        *said, _ = at_once([*(lambda r=r: asked(r) for r in requests), killed])
        known = {each.serial for each in site.authority.ledger().issued}
        assert {f"{serial(each):x}" for each in said if each} <= known
        site.served.start()
        again = at_once([lambda r=r: call(site.port, r) for r in requests])  # type: ignore[misc]
        assert {status for status, _ in again} == {200}
        for first, (_, second) in zip(said, again, strict=True):
            assert not first or serial(first) == serial(second)
        assert len(site.authority.ledger().issued) == (n + 1) * MANY


def test_no_secret_is_logged_and_it_ends_in_order_beside_an_open_connection(site: Site) -> None:
    token = site.token()
    call(site.port, site.request(token=token))
    call(site.port, site.request(token=Token(token.id, bytes(32))))
    call(site.port, b"x" * 1000)
    with socket.create_connection(("127.0.0.1", site.port), MOST_S):
        served, pid_log = site.served, site.served.log
        assert served.stop() == 0
    log = pid_log.read_text()
    for secret in (token.secret.hex(), token.kept.hex(), token.text, "PRIVATE", "proof"):
        assert secret not in log
    assert [line["decision"] for line in served.lines("enrolment")] == [
        "signed",
        "refused",
        "refused",
    ]
    assert "Traceback" not in log
