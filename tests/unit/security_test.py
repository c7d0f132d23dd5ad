"""Seals, wrapped keys, private keys: what opens, what does not, and what is said then."""

import hashlib
import hmac
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from brainforge_edge.core.errors import ExitStatus, SecurityError
from brainforge_edge.security.keystore import (
    FileKeyStore,
    KeyStores,
    box_store,
    make_pair,
    read_private,
)
from brainforge_edge.security.seal import JOURNAL, SEGMENT, TAG_BYTES, DataKey
from brainforge_edge.security.wrap import (
    KeyEntry,
    Recipient,
    make_data_key,
    read_public,
    unwrap,
    with_recipient,
    wrap,
)
from brainforge_edge.storage.files import SystemDisk
from tests.unit.recorder_material import LOG_ID, seeded

KEY = make_data_key(seeded(3))
FILE_ID = bytes(range(100, 116))
DISK = SystemDisk()


def hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 with SHA-256, 32 bytes."""
    extracted = hmac.new(salt, secret, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\1", hashlib.sha256).digest()


@pytest.mark.parametrize("kind", [SEGMENT, JOURNAL])
def test_a_seal_is_aes_gcm_under_the_files_own_key_as_the_page_says(kind: bytes) -> None:
    sealed = KEY.file(FILE_ID, kind).seal(7, b"rows", b"header")
    key = hkdf(KEY.secret, FILE_ID, kind)
    assert AESGCM(key).decrypt((7).to_bytes(12, "little"), sealed, b"header") == b"rows"


def test_what_was_sealed_opens_and_nothing_else_does() -> None:
    seal = KEY.file(FILE_ID, SEGMENT)
    sealed = seal.seal(7, b"rows", b"header")
    assert seal.open(7, sealed, b"header") == b"rows"
    other_file = KEY.file(FILE_ID[::-1], SEGMENT)
    other_kind = KEY.file(FILE_ID, JOURNAL)
    other_key = make_data_key(seeded(4)).file(FILE_ID, SEGMENT)
    changed = sealed[:-1] + bytes([sealed[-1] ^ 1])
    attempts = [
        (seal, 8, sealed, b"header"),
        (seal, 7, sealed, b"Header"),
        (seal, 7, changed, b"header"),
        (seal, 7, sealed[:-1], b"header"),
        (seal, 7, b"", b"header"),
        (other_file, 7, sealed, b"header"),
        (other_kind, 7, sealed, b"header"),
        (other_key, 7, sealed, b"header"),
    ]
    for wrong, number, data, bound in attempts:
        with pytest.raises(SecurityError) as caught:
            wrong.open(number, data, bound)
        assert caught.value.code == "security.tampered"


def test_sealing_into_a_buffer_gives_the_same_bytes() -> None:
    seal = KEY.file(FILE_ID, JOURNAL)
    out = bytearray(4 + TAG_BYTES)
    seal.seal_into(3, b"rows", b"head", memoryview(out))
    assert bytes(out) == seal.seal(3, b"rows", b"head")


def test_a_secret_is_not_shown() -> None:
    assert KEY.secret.hex() not in repr(KEY)
    assert repr(KEY.secret) not in repr(KEY)


def test_each_recipient_opens_the_key_and_nobody_else(tmp_path: Path) -> None:
    recipients = []
    for role in ("aggregator", "recovery", "box"):
        (tmp_path / role).mkdir()
        recipients.append(make_pair(tmp_path / role, role, DISK.write_new))
    (tmp_path / "stranger").mkdir()
    make_pair(tmp_path / "stranger", "box", DISK.write_new)
    entry = KeyEntry(KEY.key_id.hex(), "p1", "helmet", wrap(KEY, LOG_ID, tuple(recipients)))
    assert [wrapped.role for wrapped in entry.wrapped] == ["aggregator", "recovery", "box"]
    for role in ("aggregator", "recovery", "box"):
        assert FileKeyStore(tmp_path / role).opened(entry, LOG_ID) == KEY
    assert FileKeyStore(tmp_path / "stranger").opened(entry, LOG_ID) is None
    assert FileKeyStore(tmp_path / "absent").opened(entry, LOG_ID) is None
    both = KeyStores([FileKeyStore(tmp_path / name) for name in ("stranger", "recovery")])
    assert both.opened(entry, LOG_ID) == KEY
    assert KEY.secret not in b"".join(wrapped.sealed for wrapped in entry.wrapped)


def test_a_wrapped_key_opens_for_its_own_log_and_id_only(tmp_path: Path) -> None:
    recipient = make_pair(tmp_path, "box", DISK.write_new)
    private = read_private(tmp_path / "box.key")
    (wrapped,) = wrap(KEY, LOG_ID, (recipient,))
    assert unwrap(wrapped, private, LOG_ID, KEY.key_id) == KEY
    changed = type(wrapped)(wrapped.to, wrapped.role, wrapped.sealed[:-1] + b"\0")
    for wrong, log_id, key_id in (
        (wrapped, LOG_ID[::-1], KEY.key_id),
        (wrapped, LOG_ID, KEY.key_id[::-1]),
        (changed, LOG_ID, KEY.key_id),
        (type(wrapped)(wrapped.to, wrapped.role, b"short"), LOG_ID, KEY.key_id),
    ):
        with pytest.raises(SecurityError) as caught:
            unwrap(wrong, private, log_id, key_id)
        assert caught.value.code == "security.wrapped_damaged"
        assert KEY.secret.hex() not in str(caught.value.as_dict())


def test_one_more_recipient_is_added_once(tmp_path: Path) -> None:
    (tmp_path / "late").mkdir()
    box = make_pair(tmp_path, "box", DISK.write_new)
    late = make_pair(tmp_path / "late", "aggregator", DISK.write_new)
    entry = KeyEntry(KEY.key_id.hex(), "", "helmet", wrap(KEY, LOG_ID, (box,)))
    more = with_recipient(entry, KEY, LOG_ID, late)
    assert FileKeyStore(tmp_path / "late").opened(more, LOG_ID) == KEY
    assert FileKeyStore(tmp_path).opened(more, LOG_ID) == KEY
    assert with_recipient(more, KEY, LOG_ID, late) is more
    assert with_recipient(entry, None, LOG_ID, late) is entry


def test_a_private_key_is_its_owners_alone_and_never_replaced(tmp_path: Path) -> None:
    make_pair(tmp_path, "box", DISK.write_new)
    path = tmp_path / "box.key"
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_bytes()
    with pytest.raises(Exception, match="there already"):
        make_pair(tmp_path, "box", DISK.write_new)
    assert path.read_bytes() == before
    path.chmod(0o640)
    with pytest.raises(SecurityError, match=r"others may read it.*chmod 600") as caught:
        read_private(path)
    assert caught.value.exit_status is ExitStatus.SECURITY


def _pem(key: ec.EllipticCurvePrivateKey | x25519.X25519PrivateKey) -> tuple[bytes, bytes]:
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private, public


@pytest.mark.parametrize("content", ["", "no key", "other curve", "other kind", "absent"])
def test_what_is_no_p256_key_is_refused_with_a_reason(tmp_path: Path, content: str) -> None:
    other_curve = _pem(ec.generate_private_key(ec.SECP384R1()))
    other_kind = _pem(x25519.X25519PrivateKey.generate())
    private, public = {"other curve": other_curve, "other kind": other_kind}.get(
        content, (content.encode(), content.encode())
    )
    path = tmp_path / "box.key"
    if content != "absent":
        path.write_bytes(private)
        path.chmod(0o600)
    with pytest.raises(SecurityError) as refused:
        read_private(path)
    assert refused.value.code == "security.private_key"
    assert str(path) in str(refused.value)
    with pytest.raises(SecurityError) as refused:
        read_public(public, "site.pem")
    assert refused.value.code == "security.not_a_public_key"
    assert "site.pem" in str(refused.value)


def test_a_recipients_id_is_the_hash_of_its_public_key(tmp_path: Path) -> None:
    recipient = make_pair(tmp_path, "box", DISK.write_new)
    again = Recipient("aggregator", (tmp_path / "box.pem").read_bytes())
    assert recipient.id == again.id
    der = read_public(recipient.pem, "").public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert recipient.id == hashlib.sha256(der).hexdigest()[:16]


def test_two_data_keys_are_never_the_same() -> None:
    random = seeded(1)
    made = [make_data_key(random) for _ in range(50)]
    assert len({key.key_id for key in made}) == len({key.secret for key in made}) == 50
    assert all(isinstance(key, DataKey) and len(key.secret) == 32 for key in made)


def test_a_credential_of_systemd_serves_though_its_group_may_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd guards the folder by itself: to a service that is not root it gives files of root's."""
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    box = make_pair(credentials, "box", DISK.write_new)
    (credentials / "box.key").chmod(0o440)
    entry = KeyEntry(KEY.key_id.hex(), "", "helmet", wrap(KEY, LOG_ID, (box,)))
    assert box_store(tmp_path / "keys").opened(entry, LOG_ID) is None
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    assert box_store(tmp_path / "keys").opened(entry, LOG_ID) == KEY
