"""Private keys that stay in what holds them (tokens, TPMs) and agree on secrets there. Runs in: recovery, tools, aggregator."""

from abc import ABC, abstractmethod

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from brainforge_edge.core.errors import SecurityError
from brainforge_edge.security.hpke import open_message
from brainforge_edge.security.seal import DataKey
from brainforge_edge.security.wrap import KeyEntry, data_key_info, recipient_id, wrapped_damaged


class HeldKeyUnusable(SecurityError):
    """What holds a key was not there or refused: nothing is said of what the key would have opened."""


class HeldKeyStore(ABC):
    """A store of one P-256 key that is held elsewhere."""

    @abstractmethod
    def _key(self) -> ec.EllipticCurvePublicKey:
        """The public half; SecurityError if it cannot be had."""

    @abstractmethod
    def _agree(self, peer: bytes) -> bytes:
        """The peer's point (65 bytes) → x of the shared point (32 bytes). SecurityError; ValueError if it is none."""

    def public_pem(self) -> bytes:
        """The public half, to be given to boxes. SecurityError."""
        return self._key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def opened(self, entry: KeyEntry, log_id: bytes) -> DataKey | None:
        public = self._key()
        wrapped = entry.wrapped_to(recipient_id(public))
        if wrapped is None:
            return None
        key_id = bytes.fromhex(entry.key_id)
        try:
            secret = open_message(
                wrapped.sealed, point_of(public), self._agree, data_key_info(log_id, key_id)
            )
        except (InvalidTag, ValueError) as error:
            raise wrapped_damaged(key_id) from error
        return DataKey(key_id, secret)

    def prove(self) -> None:
        """SecurityError if the private half does not agree now, or on something else than the public half does."""
        other = ec.generate_private_key(ec.SECP256R1())
        public = self._key()
        if self._agree(point_of(other.public_key())) != other.exchange(ec.ECDH(), public):
            raise HeldKeyUnusable(
                "halves_differ",
                f"the key {recipient_id(public)} was not used",
                why="its private half, where it is held, does not belong to its public half",
                remedy="Name the key whose public half this is, or make a new pair",
            )


def point_of(public: ec.EllipticCurvePublicKey) -> bytes:
    """65 bytes, uncompressed."""
    return public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
