"""Who may log in, and who is logged in. Runs in: web process, its asyncio loop; `entry` in the CLI.

A line of the file is a name, a role and a salted scrypt of the password. Who is logged in is known
to this process alone: after a restart people log in again.
"""

import base64
import binascii
import hashlib
import hmac
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

from brainforge_edge.core.errors import SecurityError
from brainforge_edge.core.ids import checked_name

LEAST_LETTERS: Final = 10
MOST_LETTERS: Final = 200
MOST_SESSIONS: Final = 64
LONGEST_S: Final = 12 * 3600.0  # then a person logs in again, however busy
MOST_FAILURES: Final = 5  # within …
FAILURES_S: Final = 60.0
PERSON: Final = "brainforge.person"  # where a WebSocket's scope says who looks
_MOST_PEERS: Final = 1024
_SALT: Final = 16
# 16 MiB and 50 ms for each guess; the numbers stand here and not in the file, where nobody can lower them.
_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 2**14, 8, 1


class Role(StrEnum):
    """What a person may do: look, or also start, stop and mark."""

    VIEWER = "viewer"
    OPERATOR = "operator"


class Person(NamedTuple):
    name: str
    role: Role


class _Entry(NamedTuple):
    role: Role
    salt: bytes
    digest: bytes


class _Session(NamedTuple):
    person: Person
    since_s: float
    seen_s: float


def entry(name: str, role: Role, password: str, *, random: Callable[[int], bytes]) -> str:
    """The line for the file; ConfigError for the name, SecurityError for a password that is too short."""
    checked_name(name, "the name")
    if not LEAST_LETTERS <= len(password) <= MOST_LETTERS:
        raise SecurityError(
            "password",
            "no login was made",
            why=f"a password has {LEAST_LETTERS} to {MOST_LETTERS} characters",
            remedy="Choose another: some words in a row are good",
        )
    salt = random(_SALT)
    packed = (base64.b64encode(part).decode() for part in (salt, _digest(password, salt)))
    return " ".join((name, role.value, *packed))


def read(path: Path) -> dict[str, _Entry]:
    """Name → what the file holds of it; SecurityError `logins` if it cannot be used."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return dict(_parsed(line) for line in lines if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(path, str(getattr(error, "strerror", None) or "it is no text")) from error
    except (ValueError, binascii.Error) as error:
        raise _unusable(path, "a line of it is damaged") from error


def _parsed(line: str) -> tuple[str, _Entry]:
    name, role, salt, digest = line.split()
    return name, _Entry(
        Role(role), base64.b64decode(salt, validate=True), base64.b64decode(digest, validate=True)
    )


def _unusable(path: Path, why: str) -> SecurityError:
    return SecurityError(
        "logins",
        f"the file of logins {path} cannot be used",
        why=why.lower(),
        remedy="Make it with brainforge-edge logins add, readable for the daemon's user",
    )


def _digest(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(
        password.encode(), salt=salt, n=_SCRYPT_N, r=_SCRYPT_R, p=_SCRYPT_P, dklen=32
    )


class Logins:
    """Those of `path`, which is read anew at each login. Times are of `now_s`."""

    def __init__(
        self,
        path: Path,
        *,
        idle_s: float,
        now_s: Callable[[], float],
        random: Callable[[int], bytes],
    ) -> None:
        self._path = path
        self._idle_s = idle_s
        self._now_s = now_s
        self._random = random
        self._sessions: dict[str, _Session] = {}
        self._failed: dict[str, deque[float]] = {}

    def check(self, name: str, password: str) -> Person | None:
        """Blocks for as long as a guess is to cost, for names that are not there too."""
        found = read(self._path).get(name)
        digest = _digest(password[:MOST_LETTERS], found.salt if found else b"\0" * _SALT)
        if found is None or not hmac.compare_digest(digest, found.digest):
            return None
        return Person(name, found.role)

    def may_try(self, peer: str) -> bool:
        """False for an address that failed too often just now."""
        failed = self._failed.get(peer, deque())
        while failed and self._now_s() - failed[0] > FAILURES_S:
            failed.popleft()
        return len(failed) < MOST_FAILURES

    def failed(self, peer: str) -> None:
        if peer not in self._failed and len(self._failed) >= _MOST_PEERS:
            self._failed.pop(next(iter(self._failed)))
        self._failed.setdefault(peer, deque(maxlen=MOST_FAILURES)).append(self._now_s())

    def begin(self, person: Person) -> str:
        """The token of a new session; the one that was silent longest makes room."""
        if len(self._sessions) >= MOST_SESSIONS:
            del self._sessions[min(self._sessions, key=lambda each: self._sessions[each].seen_s)]
        token = self._random(32).hex()
        now = self._now_s()
        self._sessions[token] = _Session(person, now, now)
        return token

    def person(self, token: str, *, is_active: bool) -> Person | None:
        """Whose session it is, unless it was idle for too long; `is_active` keeps it from becoming so."""
        session = self._sessions.get(token)
        if session is None:
            return None
        now = self._now_s()
        if now - session.seen_s > self._idle_s or now - session.since_s > LONGEST_S:
            del self._sessions[token]
            return None
        if is_active:
            self._sessions[token] = session._replace(seen_s=now)
        return session.person

    def end(self, token: str) -> None:
        self._sessions.pop(token, None)
