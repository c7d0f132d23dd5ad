"""Logins: what the file holds, how long a session lasts, how often one may guess."""

from collections.abc import Callable
from pathlib import Path

import pytest

from brainforge_edge.core.errors import BrainforgeError, SecurityError
from brainforge_edge.web import logins
from brainforge_edge.web.logins import Logins, Person, Role, entry, read

WORDS = "quiet river stone"


def salted(n: int) -> bytes:
    return bytes(range(n))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def counted() -> Callable[[int], bytes]:
    n = 0

    def random(size: int) -> bytes:
        nonlocal n
        n += 1
        return n.to_bytes(size, "big")

    return random


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def kept(tmp_path: Path, clock: Clock) -> Logins:
    path = tmp_path / "logins"
    path.write_text(
        entry("nurse", Role.OPERATOR, WORDS, random=salted)
        + "\n\n"
        + entry("guest", Role.VIEWER, "look, but do not touch", random=salted)
        + "\n"
    )
    return Logins(path, idle_s=60.0, now_s=clock, random=counted())


def test_a_password_is_checked_and_not_kept(kept: Logins, tmp_path: Path) -> None:
    assert kept.check("nurse", WORDS) == Person("nurse", Role.OPERATOR)
    assert kept.check("guest", "look, but do not touch") == Person("guest", Role.VIEWER)
    for name, password in (("nurse", "wrong words here"), ("nobody", WORDS), ("nurse", "")):
        assert kept.check(name, password) is None
    assert WORDS not in (tmp_path / "logins").read_text()


@pytest.mark.parametrize("password", ["short", "x" * 201, ""])
def test_a_password_is_neither_short_nor_endless(password: str) -> None:
    with pytest.raises(SecurityError) as refused:
        entry("nurse", Role.VIEWER, password, random=salted)
    assert refused.value.code == "security.password"


@pytest.mark.parametrize("name", ["", "two words", "Ä", "a/b"])
def test_a_name_is_a_name(name: str) -> None:
    with pytest.raises(BrainforgeError):
        entry(name, Role.VIEWER, WORDS, random=salted)


@pytest.mark.parametrize(
    "content", [b"nurse operator\n", b"nurse king AAAA AAAA\n", b"nurse viewer ? ?\n", b"\xff\n"]
)
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "logins"
    path.write_bytes(content)
    with pytest.raises(SecurityError) as refused:
        read(path)
    assert refused.value.code == "security.logins"
    assert str(path) in str(refused.value)
    with pytest.raises(SecurityError, match="no such file"):
        read(tmp_path / "other")


def test_a_session_ends_when_it_is_idle_or_old(kept: Logins, clock: Clock) -> None:
    nurse = Person("nurse", Role.OPERATOR)
    token = kept.begin(nurse)
    clock.now += 59
    assert kept.person(token, is_active=True) == nurse
    clock.now += 59
    assert kept.person(token, is_active=False) == nurse  # looking on keeps nobody logged in
    clock.now += 2
    assert kept.person(token, is_active=True) is None
    assert kept.person("", is_active=True) is None
    token = kept.begin(nurse)
    until = clock.now + logins.LONGEST_S
    while clock.now < until:
        assert kept.person(token, is_active=True) == nurse
        clock.now += 50
    clock.now += 1
    assert kept.person(token, is_active=True) is None


def test_the_oldest_session_makes_room_and_an_ended_one_is_gone(kept: Logins, clock: Clock) -> None:
    guest = Person("guest", Role.VIEWER)
    tokens = []
    for _ in range(logins.MOST_SESSIONS + 1):
        clock.now += 0.1
        tokens.append(kept.begin(guest))
    assert len(set(tokens)) == len(tokens)
    assert kept.person(tokens[0], is_active=False) is None
    assert kept.person(tokens[1], is_active=False) == guest
    kept.end(tokens[1])
    assert kept.person(tokens[1], is_active=False) is None


def test_guessing_has_to_wait(kept: Logins, clock: Clock) -> None:
    for _ in range(logins.MOST_FAILURES):
        assert kept.may_try("10.0.0.9")
        kept.failed("10.0.0.9")
    assert not kept.may_try("10.0.0.9")
    assert kept.may_try("10.0.0.8")
    clock.now += logins.FAILURES_S + 1
    assert kept.may_try("10.0.0.9")
