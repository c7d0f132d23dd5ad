"""Sealing what a file holds: AES-256-GCM under a key of that file alone. Runs in: any process and thread. No I/O.

Key of a file = HKDF-SHA-256 (RFC 5869) of the data key: salt the file's random id, info the file's
kind. Nonce (NIST SP 800-38D, 8.2.1) = a number that the file never gives out twice. Both are bound by
the structure of a file: its id is new with each file and each lap, what failed is never appended to.
"""

from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from brainforge_edge.core.errors import SecurityError

KEY_ID_BYTES: Final = 8
SECRET_BYTES: Final = 32
TAG_BYTES: Final = 16
SEGMENT = b"brainforge segment 1"
JOURNAL = b"brainforge journal 1"

Buffer = bytes | bytearray | memoryview


def is_key_id(text: str) -> bool:
    """Whether it is the id of a data key as it is written everywhere, and so no path to another place."""
    return len(text) == 2 * KEY_ID_BYTES and set(text) <= set("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class DataKey:
    """What the files of one participant in one recording are sealed with; lives in memory alone."""

    key_id: bytes  # 8 bytes, tells which one; no secret
    secret: bytes = field(repr=False)

    def file(self, file_id: bytes, kind: bytes) -> "FileSeal":
        """The seal of one file (or lap) with that id."""
        key = HKDF(SHA256(), length=SECRET_BYTES, salt=file_id, info=kind).derive(self.secret)
        return FileSeal(key)


class FileSeal:
    """Seals and opens what one file holds."""

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, number: int, plain: Buffer, bound: Buffer) -> bytes:
        """`plain` as ciphertext and tag (16 bytes more); `bound` is proven by the tag and stays readable.

        `number` is the nonce: the same one must never be used for other bytes under this seal.
        """
        return self._cipher.encrypt(_nonce(number), plain, bound)

    def seal_into(self, number: int, plain: Buffer, bound: Buffer, out: memoryview) -> None:
        """As `seal`, into `out` of len(plain) + 16 bytes, which must not overlap `plain`."""
        self._cipher.encrypt_into(_nonce(number), plain, bound, out)

    def open(self, number: int, sealed: Buffer, bound: Buffer) -> bytes:
        """Inverse of `seal`; SecurityError `tampered` unless all three are what they were."""
        try:
            return self._cipher.decrypt(_nonce(number), sealed, bound)
        except InvalidTag as error:
            raise SecurityError(
                "tampered",
                "sealed bytes were not opened",
                why="they are not what was sealed here: changed, moved, or sealed with another key",
                remedy="Fetch the recording from the aggregator, or use the keys file that belongs to it",
            ) from error


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "little")
