"""Data keys wrapped to public keys: HPKE (RFC 9180), so that recording needs no secret. Runs in: any process. No I/O.

Suite: DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM, base mode, one message. P-256, since tokens
and TPMs do its key agreement. A wrapped key opens for its own log and key id only.
"""

import hashlib
from collections.abc import Callable

import msgspec
from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hpke, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from brainforge_edge.core.errors import SecurityError
from brainforge_edge.security.seal import KEY_ID_BYTES, SECRET_BYTES, DataKey

SUITE = hpke.Suite(hpke.KEM.P256, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
_INFO = b"brainforge data key 1"


class Recipient(msgspec.Struct, frozen=True):
    """Somebody who may open what is sealed: a role for people, and a public key."""

    role: str  # aggregator, recovery, box
    pem: bytes

    @property
    def id(self) -> str:
        return recipient_id(read_public(self.pem, self.role))


class WrappedKey(msgspec.Struct, frozen=True):
    """A data key that one recipient can open."""

    to: str  # recipient_id
    role: str
    sealed: bytes  # HPKE: encapsulated key (65 bytes), ciphertext and tag


class KeyEntry(msgspec.Struct, frozen=True):
    """One data key in a `keys` file: whose rows, and wrapped for whom. Nothing in it is secret."""

    key_id: str  # hex
    participant: str  # pseudonym or ""
    device: str  # whose process made it
    wrapped: tuple[WrappedKey, ...]

    def wrapped_to(self, recipient: str) -> WrappedKey | None:
        return next((key for key in self.wrapped if key.to == recipient), None)


def make_data_key(random: Callable[[int], bytes]) -> DataKey:
    return DataKey(random(KEY_ID_BYTES), random(SECRET_BYTES))


def wrap(key: DataKey, log_id: bytes, recipients: tuple[Recipient, ...]) -> tuple[WrappedKey, ...]:
    """The key for each recipient; SecurityError if one's public key is none."""
    return tuple(
        WrappedKey(
            to=recipient.id,
            role=recipient.role,
            sealed=SUITE.encrypt(
                key.secret,
                read_public(recipient.pem, recipient.role),
                data_key_info(log_id, key.key_id),
            ),
        )
        for recipient in recipients
    )


def with_recipient(
    entry: KeyEntry, key: DataKey | None, log_id: bytes, recipient: Recipient
) -> KeyEntry:
    """The entry wrapped for one more; as it is without its `key`, or if it is wrapped for them already."""
    if key is None or entry.wrapped_to(recipient.id) is not None:
        return entry
    return msgspec.structs.replace(
        entry, wrapped=(*entry.wrapped, *wrap(key, log_id, (recipient,)))
    )


def unwrap(
    wrapped: WrappedKey, private: ec.EllipticCurvePrivateKey, log_id: bytes, key_id: bytes
) -> DataKey:
    """The data key; SecurityError `wrapped_damaged` if it is not what was wrapped for this log and id."""
    try:
        secret = SUITE.decrypt(wrapped.sealed, private, data_key_info(log_id, key_id))
    except (InvalidTag, ValueError) as error:
        raise wrapped_damaged(key_id) from error
    return DataKey(key_id, secret)


def data_key_info(log_id: bytes, key_id: bytes) -> bytes:
    """What a wrapped key is bound to (`info` of HPKE)."""
    return _INFO + log_id + key_id


def wrapped_damaged(key_id: bytes) -> SecurityError:
    return SecurityError(
        "wrapped_damaged",
        f"data key {key_id.hex()} was not opened",
        why="its wrapped form was changed, or belongs to another log, key or recipient",
        remedy="Use the keys file that was written with the recording, or one of its other recipients",
    )


def recipient_id(public: ec.EllipticCurvePublicKey) -> str:
    """First 8 bytes of the SHA-256 of the public key (SubjectPublicKeyInfo, DER), in hex."""
    der = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(der).hexdigest()[:16]


def read_public(pem: bytes, name: str) -> ec.EllipticCurvePublicKey:
    """A P-256 public key from PEM; SecurityError names `name`."""
    why = "it is not a P-256 key"
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        key, why = None, f"it is no public key in PEM: {str(error).partition('.')[0].lower()}"
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise SecurityError(
        "not_a_public_key",
        f"the public key {name} cannot be used",
        why=why,
        remedy="Make one with brainforge-edge keys make, and give its .pem file here",
    )
