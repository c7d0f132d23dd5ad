"""The authority and a box: tokens, requests, answers, renewals; who is refused, and why."""

import os
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519

from brainforge_edge.cloud.authority.authority import Authority
from brainforge_edge.core import config
from brainforge_edge.core.errors import BrainforgeError, SecurityError
from brainforge_edge.fleet.enrol import Enrolment
from brainforge_edge.security import certificates
from brainforge_edge.security.certificates import Role
from brainforge_edge.security.enrolment import Request, Token, ask, ask_again, read_ask, read_token
from brainforge_edge.security.keystore import read_private
from brainforge_edge.security.renewal import Renewal, renewal, renewal_time
from brainforge_edge.storage.files import SystemDisk

DISK = SystemDisk()
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


def authority(root: Path) -> Authority:
    return Authority.create(root, "site", now=NOW, days=400, disk=DISK, random=os.urandom)


def box(root: Path, name: str = "bed-1") -> Enrolment:
    tls = root / name
    text = (
        f'[node]\nid = "{name}"\n[uplink.tls]\nca = "{tls}/ca.pem"\n'
        f'certificate = "{tls}/node.pem"\nkey = "{tls}/node.key"\n'
    )
    return Enrolment(config.parse(text), DISK)


def enrolled(root: Path, site: Authority, name: str = "bed-1") -> Enrolment:
    made = box(root, name)
    token = site.invite(name, now=NOW)
    answer, _ = site.sign(made.request(token), now=NOW)
    made.install(answer, token)
    return made


def refused(site: Authority, request: bytes, *, now: datetime = NOW) -> str:
    before = len(site.ledger().issued)
    with pytest.raises(SecurityError) as caught:
        site.sign(request, now=now)
    assert len(site.ledger().issued) == before
    return caught.value.code.removeprefix("security.")


def test_a_box_enrols_with_a_token_and_its_key_never_leaves_it(tmp_path: Path) -> None:
    site = authority(tmp_path / "site")
    made = enrolled(tmp_path, site)
    own = made.certificate()
    assert certificates.common_name(own) == "bed-1"
    assert own.not_valid_after_utc == NOW + 7 * DAY
    use = own.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(use) == [x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]
    secret = (tmp_path / "bed-1" / "node.key").read_bytes()
    assert (tmp_path / "bed-1" / "node.key").stat().st_mode & 0o777 == 0o600
    assert not [
        p for p in (tmp_path / "site").rglob("*") if p.is_file() and secret in p.read_bytes()
    ]
    for name in ("ca.key", "ledger.json"):
        assert (tmp_path / "site" / "ca" / name).stat().st_mode & 0o777 == 0o600


def test_a_token_is_good_once(tmp_path: Path) -> None:
    site = authority(tmp_path / "site")
    token = site.invite("bed-1", now=NOW)
    site.sign(box(tmp_path).request(token), now=NOW)
    assert refused(site, box(tmp_path / "elsewhere").request(token)) == "token_used"


def test_a_token_is_good_for_fifteen_minutes(tmp_path: Path) -> None:
    site = authority(tmp_path / "site")
    request = box(tmp_path).request(site.invite("bed-1", now=NOW))
    assert refused(site, request, now=NOW + 15 * MINUTE + MINUTE / 60) == "token_expired"
    site.sign(request, now=NOW + 15 * MINUTE)


def test_a_token_is_good_for_its_node_alone(tmp_path: Path) -> None:
    site = authority(tmp_path / "site")
    token = site.invite("bed-1", now=NOW)
    assert refused(site, box(tmp_path, "bed-2").request(token)) == "token_of_another"
    site.sign(box(tmp_path).request(token), now=NOW)


def test_a_token_of_another_site_and_a_guessed_one_are_refused(tmp_path: Path) -> None:
    site, other = authority(tmp_path / "site"), authority(tmp_path / "other")
    request = box(tmp_path).request(other.invite("bed-1", now=NOW))
    assert refused(site, request) == "token_unknown"
    real = site.invite("bed-1", now=NOW)
    guessed = Token(real.id, bytes(32))
    assert refused(site, box(tmp_path).request(guessed)) == "request_forged"
    site.sign(box(tmp_path).request(real), now=NOW)  # and the real one was not used up


def test_the_token_itself_is_nowhere_but_with_who_was_given_it(tmp_path: Path) -> None:
    site = authority(tmp_path / "site")
    token = site.invite("bed-1", now=NOW)
    request = box(tmp_path).request(token)
    answer, _ = site.sign(request, now=NOW)
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    for secret in (token.secret, token.secret.hex().encode(), token.text.encode()):
        assert not [data for data in (*files, request, answer) if secret in data]
    assert read_token(f" {token.text}\n") == token
    with pytest.raises(SecurityError, match="Copy the whole line"):
        read_token(token.text[:-1])


