"""Opens what is sealed with a key in a TPM 2, and makes such a key. Runs in: recovery, command line tools, aggregator."""

from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from brainforge_edge.core.clock import Clock
from brainforge_edge.security.agreement import HeldKeyStore
from brainforge_edge.security.tpm import Tpm
from brainforge_edge.security.tpmfile import SUFFIX, TpmKey, TpmUri, checked_tcti, encoded, read_key
from brainforge_edge.security.wrap import Recipient


class TpmKeyStore(HeldKeyStore):
    """One key; its file is read when first asked, the TPM for each data key. For its public half no TPM is needed."""

    def __init__(self, uri: TpmUri, clock: Clock, *, made: TpmKey | None = None) -> None:
        """`made`: what is going to be in the file."""
        self._uri = uri
        self._tpm = Tpm(uri.tcti, uri.path.parent, clock)
        self._read = made

    def _key(self) -> ec.EllipticCurvePublicKey:
        return self._file().public_key()

    def _agree(self, peer: bytes) -> bytes:
        return self._tpm.agree(self._file(), peer, f"the key {self._uri.path} was not used")

    def _file(self) -> TpmKey:
        if self._read is None:
            self._read = read_key(self._uri.path)
        return self._read


def make_tpm_pair(
    folder: Path,
    role: str,
    tcti: str,
    pcrs: Sequence[int],
    *,
    write: Callable[[Path, bytes, int], None],
    clock: Clock,
) -> Recipient:
    """`role`.tpm and `role`.pem in `folder`, of a new key that agreed once; an existing one is never replaced.

    SecurityError: nothing was written.
    """
    uri = TpmUri(folder / f"{role}{SUFFIX}", checked_tcti(tcti))
    made = Tpm(tcti, folder, clock).make_key(
        sorted(set(pcrs)), f"no key was made in a TPM for {folder}"
    )
    store = TpmKeyStore(uri, clock, made=made)
    store.prove()
    pem = store.public_pem()
    write(uri.path, encoded(made), 0o600)
    write(folder / f"{role}.pem", pem, 0o644)
    return Recipient(role, pem)
