"""A lost answer, a process that dies, a ledger that grows: the same request is answered again, and nothing twice."""

import os
from datetime import timedelta
from pathlib import Path

import pytest

from brainforge_edge.cloud.authority import checks
from brainforge_edge.cloud.authority.authority import Authority
from brainforge_edge.core.errors import SecurityError
from brainforge_edge.security import certificates
from brainforge_edge.security.certificates import Certificate
from brainforge_edge.security.enrolment import ask
from tests.unit.enrolment_material import DAY, MINUTE, NOW, authority, box, enrolled
from tests.unit.recorder_faulty_disk import FaultyDisk, Killed


class Lost(Exception):
    """The answer did not come."""


def test_a_lost_answer_does_not_cost_the_token(tmp_path: Path) -> None:
    site, made = authority(tmp_path), box(tmp_path)
    token = site.invite("bed-1", now=NOW)
    sent = []

    def lost(request: bytes) -> bytes:
        sent.append(request)
        site.sign(request, now=NOW)
        raise Lost

    for _ in range(2):
        with pytest.raises(Lost):
            made.now(token, lost)
    done = box(tmp_path).now(token, lambda r: site.sign(r, now=NOW + 20 * MINUTE)[0])
    assert len(set(sent)) == 1
    (issued,) = site.ledger().issued
    assert f"{done.certificate.serial_number:x}" == issued.serial
    assert box(tmp_path).certificate() == done.certificate
    assert [path.name for path in (tmp_path / "bed-1").glob("*.request")] == []
    with pytest.raises(SecurityError, match="good for one request"):
        made.now(token, lambda r: site.sign(r, now=NOW)[0])


def test_a_refusal_does_not_cost_the_token_either_since_anybody_may_have_said_it(
    tmp_path: Path,
) -> None:
    site, made = authority(tmp_path), box(tmp_path)
    token = site.invite("bed-1", now=NOW)

    def posed(request: bytes) -> bytes:
        site.sign(request, now=NOW)
        raise SecurityError("token_used", "it was not signed", why="says a stranger", remedy="No")

    with pytest.raises(SecurityError, match="says a stranger"):
        made.now(token, posed)
    made.now(token, lambda r: site.sign(r, now=NOW)[0])
    assert len(site.ledger().issued) == 1


