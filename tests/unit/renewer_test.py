"""When the agent renews, how it waits, what it tells: with a clock that a test turns, and no thread."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from brainforge_edge.cli.status import certificate_sentence
from brainforge_edge.cloud.authority.authority import Authority
from brainforge_edge.core import config
from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.errors import ConfigError, SecurityError, TransportError
from brainforge_edge.core.events import EventType
from brainforge_edge.fleet import renewer as renewer_module
from brainforge_edge.fleet.renewer import LOOK_S, Renewer, renewer_of
from brainforge_edge.fleet.sitekeys import Placed
from brainforge_edge.recorder.desiredfile import Standing, write_standing
from brainforge_edge.security.desired import SealState, new_desired
from brainforge_edge.security.keystore import read_private
from brainforge_edge.security.renewal import renewal_time
from tests.unit.enrolment_material import DAY, NOW, authority, box, edge, enrolled, public_keys
from tests.unit.orders_material import desired
from tests.unit.recorder_faulty_disk import UnsyncedDisk


class Hands:
    """A clock whose hands are turned."""

    def __init__(self, now: datetime) -> None:
        self.now: datetime | None = now
        self._ns = 0

    def turn(self, seconds: float) -> None:
        self._ns += round(seconds * 1e9)
        if self.now is not None:
            self.now += timedelta(seconds=seconds)

    def monotonic_ns(self) -> int:
        return self._ns

    def utc_ns(self) -> int | None:
        return None if self.now is None else round(self.now.timestamp() * 1e9)

    def sleep(self, seconds: float) -> None:
        raise AssertionError(seconds)


class Stand:
    """A box that was enrolled at NOW, its site, and a renewer whose network can be away."""

    def __init__(self, root: Path, *, by_itself: bool = True, days: float = 7.0) -> None:
        self.root = root
        self.site: Authority = authority(root)
        self.days = days
        self.box = enrolled(root, self.site, days=days)
        self.clock = Hands(NOW)
        self.is_away = False
        self.tries = 0
        self.events: list[tuple[EventType, dict[str, Any]]] = []
        self.renewer = Renewer(
            box(root),
            self.exchange if by_itself else None,
            clock=self.clock,
            random=lambda: 0.5,
            emit=lambda event, data: self.events.append((event, data)),
        )

    def exchange(self, request: bytes) -> bytes:
        self.tries += 1
        if self.is_away:
            raise TransportError("authority_absent", "no answer", why="refused", remedy="Wait")
        assert self.clock.now is not None
        return self.site.sign(request, now=self.clock.now, days=self.days)[0]

    def go(self, seconds: float) -> None:
        """As its thread does, for so long."""
        end = self.clock.monotonic_ns() + seconds * 1e9
        while self.clock.monotonic_ns() < end:
            self.clock.turn(self.renewer.look())

    def to(self, when: datetime) -> None:
        """As `go`, with nothing to do on the way."""
        assert self.clock.now is not None
        self.clock.turn((when - self.clock.now).total_seconds())

    @property
    def stats(self) -> dict[str, Any]:
        return self.renewer.stats()

    @property
    def code(self) -> str:
        return str((self.stats["error"] or {"code": ""})["code"])

    @property
    def told(self) -> list[EventType]:
        return [event for event, _ in self.events]


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path)


def test_it_renews_when_it_is_due_and_not_before(stand: Stand) -> None:
    due = renewal_time(stand.box.certificate())
    assert stand.renewer.look() == LOOK_S
    stand.to(due - timedelta(seconds=9.5))
    assert 9 < stand.renewer.look() < 10
    assert stand.tries == 0
    assert stand.stats["renewal"] == "not_yet"
    stand.to(due)
    stand.renewer.look()
    own = stand.box.certificate()
    assert own.not_valid_after_utc == due.replace(microsecond=0) + 7 * DAY
    assert stand.told == [EventType.CERTIFICATE_RENEWED]
    assert stand.stats == {
        "until": own.not_valid_after_utc.isoformat(),
        "renewal": "not_yet",
        "by_itself": True,
        "error": None,
    }
    assert "to be renewed later, by itself" in certificate_sentence(stand.stats)


def test_for_a_year_it_renews_every_five_days_and_a_bit(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    for _ in range(60):
        stand.to(renewal_time(stand.box.certificate()))
        stand.renewer.look()
    assert stand.tries == 60
    assert 60 * 0.66 * 7 * DAY < stand.clock.now - NOW < 60 * 0.77 * 7 * DAY  # type: ignore[operator]
    assert stand.code == ""


def test_while_the_authority_is_away_it_tries_ever_more_seldom_and_gives_nothing_up(
    stand: Stand,
) -> None:
    stand.to(renewal_time(stand.box.certificate()))
    stand.is_away = True
    stand.go(60)
    assert 4 <= stand.tries <= 5  # after 5, 10, 20, 40 s
    assert stand.code == "transport.authority_absent"
    assert "refused" in certificate_sentence(stand.stats)
    before = stand.tries
    stand.go(43_200)
    assert 43_200 / 900 <= stand.tries - before <= 43_200 / 900 + 10
    assert stand.told == []
    stand.is_away = False
    stand.go(900)
    assert stand.told == [EventType.CERTIFICATE_RENEWED]
    assert stand.code == ""
    assert len(stand.site.ledger().issued) == 2  # one request, however often it was sent


def test_near_its_end_it_tries_more_often_and_somebody_is_told_once(stand: Stand) -> None:
    until = stand.box.certificate().not_valid_after_utc
    stand.is_away = True
    stand.to(until - DAY)
    stand.go(3600)
    assert stand.told == [EventType.CERTIFICATE_EXPIRING]
    assert stand.events[0][1]["why"] == "refused"
    stand.to(until - timedelta(minutes=2))
    before = stand.tries
    stand.go(110)
    assert stand.tries - before > 10
    stand.to(until + timedelta(seconds=2))
    stand.go(600)
    assert stand.told == [EventType.CERTIFICATE_EXPIRING, EventType.CERTIFICATE_EXPIRED]
    assert stand.code == "security.certificate_expired"
    assert "refused" in stand.stats["error"]["why"]
    assert "enrol now --token-file" in stand.stats["error"]["remedy"]
    token = stand.site.invite("bed-1", now=until + DAY)
    stand.to(until + DAY)
    box(stand.root).now(token, lambda r: stand.site.sign(r, now=until + DAY)[0])
    stand.renewer.look()
    assert (stand.stats["renewal"], stand.code) == ("not_yet", "")


def test_tries_are_spread_so_that_a_site_does_not_call_all_at_once(tmp_path: Path) -> None:
    waits = []
    for n, share in enumerate((0.0, 0.999)):
        root = tmp_path / str(n)
        root.mkdir()
        stand = Stand(root)
        stand.renewer._random = lambda s=share: s  # type: ignore[misc]
        stand.is_away = True
        stand.to(renewal_time(stand.box.certificate()))
        waits.append(stand.renewer.look())
    assert waits == [2.5, pytest.approx(7.5, abs=0.01)]


def test_without_a_clock_it_does_not_renew_and_says_so(stand: Stand) -> None:
    stand.clock.now = None
    stand.renewer.look()
    assert (stand.stats["renewal"], stand.code) == ("unknown", "security.clock_unknown")
    stand.clock.now = NOW - DAY
    stand.renewer.look()
    assert stand.code == "security.clock_before_certificate"
    assert "Set the clock" in certificate_sentence(stand.stats)
    assert stand.tries == 0
    stand.clock.now = NOW + 6 * DAY
    stand.renewer.look()
    assert stand.tries == 1
    assert stand.code == ""


def test_a_clock_that_is_days_ahead_of_the_authoritys_makes_no_storm(stand: Stand) -> None:
    """By the box's clock each new certificate is due at once."""
    site = stand.site
    stand.renewer._by = lambda r: site.sign(r, now=NOW)[0]
    stand.to(NOW + 6 * DAY)
    stand.go(3600)
    assert len(site.ledger().issued) == 2


