"""The site's public keys at a box: they came with a certificate and go where the configuration names them. Runs in: CLI process; agent process, thread `renew`.

The rule: a key that is missing is written. A key that is there and is another one is replaced only when a
person enrols the box with a token. A renewal leaves it as it is and says so: else whoever takes over the
machine that signs could, at every box and without anybody there, become the one for whom it seals and
whose word frees its data.
"""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from brainforge_edge.core.config import EdgeConfig
from brainforge_edge.core.errors import SecurityError
from brainforge_edge.security.sitekeys import SiteKeys, key_id
from brainforge_edge.storage.files import Disk


class Placed(StrEnum):
    """What became of a key."""

    SAME = "same"
    WRITTEN = "written"
    REPLACED = "replaced"
    DIFFERS = "differs"  # another one lies there, and stays
    NOT_NAMED = "not_named"  # the configuration has no place for it


def places(config: EdgeConfig) -> dict[str, Path]:
    """Role → file, of those that are configured."""
    named = {
        "aggregator": config.seal.aggregator,
        "recovery": config.seal.recovery,
        "signer": config.uplink.signer,
    }
    return {role: Path(path) for role, path in named.items() if path}


def place(
    keys: SiteKeys, where: Mapping[str, Path], disk: Disk, *, may_replace: bool
) -> dict[str, Placed]:
    """Role → what became of it. StorageError."""
    return {
        role: _placed(role, pem, where.get(role), disk, may_replace=may_replace)
        for role, pem in keys.given().items()
    }


def _placed(role: str, pem: bytes, path: Path | None, disk: Disk, *, may_replace: bool) -> Placed:
    if path is None:
        return Placed.NOT_NAMED
    done = Placed.WRITTEN
    if path.name in disk.names(path.parent):
        if _id_at(role, path, disk) == key_id(role, pem):
            return Placed.SAME
        if not may_replace:
            return Placed.DIFFERS
        done = Placed.REPLACED
    disk.make_folder(path.parent)
    disk.atomic_write(path, pem)
    return done


def _id_at(role: str, path: Path, disk: Disk) -> str:
    """ "" for a file that is no such key: it differs."""
    try:
        return key_id(role, disk.read_file(path))
    except SecurityError:
        return ""