def test_a_request_with_another_key_put_in_is_refused(tmp_path: Path) -> None:
    site = authority(tmp_path / "site")
    token = site.invite("bed-1", now=NOW)
    asked = read_ask(ask(certificates.make_key(), "bed-1", token))
    thiefs = certificates.make_request(certificates.make_key(), "bed-1").decode()
    changed = msgspec.json.encode(msgspec.structs.replace(asked, request=thiefs))
    assert refused(site, changed) == "request_forged"


def test_a_key_is_certified_once(tmp_path: Path) -> None:
    site = authority(tmp_path / "site")
    key = certificates.make_key()
    site.sign(ask(key, "bed-1", site.invite("bed-1", now=NOW)), now=NOW)
    assert refused(site, ask(key, "bed-1", site.invite("bed-1", now=NOW))) == "key_known"


def test_requests_that_are_none_are_refused(tmp_path: Path) -> None:
    """Cut, changed in one place, of another kind: never signed, and nothing but our errors."""
    site = authority(tmp_path / "site")
    whole = ask(certificates.make_key(), "bed-1", site.invite("bed-1", now=NOW))
    seeded = random.Random(5)
    bad = [whole[:n] for n in range(0, len(whole), 97)]
    for _ in range(60):
        data = bytearray(whole)
        data[seeded.randrange(len(data))] ^= 1 << seeded.randrange(8)
        bad.append(bytes(data))
    bad += [b"", b"\xff" * 100, b"null", b"[]", b" " * 100_000 + whole]
    for each in bad:
        with pytest.raises(SecurityError):
            site.sign(each, now=NOW)
    assert site.ledger().issued == ()
    for name in ("_aggregator", "bed/1", "+", "Bed-1"):
        with pytest.raises(BrainforgeError, match="a-z, 0-9"):
            site.invite(name, now=NOW)


def test_a_renewal_is_vouched_for_by_the_present_certificate(tmp_path: Path) -> None:
    site = authority(tmp_path / "site")
    made = enrolled(tmp_path, site)
    before = made.certificate()
    answer, _ = site.sign(made.request(None), now=NOW + 5 * DAY)
    assert made.certificate() == before  # in use until the answer is installed
    made.install(answer, None)
    assert made.certificate().not_valid_after_utc == NOW + 12 * DAY
    made.install(answer, None)  # again, as after a power cut


def test_renewals_are_refused_for_what_does_not_hold(tmp_path: Path) -> None:
    site, other = authority(tmp_path / "site"), authority(tmp_path / "other")
    made = enrolled(tmp_path, site)
    request = made.request(None)
    assert refused(site, request, now=NOW + 8 * DAY) == "certificate_expired"
    assert refused(other, request) == "certificate_unknown"
    asked = read_ask(request)
    assert refused(site, _with(asked, proof=bytes(70))) == "request_forged"
    put_in = certificates.make_request(certificates.make_key(), "bed-2").decode()
    assert refused(site, _with(asked, request=put_in)) == "request_forged"
    own = read_private(tmp_path / "bed-1" / "node.key"), made.certificate()
    neighbour = ask_again(certificates.make_key(), "bed-2", own)
    assert refused(site, neighbour) == "renewal_of_another"
    site.revoke("bed-1", now=NOW)
    assert refused(site, request) == "certificate_revoked"


def _with(asked: Request, **changes: object) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(asked, **changes))


def test_only_the_sites_own_answer_is_installed(tmp_path: Path) -> None:
    """A box that knows no authority yet takes the word of nobody but who has its token."""
    site = authority(tmp_path / "site")
    made = box(tmp_path)
    token = site.invite("bed-1", now=NOW)
    request = made.request(token)
    answer, _ = site.sign(request, now=NOW)
    stolen = certificates.read_request(read_ask(request).request.encode())[1]
    posed = _posed(stolen)
    for data, with_, code in (
        (posed, token, "answer_unproven"),
        (answer, None, "answer_unproven"),
        (answer, site.invite("bed-1", now=NOW), "answer_unproven"),
        (answer[:-9], token, "answer_unreadable"),
        (b"{}", token, "answer_unreadable"),
    ):
        with pytest.raises(SecurityError) as caught:
            made.install(data, with_)
        assert caught.value.code == f"security.{code}"
        assert not (tmp_path / "bed-1" / "ca.pem").exists()
    made.install(answer, token)
    token = site.invite("bed-1", now=NOW)
    late, _ = site.sign(made.request(token), now=NOW)
    made.request(site.invite("bed-1", now=NOW))
    with pytest.raises(SecurityError, match="not of the key of the last request"):
        made.install(late, token)