def test_another_token_or_a_damaged_request_makes_a_new_one(tmp_path: Path) -> None:
    site, made = authority(tmp_path), box(tmp_path)
    sent: list[bytes] = []

    def lost(request: bytes) -> bytes:
        sent.append(request)
        raise Lost

    first, second = (site.invite("bed-1", now=NOW) for _ in range(2))
    for token in (first, first, second):
        with pytest.raises(Lost):
            made.now(token, lost)
    kept = tmp_path / "bed-1" / "node.key.token.request"
    data = bytearray(kept.read_bytes())
    data[len(data) // 2] ^= 1
    kept.write_bytes(data)
    with pytest.raises(Lost):
        made.now(second, lost)
    assert sent[0] == sent[1]
    assert len(set(sent)) == 3


def test_a_lost_answer_to_a_renewal_is_had_again_and_a_refused_one_is_made_anew(
    tmp_path: Path,
) -> None:
    site = authority(tmp_path)
    made = enrolled(tmp_path, site)
    sent: list[bytes] = []

    def lost(request: bytes) -> bytes:
        sent.append(request)
        site.sign(request, now=NOW + 5 * DAY)
        raise Lost

    for _ in range(2):
        with pytest.raises(Lost):
            made.now(None, lost)
    assert len(set(sent)) == 1
    assert len(site.ledger().issued) == 2

    def refused(request: bytes) -> bytes:
        sent.append(request)
        raise SecurityError("key_known", "no", why="no", remedy="no")

    with pytest.raises(SecurityError):
        made.now(None, refused)
    with pytest.raises(Lost):
        made.now(None, lost)
    assert len(set(sent)) == 2


def test_what_was_revoked_or_has_expired_is_not_given_out_again(tmp_path: Path) -> None:
    site = authority(tmp_path)
    token = site.invite("bed-1", now=NOW)
    request = ask(certificates.make_key(), "bed-1", token)
    site.sign(request, now=NOW)
    again = request + b" "  # the same words, other bytes
    for data, at, code in (
        (again, NOW, "key_known"),
        (request, NOW + 8 * DAY, "certificate_expired"),
    ):
        with pytest.raises(SecurityError) as caught:
            site.sign(data, now=at)
        assert caught.value.code == f"security.{code}"
    site.revoke("bed-1", now=NOW)
    with pytest.raises(SecurityError) as caught:
        site.sign(request, now=NOW)
    assert caught.value.code == "security.certificate_revoked"


def test_a_box_that_renews_without_end_fills_no_ledger(tmp_path: Path) -> None:
    site = authority(tmp_path)
    made = enrolled(tmp_path, site)
    for _ in range(checks.MOST_LIVE - 1):
        made.now(None, lambda r: site.sign(r, now=NOW + DAY)[0])
    with pytest.raises(SecurityError, match="16 certificates of 'bed-1' hold already"):
        made.now(None, lambda r: site.sign(r, now=NOW + DAY)[0])
    token = site.invite("bed-1", now=NOW + DAY)  # a person's word counts
    made.now(token, lambda r: site.sign(r, now=NOW + DAY)[0])
    for each in site.ledger().issued[:2]:
        site.revoke(each.serial, now=NOW + DAY)
    made.now(None, lambda r: site.sign(r, now=NOW + DAY)[0])


def test_a_ledger_forgets_what_expired_long_ago(tmp_path: Path) -> None:
    site = authority(tmp_path)
    made = enrolled(tmp_path, site)
    for day in range(5, 200, 5):
        made.now(None, lambda r, at=NOW + day * DAY: site.sign(r, now=at)[0])  # type: ignore[misc]
        ledger = site.ledger()
        assert len(ledger.issued) <= 1 + (90 + 7) // 5 + 1
        assert sum(bool(each.certificate) for each in ledger.issued) <= 3
    assert (site.folder / "ledger.json").stat().st_size < 20_000


def test_an_authority_that_has_expired_signs_nothing(tmp_path: Path) -> None:
    site = authority(tmp_path)
    late = NOW + 401 * DAY
    with pytest.raises(SecurityError, match="make a new authority"):
        site.sign(ask(certificates.make_key(), "bed-1", site.invite("bed-1", now=late)), now=late)


def test_a_certificate_of_seconds_is_not_older_than_it_can_become(tmp_path: Path) -> None:
    """Else it would be due for renewal as soon as it is made."""
    own = enrolled(tmp_path, authority(tmp_path), days=30 / 86_400).certificate()
    assert own.not_valid_after_utc == NOW + timedelta(seconds=30)
    assert own.not_valid_before_utc == NOW - timedelta(seconds=30)


def _killed_at(root: Path, at: int) -> bool:
    """Whether the authority was killed at its `at`-th call to the disk."""
    site, disk = authority(root), FaultyDisk(at=at)
    token = site.invite("bed-1", now=NOW)
    request = ask(certificates.make_key(), "bed-1", token)
    try:
        mortal = Authority(root / "site", disk=disk, random=os.urandom)
        mortal.sign(request, now=NOW)
    except Killed:
        was_killed = True
    else:
        was_killed = False
    disk.bury()
    answer, issued = Authority(root / "site", disk=site._disk, random=os.urandom).sign(
        request, now=NOW
    )
    ledger = site.ledger()
    assert [each.serial for each in ledger.issued] == [issued.serial]
    assert ledger.invitations[0].used == NOW
    assert answer
    return was_killed


def test_an_authority_killed_at_any_call_signs_the_same_request_once(tmp_path: Path) -> None:
    at = 0
    while True:
        root = tmp_path / str(at)
        root.mkdir()
        if not _killed_at(root, at):
            break
        at += 1
    assert at >= 4


def _box_killed_at(root: Path, at: int) -> bool:
    site = authority(root)
    enrolled(root, site)
    disk, later = FaultyDisk(at=at), NOW + 5 * DAY
    try:
        box(root, disk=disk).now(None, lambda r: site.sign(r, now=later)[0])
    except Killed:
        was_killed = True
    else:
        was_killed = False
    disk.bury()
    made = box(root)
    made.finish()
    own: Certificate = made.certificate()  # fits its key, whatever was killed
    if own.not_valid_after_utc < NOW + 8 * DAY:
        made.now(None, lambda r: site.sign(r, now=later)[0])
    assert made.certificate().not_valid_after_utc == NOW + 12 * DAY
    assert len(site.ledger().issued) <= 3
    return was_killed


def test_a_box_killed_at_any_call_of_a_renewal_has_a_pair_that_fits_and_goes_on(
    tmp_path: Path,
) -> None:
    at = 0
    while True:
        root = tmp_path / str(at)
        root.mkdir()
        if not _box_killed_at(root, at):
            break
        at += 1
    assert at >= 8
