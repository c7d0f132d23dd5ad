"""A box that has the authority's revocation list does not speak to a broker whose certificate is on it."""

import dataclasses
import ssl
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from brainforge_edge.cli.main import main
from brainforge_edge.cloud.broker.embedded import BrokerKind, EmbeddedBroker
from brainforge_edge.core.errors import ExitStatus
from brainforge_edge.security.certificates import Role, read_certificate
from brainforge_edge.security.tls import TlsFiles
from tests.broker.pki import Pki, now
from tests.broker.trusted import Trusted


def listed(pki: Pki, files: TlsFiles, name: str = "list.pem") -> TlsFiles:
    """A box that has the list of now."""
    path = pki.root / name
    path.write_bytes(pki.authority.revoked(now=now()))
    return dataclasses.replace(files, crl=path)


def serial(files: TlsFiles) -> str:
    found = read_certificate(files.certificate.read_bytes(), str(files.certificate))
    return f"{found.serial_number:x}"


def test_a_broker_with_a_stolen_certificate_is_refused_and_its_successor_is_not(
    tmp_path: Path,
) -> None:
    pki = Pki(tmp_path / "pki")
    bed = pki.node("bed-1")
    with (
        EmbeddedBroker(tmp_path / "broker", kind=BrokerKind.MOSQUITTO, trust=pki.trust()) as broker,
        ExitStack() as stack,
    ):
        site = Trusted(broker, 5, pki, bed, bed, stack)
        site.link(listed(pki, bed)).open()
        pki.authority.revoke(serial(pki.broker), now=now())
        refusal = site.refusal(listed(pki, bed))
        assert refusal.code == "transport.broker_revoked"
        assert "stolen" in refusal.why
        site.link(bed).open()  # a box that has no list does not know
    successor = pki.issued(Role.BROKER, "successor", hosts=("127.0.0.1",))
    with (
        EmbeddedBroker(
            tmp_path / "again", kind=BrokerKind.MOSQUITTO, trust=pki.trust(server=successor)
        ) as broker,
        ExitStack() as stack,
    ):
        Trusted(broker, 5, pki, bed, bed, stack).link(listed(pki, bed)).open()


def test_a_list_that_cannot_be_used_lets_nobody_through_and_is_named(tmp_path: Path) -> None:
    pki, other = Pki(tmp_path / "pki"), Pki(tmp_path / "other")
    bed = pki.node("bed-1")
    whole = listed(pki, bed)
    assert whole.crl is not None
    with (
        EmbeddedBroker(tmp_path / "broker", kind=BrokerKind.MOSQUITTO, trust=pki.trust()) as broker,
        ExitStack() as stack,
    ):
        site = Trusted(broker, 5, pki, bed, bed, stack)
        good = whole.crl.read_bytes()
        for text, why in (
            (b"", "no revocation list"),
            (good[:-40], "no revocation list"),
            (bed.ca.read_bytes(), "no revocation list"),
            (good + good, "more in it"),
            (good + other.broker.ca.read_bytes(), "more in it"),
            (other.authority.revoked(now=now()), "of another authority"),
        ):
            whole.crl.write_bytes(text)
            refusal = site.refusal(whole)
            assert refusal.code == "transport.revocation_list", why
            assert why in refusal.why
        whole.crl.unlink()
        assert "no such file" in site.refusal(whole).why
        whole.crl.write_bytes(good)
        site.link(whole).open()


@pytest.mark.parametrize(
    ("code", "refusal"),
    [(23, "broker_revoked"), (3, "revocation_list"), (12, "revocation_list"),
     (11, "clock_before_broker")],
)  # fmt: skip
def test_what_openssl_says_of_a_list_is_told_in_our_words(
    tmp_path: Path, code: int, refusal: str
) -> None:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, "said"
    files = TlsFiles(tmp_path / "a", tmp_path / "b", tmp_path / "c")
    said = files.refusal(error, datetime(2026, 1, 1, tzinfo=UTC))
    assert said.code == refusal
    assert said.remedy


def test_config_check_finds_a_list_that_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pki = Pki(tmp_path / "pki")
    bed = listed(pki, pki.node("bed-1"))
    assert bed.crl is not None
    config = tmp_path / "edge.toml"
    config.write_text(
        f'[node]\nid = "bed-1"\nroot = "{tmp_path}/box"\n[uplink.tls]\nca = "{bed.ca}"\n'
        f'certificate = "{bed.certificate}"\nkey = "{bed.key}"\ncrl = "{bed.crl}"\n',
        encoding="utf-8",
    )
    assert main(["config", "check", str(config)]) == 0
    bed.crl.write_bytes(b"nothing")
    capsys.readouterr()
    assert main(["config", "check", str(config)]) == ExitStatus.SECURITY
    assert "revocation list" in capsys.readouterr().err
    config.write_text(f'[node]\nid = "b"\n[uplink.tls]\ncrl = "{bed.crl}"\n', encoding="utf-8")
    assert main(["config", "check", str(config)]) == ExitStatus.CONFIG
