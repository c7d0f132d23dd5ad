"""The desired state that stands at a box, in a file and its copy. Runs in: agent process, which writes it; acquire, uplink; tools.

Whoever records or sends reads it and never waits for it: a file that is damaged, or on a sector that
cannot be read, counts as absent, then its copy speaks, then the configuration.
"""

from pathlib import Path
from typing import NamedTuple

import msgspec

from brainforge_edge.core.errors import SecurityError, StorageError
from brainforge_edge.core.garbled import GARBLED
from brainforge_edge.security.desired import DesiredState, desired_statement
from brainforge_edge.security.order import OrderFile
from brainforge_edge.security.sign import Verifier, read_verifier
from brainforge_edge.security.signfiles import verifier_at
from brainforge_edge.security.wrap import Recipient
from brainforge_edge.storage.files import Disk

DESIRED_FILE = "desired.json"  # below the node's root
COPY_FILE = "desired.copy.json"
DAMAGED = ".damaged-"


class Standing(NamedTuple):
    """What stands, and since when."""

    file: OrderFile
    state: DesiredState
    applied_utc_ns: int | None


class _Kept(msgspec.Struct, frozen=True):
    id: str  # of the order: its digest, by which damage shows
    applied_utc_ns: int | None
    order: OrderFile


_decoder = msgspec.json.Decoder(_Kept)


def read_standing(root: Path, disk: Disk) -> Standing | None:
    """The state that was applied last; None where none was, or no file of it can be read."""
    for name in (DESIRED_FILE, COPY_FILE):
        found = _read(root / name, disk)
        if found is not None:
            return found
    return None


def write_standing(root: Path, standing: Standing, disk: Disk) -> None:
    """On the disk when this returns; a power cut leaves the one before or this one."""
    kept = _Kept(standing.file.id, standing.applied_utc_ns, standing.file)
    for name in (COPY_FILE, DESIRED_FILE):
        disk.atomic_write(root / name, msgspec.json.encode(kept))


def mend_standing(root: Path, disk: Disk) -> list[str]:
    """Damaged files are set aside under new names, which are returned, and written anew from the other one."""
    names = disk.names(root)
    damaged = [
        name
        for name in (DESIRED_FILE, COPY_FILE)
        if name in names and _read(root / name, disk) is None
    ]
    aside = []
    for name in damaged:
        before = [other.removeprefix(f"{name}{DAMAGED}") for other in names]
        number = 1 + max((int(each) for each in before if each.isdigit()), default=0)
        aside.append(f"{name}{DAMAGED}{number}")
        disk.rename(root / name, root / aside[-1])
    standing = read_standing(root, disk) if damaged else None
    if standing is not None:
        write_standing(root, standing, disk)
    return aside


def now_recipients(
    configured: tuple[Recipient, ...], root: Path, disk: Disk
) -> tuple[Recipient, ...]:
    """For whom is sealed now: as configured, but for the roles that the desired state names."""
    standing = read_standing(root, disk)
    named = {} if standing is None else {each.role: each for each in standing.state.recipients()}
    kept = tuple(each for each in configured if each.role not in named)
    return (*kept, *named.values())


def now_site_keys(root: Path, disk: Disk) -> dict[str, bytes]:
    """Role → PEM, of those that the desired state names in the place of what is configured."""
    standing = read_standing(root, disk)
    if standing is None:
        return {}
    named = {each.role: each.pem for each in standing.state.recipients()}
    return {**named, "signer": standing.state.signer.encode()} if standing.state.signer else named


def now_receipt_signer(configured: str, root: Path, disk: Disk) -> Verifier | None:
    """Whose receipts are believed now: of the desired state, else of the file that is `configured`.

    SecurityError for a file that cannot be used.
    """
    standing = read_standing(root, disk)
    if standing is not None and standing.state.signer:
        return read_verifier(standing.state.signer.encode(), DESIRED_FILE)
    return verifier_at(Path(configured)) if configured else None


def _read(path: Path, disk: Disk) -> Standing | None:
    try:
        if path.name not in disk.names(path.parent):
            return None
        kept = _decoder.decode(disk.read_file(path))
        if kept.id != kept.order.id:
            return None
        return Standing(kept.order, desired_statement(kept.order), kept.applied_utc_ns)
    except (*GARBLED, StorageError, SecurityError):
        return None
