"""Keys for signing, in files. Runs in: the aggregator, which signs; boxes, which know the public half; command line tools."""

from collections.abc import Callable
from pathlib import Path

from brainforge_edge.core.errors import SecurityError
from brainforge_edge.security.keystore import (
    PRIVATE_SUFFIX,
    PUBLIC_SUFFIX,
    SIGNER,
    read_regular,
    read_secret,
)
from brainforge_edge.security.sign import (
    Signer,
    Verifier,
    make_signer,
    read_signer,
    read_verifier,
)


def make_signing_pair(folder: Path, write: Callable[[Path, bytes, int], None]) -> Verifier:
    """A new pair `signer.key` and `signer.pem` in `folder`; an existing one is never replaced."""
    private, public = make_signer()
    write(folder / f"{SIGNER}{PRIVATE_SUFFIX}", private, 0o600)
    write(folder / f"{SIGNER}{PUBLIC_SUFFIX}", public, 0o644)
    return read_verifier(public, str(folder))


def signer_at(path: Path) -> Signer:
    """Nobody else's to read; SecurityError names what is wrong."""
    return read_signer(read_secret(path), str(path))


def verifier_at(path: Path) -> Verifier:
    """SecurityError if it is not there, or no public Ed25519 key."""
    try:
        pem = read_regular(path)
    except OSError as error:
        raise SecurityError(
            "signing_key",
            f"the public key {path} cannot be read",
            why=str(error.strerror).lower(),
            remedy="Put signer.pem of whoever signs there, or correct the path",
        ) from error
    return read_verifier(pem, str(path))
