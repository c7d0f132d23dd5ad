"""Public keys of those whose word frees data, kept below a box's root: also of keys that were replaced since.

Runs in: agent process, which remembers them; tools, which check with them what was freed.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from brainforge_edge.core.errors import BrainforgeError, SecurityError, StorageError
from brainforge_edge.security.sign import Verifier, read_verifier
from brainforge_edge.storage.files import Disk

SIGNERS_FOLDER = "signers"
_SUFFIX = ".pem"

Verifiers = Mapping[str, Verifier]  # by signer id
NOBODY: Verifiers = {}


def remember_signer(root: Path, pem: bytes, disk: Disk) -> Verifier:
    """`signers/<id>.pem`; SecurityError if it is no public key of a signer."""
    verifier = read_verifier(pem, "the key that `signer` in [uplink] names")
    folder = root / SIGNERS_FOLDER
    disk.make_folder(folder)
    name = f"{verifier.id}{_SUFFIX}"
    if name not in disk.names(folder):
        disk.atomic_write(folder / name, pem)
    return verifier


def known_signers(
    root: Path, disk: Disk, on_error: Callable[[BrainforgeError], object]
) -> dict[str, Verifier]:
    """Everyone whom the box ever knew; `on_error` is told of a file that is no key, and the others count."""
    folder = root / SIGNERS_FOLDER
    found = {}
    for name in disk.names(folder):
        if not name.endswith(_SUFFIX) or name.startswith("."):
            continue
        try:
            verifier = read_verifier(disk.read_file(folder / name), str(folder / name))
        except (SecurityError, StorageError) as error:
            on_error(error)
            continue
        found[verifier.id] = verifier
    return found
