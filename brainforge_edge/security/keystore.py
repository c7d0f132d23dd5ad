"""Private keys that open wrapped data keys. Runs in: recovery, command line tools, aggregator; never where rows are recorded.

A store answers by recipient: whoever keeps the private half in a file, a systemd credential or a token
looks the same. Files must be their owner's alone.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.errors import SecurityError
from brainforge_edge.security import token, tpmfile
from brainforge_edge.security.agreement import HeldKeyStore
from brainforge_edge.security.seal import DataKey
from brainforge_edge.security.token import TokenKeyStore
from brainforge_edge.security.tpmstore import TpmKeyStore
from brainforge_edge.security.wrap import KeyEntry, Recipient, recipient_id, unwrap

PRIVATE_SUFFIX = ".key"
PUBLIC_SUFFIX = ".pem"
SIGNER = "signer"  # its pair may lie beside others, and opens nothing


class KeyStore(Protocol):
    """Where a private key lives."""

    def opened(self, entry: KeyEntry, log_id: bytes) -> DataKey | None:
        """The data key; None if no private key here belongs to a recipient of the entry."""
        ...


class FileKeyStore:
    """Every `*.key` (PKCS#8 PEM, P-256) in a folder, read when first asked."""

    def __init__(self, folder: Path, *, is_guarded: bool = False) -> None:
        """`is_guarded`: somebody else sees to it that only this process can read there."""
        self._folder = folder
        self._is_guarded = is_guarded
        self._private: dict[str, ec.EllipticCurvePrivateKey] | None = None

    def opened(self, entry: KeyEntry, log_id: bytes) -> DataKey | None:
        if self._private is None:
            self._private = dict(self._read())
        for wrapped in entry.wrapped:
            private = self._private.get(wrapped.to)
            if private is not None:
                return unwrap(wrapped, private, log_id, bytes.fromhex(entry.key_id))
        return None

    def _read(self) -> Iterator[tuple[str, ec.EllipticCurvePrivateKey]]:
        for path in sorted(self._folder.glob(f"*{PRIVATE_SUFFIX}")):
            if path.stem == SIGNER:
                continue
            private = read_private(path, is_guarded=self._is_guarded)
            yield recipient_id(private.public_key()), private


class KeyStores:
    """Several stores, asked in turn."""

    def __init__(self, stores: Sequence[KeyStore]) -> None:
        self._stores = stores

    def opened(self, entry: KeyEntry, log_id: bytes) -> DataKey | None:
        found = (store.opened(entry, log_id) for store in self._stores)
        return next((key for key in found if key is not None), None)


NO_KEYS = KeyStores(())  # of who can open nothing


def box_store(folder: Path, held: str = "") -> KeyStore:
    """A box's own: its token's or TPM's key if it has one, the files in `folder`, and what systemd laid out for
    this service as credentials (systemd.exec(5), LoadCredentialEncrypted)."""
    credentials = os.environ.get("CREDENTIALS_DIRECTORY", "")
    stores: list[KeyStore] = [FileKeyStore(folder)]
    if credentials:
        stores.append(FileKeyStore(Path(credentials), is_guarded=True))
    if held:
        stores.append(store_at(held))
    return KeyStores(stores)


def store_at(where: str) -> KeyStore:
    """What `--keys` names: a folder, or a key in a token or TPM. SecurityError for a URI that names none."""
    return held_at(where) or FileKeyStore(Path(where))


def held_at(where: str) -> HeldKeyStore | None:
    """The key in a token or TPM that a URI names, None if it is no URI; SecurityError for one that names none."""
    if where.startswith(token.SCHEME):
        return TokenKeyStore(token.parse_uri(where))
    if where.startswith(tpmfile.SCHEME):
        return TpmKeyStore(tpmfile.parse_uri(where), SystemClock())
    return None


def make_pair(folder: Path, role: str, write: Callable[[Path, bytes, int], None]) -> Recipient:
    """A new pair `role`.key and `role`.pem in `folder`; an existing one is never replaced."""
    private = ec.generate_private_key(ec.SECP256R1())
    secret, public = folder / f"{role}{PRIVATE_SUFFIX}", folder / f"{role}{PUBLIC_SUFFIX}"
    pem = public_pem(private)
    write(
        secret,
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        0o600,
    )
    write(public, pem, 0o644)
    return Recipient(role, pem)


def public_pem(private: ec.EllipticCurvePrivateKey) -> bytes:
    """Its public half, as it lies in a file."""
    return private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def read_private(path: Path, *, is_guarded: bool = False) -> ec.EllipticCurvePrivateKey:
    """A P-256 private key that nobody else can read (unless it `is_guarded`); SecurityError names what is wrong."""
    pem = read_secret(path, is_guarded=is_guarded)
    why = "it is not a P-256 key"
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        key, why = None, f"it is no private key in PEM: {str(error).partition('.')[0].lower()}"
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise _unusable(
        path, why, "Put the right file there, or make a pair: brainforge-edge keys make"
    )


def read_secret(path: Path, *, is_guarded: bool = False) -> bytes:
    """A file that nobody else can read, unless it `is_guarded`; SecurityError otherwise."""
    try:
        mode = path.stat().st_mode
        secret = read_regular(path)
    except OSError as error:
        raise _unusable(
            path, str(error.strerror).lower(), "Name a file that this user may read"
        ) from error
    if not is_guarded and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise _unusable(path, "others may read it", f"Run chmod 600 {path}")
    return secret


def is_absent(path: Path) -> bool:
    """Only where that is certain: a file that nobody may look at, or on a bad sector, is to be complained of."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def read_regular(path: Path) -> bytes:
    """OSError for what is no regular file: a pipe would keep whoever reads it waiting."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is no regular file")
    return path.read_bytes()


def _unusable(path: Path, why: str, remedy: str) -> SecurityError:
    return SecurityError(
        "private_key", f"the private key {path} was not used", why=why, remedy=remedy
    )