def test_a_clock_that_is_months_ahead_does_not_keep_it_from_asking(stand: Stand) -> None:
    """Whether a certificate has expired is for the authority to say, by its own clock."""
    stand.renewer._by = lambda r: stand.site.sign(r, now=NOW + 5 * DAY)[0]
    stand.clock.now = NOW + 90 * DAY
    stand.renewer.look()
    assert stand.box.certificate().not_valid_after_utc == NOW + 12 * DAY
    assert stand.code == "security.certificate_expired"  # … as far as can be told here
    stand.go(3600)
    assert len(stand.site.ledger().issued) == 2


def test_an_answer_that_was_lost_is_had_even_after_the_certificate_has_expired(
    stand: Stand,
) -> None:
    def lost(request: bytes) -> bytes:
        stand.site.sign(request, now=NOW + 5 * DAY)
        raise TransportError("authority_absent", "no answer", why="lost", remedy="Wait")

    stand.renewer._by = lost
    stand.to(NOW + 6 * DAY)
    stand.renewer.look()
    stand.renewer._by = stand.exchange
    stand.to(NOW + 8 * DAY)
    stand.renewer.look()
    assert stand.code == ""
    assert stand.box.certificate().not_valid_after_utc == NOW + 12 * DAY


def test_after_its_end_it_asks_now_and_then_and_says_what_to_do(stand: Stand) -> None:
    stand.to(NOW + 8 * DAY)
    stand.go(43_200)
    assert 43_200 / 900 - 1 <= stand.tries <= 43_200 / 900 + 10
    assert stand.told == [EventType.CERTIFICATE_EXPIRED]
    assert "the request was not signed" not in stand.stats["error"]["what"]
    assert "valid until" in stand.stats["error"]["why"]
    assert len(stand.site.ledger().issued) == 1


