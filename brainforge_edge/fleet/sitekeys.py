"""The site's public keys at a box: they came with a certificate and go where the configuration names them. Runs in: CLI process; agent process, thread `renew`.

The rule: a key that is missing is written. A key that is there and is another one is replaced only when a
person enrols the box with a token. A renewal leaves it as it is and says so: else whoever takes over the
machine that signs could, at every box and without anybody there, become the one for whom it seals and
whose word frees its data. No other key is one that a desired state has put in the file's place meanwhile.
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
    keys: SiteKeys,
    where: Mapping[str, Path],
    disk: Disk,
    *,
    may_replace: bool,
    standing: Mapping[str, bytes],
) -> dict[str, Placed]:
    """Role → what became of it. `standing`: role → PEM, by the desired state. StorageError."""
    found = {role: _found(role, pem, where.get(role), disk) for role, pem in keys.given().items()}
    for role, pem in keys.given().items():
        path = where.get(role)
        if found[role] is Placed.DIFFERS and may_replace:
            found[role] = Placed.REPLACED
        elif found[role] is Placed.DIFFERS and _is_standing(role, pem, standing):
            found[role] = Placed.SAME
        if path is not None and found[role] in {Placed.WRITTEN, Placed.REPLACED}:
            disk.make_folder(path.parent)
            disk.atomic_write(path, pem)
    return found


def differing(
    keys: SiteKeys, where: Mapping[str, Path], disk: Disk, standing: Mapping[str, bytes]
) -> list[str]:
    """Roles of those that neither lie where they are named nor stand. StorageError."""
    return [
        role
        for role, pem in keys.given().items()
        if _found(role, pem, where.get(role), disk) is Placed.DIFFERS
        and not _is_standing(role, pem, standing)
    ]


def _found(role: str, pem: bytes, path: Path | None, disk: Disk) -> Placed:
    """WRITTEN: where none lies yet."""
    if path is None:
        return Placed.NOT_NAMED
    if path.name not in disk.names(path.parent):
        return Placed.WRITTEN
    return Placed.SAME if _id_at(role, path, disk) == key_id(role, pem) else Placed.DIFFERS


def _is_standing(role: str, pem: bytes, standing: Mapping[str, bytes]) -> bool:
    return role in standing and key_id(role, standing[role]) == key_id(role, pem)


def _id_at(role: str, path: Path, disk: Disk) -> str:
    """ "" for a file that is no such key: it differs."""
    try:
        return key_id(role, disk.read_file(path))
    except SecurityError:
        return ""