def _posed(public: certificates.PublicKey) -> bytes:
    """What a stranger makes who saw the request."""
    key = certificates.make_key()
    ca = certificates.make_authority(key, "site", serial=7, now=NOW, days=9)
    made = certificates.certify(
        (key, ca), public, name="bed-1", role=Role.NODE, serial=8, now=NOW, days=7
    )
    said = {"certificate": certificates.pem(made).decode(), "ca": certificates.pem(ca).decode()}
    return msgspec.json.encode({**said, "proof": "AAAA"})


def test_a_power_cut_while_an_answer_is_installed_is_made_good_by_installing_again(
    tmp_path: Path,
) -> None:
    site = authority(tmp_path / "site")
    made = enrolled(tmp_path, site)
    answer, _ = site.sign(made.request(None), now=NOW + DAY)
    folder = tmp_path / "bed-1"
    new_key = (folder / "node.key.next").read_bytes()
    old_key = (folder / "node.key").read_bytes()
    made.install(answer, None)
    (folder / "node.key").write_bytes(old_key)  # cut off before the last step
    DISK.write_new(folder / "node.key.next", new_key, 0o600)
    with pytest.raises(SecurityError, match="enrol install again"):
        made.certificate()
    made.install(answer, None)
    assert made.certificate().not_valid_after_utc == NOW + 8 * DAY


def test_the_revocation_list_and_the_names_follow_the_ledger(tmp_path: Path) -> None:
    site = authority(tmp_path / "site")
    for name in ("bed-1", "bed-2"):
        enrolled(tmp_path, site, name)
    assert site.ledger().names(Role.NODE, NOW) == ("bed-1", "bed-2")
    (gone,) = site.revoke("bed-1", now=NOW + DAY)
    listed = x509.load_pem_x509_crl(site.revoked(now=NOW + DAY))
    assert [entry.serial_number for entry in listed] == [int(gone.serial, 16)]
    assert listed.next_update_utc == site.certificate.not_valid_after_utc
    assert site.ledger().names(Role.NODE, NOW + DAY) == ("bed-2",)
    token = site.invite("bed-1", now=NOW + 2 * DAY)
    site.sign(ask(certificates.make_key(), "bed-1", token), now=NOW + 2 * DAY)
    assert site.ledger().names(Role.NODE, NOW + 2 * DAY) == (
        "bed-2",
    )  # the old one would still be taken
    assert site.ledger().names(Role.NODE, NOW + 8 * DAY) == ("bed-1",)
    with pytest.raises(SecurityError, match="ca list"):
        site.revoke("bed-9", now=NOW)


def test_a_certificate_of_another_kind_of_key_is_refused() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bed-1")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW)
        .not_valid_after(NOW + DAY)
        .sign(key, None)
    )
    with pytest.raises(SecurityError, match="not a P-256 key"):
        certificates.read_certificate(certificates.pem(made), "of bed-1")


def test_an_authority_is_never_replaced_and_a_missing_one_is_named(tmp_path: Path) -> None:
    authority(tmp_path)
    with pytest.raises(SecurityError, match="lies there already"):
        authority(tmp_path)
    with pytest.raises(SecurityError, match="cloud ca init"):
        Authority(tmp_path / "nowhere", disk=DISK, random=os.urandom)


def test_no_certificate_outlives_the_authority(tmp_path: Path) -> None:
    site = authority(tmp_path)
    _, made = site.issue(Role.AGGREGATOR, now=NOW + 399 * DAY, days=90)
    assert made.not_valid_after_utc == NOW + 400 * DAY


def test_renewal_is_due_from_two_thirds_of_its_life_and_never_throws(tmp_path: Path) -> None:
    site = authority(tmp_path)
    times = []
    for _ in range(40):
        made = site.issue(Role.AGGREGATOR, now=NOW, days=7)[1]
        life = made.not_valid_after_utc - made.not_valid_before_utc
        times.append((renewal_time(made) - made.not_valid_before_utc) / life)
        due = renewal_time(made)
        assert renewal(made, due - MINUTE) is Renewal.NOT_YET
        assert renewal(made, due) is Renewal.DUE
        assert renewal(made, made.not_valid_after_utc + MINUTE) is Renewal.EXPIRED
        assert renewal(made, None) is Renewal.UNKNOWN
        assert renewal(made, datetime(1970, 1, 1, tzinfo=UTC)) is Renewal.UNKNOWN
    assert 0.66 <= min(times) < max(times) <= 0.76
    assert max(times) - min(times) > 0.03  # a site's boxes do not ask all at once
