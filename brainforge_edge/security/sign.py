"""Statements that are signed: Ed25519 (RFC 8032) over a domain and the bytes that were sent. Runs in: any process. No I/O.

The bytes are signed as they are: nothing is encoded a second time to be checked. A domain keeps a
signature under one kind of statement from passing under another.
"""

import hashlib

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from brainforge_edge.core.errors import SecurityError

ATTESTATION = "attestation"  # domain of what is kept


def acknowledging(topic: str) -> str:
    """Domain of what is said on a topic: said to one box under one stream, it says nothing to another."""
    return f"ack {topic}"


class Signed(msgspec.Struct, frozen=True):
    """A statement and who stands for it."""

    body: bytes  # the statement, encoded
    signer: str  # signer_id
    signature: bytes  # 64 bytes


class Signer:
    """Signs in one's own name."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = Verifier(private.public_key())
        self.id = self.public.id

    def sign(self, domain: str, body: bytes) -> Signed:
        return Signed(body, self.id, self._private.sign(_bound(domain, body)))


class Verifier:
    """Knows one signer by its public key."""

    def __init__(self, public: Ed25519PublicKey) -> None:
        self._public = public
        der = public.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.id = hashlib.sha256(der).digest()[:8].hex()
        self.pem = public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def is_genuine(self, domain: str, signed: Signed) -> bool:
        if signed.signer != self.id:
            return False
        try:
            self._public.verify(signed.signature, _bound(domain, signed.body))
        except InvalidSignature:
            return False
        return True


def make_signer() -> tuple[bytes, bytes]:
    """A new pair: private half as PKCS#8 PEM, public half as SubjectPublicKeyInfo PEM."""
    private = Ed25519PrivateKey.generate()
    return (
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
    )


def read_signer(pem: bytes, whose: str) -> Signer:
    """SecurityError `signing_key` if it is no private Ed25519 key."""
    try:
        private = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _not_a_key(whose, str(error)) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise _not_a_key(whose, "it is a key of another kind")
    return Signer(private)


def read_verifier(pem: bytes, whose: str) -> Verifier:
    """SecurityError `signing_key` if it is no public Ed25519 key."""
    try:
        public = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _not_a_key(whose, str(error)) from error
    if not isinstance(public, Ed25519PublicKey):
        raise _not_a_key(whose, "it is a key of another kind")
    return Verifier(public)


def _bound(domain: str, body: bytes) -> bytes:
    return f"brainforge {domain} 1".encode() + b"\0" + body


def _not_a_key(whose: str, why: str) -> SecurityError:
    return SecurityError(
        "signing_key",
        f"{whose} cannot be used to sign or to check signatures",
        why=why,
        remedy="Give an Ed25519 key as PEM: `brainforge-edge keys make FOLDER --role signer` makes a pair",
    )
