"""Makes a pair of keys in a folder that has none of that role yet. Runs in: the CLI process."""

from pathlib import Path

from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.errors import SecurityError
from brainforge_edge.security.keystore import PRIVATE_SUFFIX, PUBLIC_SUFFIX, SIGNER, make_pair
from brainforge_edge.security.signfiles import make_signing_pair
from brainforge_edge.security.tpmfile import SUFFIX, TCTI
from brainforge_edge.security.tpmstore import make_tpm_pair
from brainforge_edge.storage.files import SystemDisk


def made_pair(folder: Path, role: str, tpm: tuple[str | None, tuple[int, ...]] | None) -> str:
    """The id of the new pair; `tpm`: where it is, and PCRs. SecurityError `pair_exists`; nothing is replaced."""
    disk = SystemDisk()
    disk.make_folder(folder)
    names = disk.names(folder)
    parts = (PRIVATE_SUFFIX, SUFFIX, PUBLIC_SUFFIX)
    taken = [f"{role}{part}" for part in parts if f"{role}{part}" in names]
    if taken:
        lost = (
            "boxes that know it would believe nothing more"
            if role == SIGNER
            else "what they open would be lost"
        )
        raise SecurityError(
            "pair_exists",
            f"no pair was made in {folder}",
            why=f"{' and '.join(taken)} lie there already, and {lost}",
            remedy="Name another folder",
        )
    if tpm is not None:
        tcti, pcrs = tpm
        return make_tpm_pair(
            folder, role, tcti or TCTI, pcrs, write=disk.write_new, clock=SystemClock()
        ).id
    if role == SIGNER:
        return make_signing_pair(folder, disk.write_new).id
    return make_pair(folder, role, disk.write_new).id