def test_a_stranger_who_swallows_answers_and_says_no_has_one_certificate_made_a_day(
    stand: Stand,
) -> None:
    """Else he could have so many made that the authority gives no more, and be gone."""

    def swallowed(request: bytes) -> bytes:
        stand.exchange(request)
        raise SecurityError("key_known", "it was not signed", why="so he says", remedy="No")

    stand.renewer._by = swallowed
    stand.to(NOW + 5.5 * DAY)
    stand.go(30 * 3600)
    assert stand.tries > 100
    assert len(stand.site.ledger().issued) <= 4
    stand.renewer._by = stand.exchange
    stand.go(1800)
    assert stand.code == ""
    assert stand.told[-1] is EventType.CERTIFICATE_RENEWED


def test_without_an_address_it_looks_and_tells(tmp_path: Path) -> None:
    stand = Stand(tmp_path, by_itself=False)
    stand.to(NOW + 5.5 * DAY)
    stand.renewer.look()
    assert (stand.stats["renewal"], stand.stats["by_itself"]) == ("due", False)
    assert "to be renewed now, by brainforge-edge enrol" in certificate_sentence(stand.stats)
    stand.to(NOW + 6.5 * DAY)
    stand.go(120)
    assert stand.told == [EventType.CERTIFICATE_EXPIRING]


def test_a_box_that_is_not_enrolled_yet_is_told_how(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    (tmp_path / "bed-1" / "node.pem").unlink()
    assert stand.renewer.look() == LOOK_S
    assert stand.code == "security.no_certificate"
    said = certificate_sentence(stand.stats)
    assert said.startswith("certificate: none that could be used; ")
    assert "enrol now" in said


def test_it_finishes_what_a_dead_process_left_half_installed(stand: Stand) -> None:
    folder = stand.root / "bed-1"
    old_key = (folder / "node.key").read_bytes()
    stand.box.now(None, lambda r: stand.site.sign(r, now=NOW + DAY)[0])
    UnsyncedDisk().rename(folder / "node.key", folder / "node.key.next")
    UnsyncedDisk().write_new(folder / "node.key", old_key, 0o600)
    stand.to(NOW + DAY)
    stand.renewer.look()
    assert stand.code == ""
    assert stand.box.certificate().not_valid_after_utc == NOW + 8 * DAY
    assert read_private(folder / "node.key")


def test_a_key_of_the_site_that_differs_is_told_of_until_the_next_renewal(stand: Stand) -> None:
    stand.site.publish(public_keys(stand.root / "first"))
    token = stand.site.invite("bed-1", now=NOW)
    stand.box.now(token, lambda r: stand.site.sign(r, now=NOW)[0])
    stand.site.publish(public_keys(stand.root / "second"))
    stand.to(renewal_time(stand.box.certificate()))
    stand.renewer.look()
    stand.go(120)
    assert stand.code == "security.site_key_differs"
    assert stand.events[0][1]["keys"]["recovery"] == "differs"
    assert "aggregator, recovery, signer" in certificate_sentence(stand.stats)


def test_a_key_that_a_desired_state_changed_meanwhile_does_not_differ(stand: Stand) -> None:
    made = stand.root / "first", stand.root / "second"
    first, second = (public_keys(folder) for folder in made)
    stand.site.publish(first)
    token = stand.site.invite("bed-1", now=NOW)
    stand.box.now(token, lambda r: stand.site.sign(r, now=NOW)[0])
    stand.site.publish({"signer": second["signer"], "recovery": second["recovery"]})
    stand.to(renewal_time(stand.box.certificate()))
    stand.go(120)
    assert stand.code == "security.site_key_differs"
    UnsyncedDisk().make_folder(stand.root / "box")
    seal = SealState(recovery=second["recovery"].decode())
    for state, left in (
        (desired(signer=second["signer"].decode()), "recovery"),
        (desired(signer=second["signer"].decode(), seal=seal), ""),
    ):
        standing = Standing(new_desired(state), state, None)
        write_standing(stand.root / "box", standing, UnsyncedDisk())
        stand.go(120)
        assert (stand.code == "security.site_key_differs") == bool(left)
        assert not left or f": {left}" in certificate_sentence(stand.stats)
    done = stand.box.now(None, stand.exchange)
    assert set(done.keys.values()) == {Placed.SAME}
    assert (stand.root / "bed-1-keys" / "signer.pem").read_bytes() == first["signer"]


def test_a_fault_of_its_own_does_not_end_its_thread(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewer_module, "LOOK_S", 0.001)
    looks = []

    def broken() -> float:
        looks.append(1)
        if len(looks) == 3:
            stand.renewer._over.set()
        raise ZeroDivisionError

    monkeypatch.setattr(stand.renewer, "look", broken)
    stand.renewer.start()
    stand.renewer._thread.join(20)
    assert len(looks) == 3
    assert stand.code == "security.renewal"
    stand.renewer.stop()


def test_it_is_made_as_the_configuration_says(tmp_path: Path) -> None:
    made = renewer_of(edge(tmp_path), UnsyncedDisk(), clock=SystemClock(), emit=lambda *_: None)
    assert made.look() == LOOK_S
    assert made.stats()["by_itself"]
    plain = config.parse(f'[node]\nid = "b"\nroot = "{tmp_path}"\n')
    with pytest.raises(ConfigError, match="cannot be enrolled"):
        renewer_of(plain, UnsyncedDisk(), clock=SystemClock(), emit=lambda *_: None)
