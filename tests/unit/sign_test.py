"""Signatures: genuine in their own domain alone, and keys that are none are refused."""

from pathlib import Path

import pytest

from brainforge_edge.core.errors import SecurityError
from brainforge_edge.security.keystore import FileKeyStore, make_pair
from brainforge_edge.security.sign import (
    Signed,
    acknowledging,
    make_signer,
    read_signer,
    read_verifier,
)
from brainforge_edge.security.signfiles import make_signing_pair, signer_at, verifier_at
from brainforge_edge.storage.files import SystemDisk

DISK = SystemDisk()
PRIVATE, PUBLIC = make_signer()
SIGNER, VERIFIER = read_signer(PRIVATE, "a"), read_verifier(PUBLIC, "b")


def test_what_was_signed_is_genuine_and_its_bytes_stay_as_they_are() -> None:
    signed = SIGNER.sign("d", b"body")
    assert signed.body == b"body"
    assert signed.signer == SIGNER.id == VERIFIER.id
    assert VERIFIER.is_genuine("d", signed)


@pytest.mark.parametrize(
    ("domain", "changes"),
    [
        ("e", {}),
        ("d", {"body": b"bodY"}),
        ("d", {"signer": "00" * 8}),
        ("d", {"signature": bytes(64)}),
        ("d", {"signature": b""}),
        ("d", {"signature": bytes(65)}),
    ],
)
def test_anything_else_is_not(domain: str, changes: dict[str, bytes | str]) -> None:
    signed = SIGNER.sign("d", b"body")
    fields = {name: getattr(signed, name) for name in signed.__struct_fields__}
    assert not VERIFIER.is_genuine(domain, Signed(**(fields | changes)))


def test_another_key_under_the_name_of_the_right_one_is_found_out() -> None:
    other = read_signer(make_signer()[0], "c")
    signed = other.sign("d", b"body")
    assert not VERIFIER.is_genuine("d", signed)
    assert not VERIFIER.is_genuine("d", Signed(signed.body, VERIFIER.id, signed.signature))


def test_no_domain_and_body_read_as_another_pair_of_them() -> None:
    """What is said to one box on one topic says nothing on any other."""
    body = b"1\0body"
    signed = SIGNER.sign(acknowledging("bf/v1/bed-1/ack/opm"), body)
    for domain, moved in (
        (acknowledging("bf/v1/bed-2/ack/opm"), body),
        (acknowledging("bf/v1/bed-1/ack/-"), body),
        (acknowledging("bf/v1/bed-1/ack/opm") + " 1", b"body"),
        ("attestation", body),
    ):
        assert not VERIFIER.is_genuine(domain, Signed(moved, signed.signer, signed.signature))


def test_a_pair_in_files_signs_and_is_its_owners_alone(tmp_path: Path) -> None:
    made = make_signing_pair(tmp_path, DISK.write_new)
    assert (tmp_path / "signer.key").stat().st_mode & 0o777 == 0o600
    signed = signer_at(tmp_path / "signer.key").sign("d", b"body")
    assert verifier_at(tmp_path / "signer.pem").is_genuine("d", signed)
    assert made.id == signed.signer
    (tmp_path / "signer.key").chmod(0o640)
    with pytest.raises(SecurityError, match="others may read it"):
        signer_at(tmp_path / "signer.key")


def test_what_is_no_ed25519_key_is_refused_with_a_reason(tmp_path: Path) -> None:
    make_pair(tmp_path, "aggregator", DISK.write_new)
    p256 = (tmp_path / "aggregator.key").read_bytes(), (tmp_path / "aggregator.pem").read_bytes()
    for private, public in ((p256), (b"no key", b"no key"), (PUBLIC, PRIVATE), (b"", b"")):
        with pytest.raises(SecurityError) as caught:
            read_signer(private, "the key")
        assert caught.value.code == "security.signing_key"
        with pytest.raises(SecurityError) as caught:
            read_verifier(public, "the key")
        assert caught.value.code == "security.signing_key"
    with pytest.raises(SecurityError, match="no such file"):
        verifier_at(tmp_path / "absent.pem")


def test_a_signing_key_beside_the_keys_that_open_disturbs_nobody(tmp_path: Path) -> None:
    make_pair(tmp_path, "aggregator", DISK.write_new)
    make_signing_pair(tmp_path, DISK.write_new)
    assert len(list(FileKeyStore(tmp_path)._read())) == 1
