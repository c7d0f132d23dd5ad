"""What an authority remembers: certificates and tokens, in one file that is replaced whole. Runs in: the CLI process; the process that serves the authority.

Only who has the authority's key may read it: a token's hash is the key of its MACs.
"""

from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from brainforge_edge.core.errors import SecurityError
from brainforge_edge.security.certificates import Role
from brainforge_edge.storage.files import Disk

KEPT_TOKENS = timedelta(days=30)  # used and expired ones stay so long, to be told from unknown ones
KEPT_CERTIFICATES = timedelta(days=90)  # … and certificates that have expired


class Issued(msgspec.Struct, frozen=True):
    serial: str  # hex
    name: str
    role: Role
    key: str  # SHA-256 of the public key, DER
    since: datetime
    until: datetime
    revoked: datetime | None = None
    request: str = ""  # SHA-256 of the request that it answers
    certificate: str = ""  # PEM, while it holds: the same request is answered with it again

    def is_valid_at(self, now: datetime) -> bool:
        return self.revoked is None and self.since <= now <= self.until


class Invitation(msgspec.Struct, frozen=True):
    """A token that was given out."""

    id: str
    name: str
    kept: bytes
    until: datetime
    used: datetime | None = None


class Ledger(msgspec.Struct, frozen=True):
    issued: tuple[Issued, ...] = ()
    invitations: tuple[Invitation, ...] = ()
    format: int = 1

    def invitation(self, id_: str) -> Invitation | None:
        return next((each for each in self.invitations if each.id == id_), None)

    def of_key(self, key: str) -> Issued | None:
        return next((each for each in self.issued if each.key == key), None)

    def with_issued(self, made: Issued, now: datetime) -> "Ledger":
        """… and without what nobody asks for any more: a ledger does not grow for ever."""
        kept = (
            each if now <= each.until else msgspec.structs.replace(each, certificate="")
            for each in self.issued
            if now <= each.until + KEPT_CERTIFICATES
        )
        return msgspec.structs.replace(self, issued=(*kept, made))

    def with_invitation(self, made: Invitation, now: datetime) -> "Ledger":
        kept = (each for each in self.invitations if now < each.until + KEPT_TOKENS)
        return msgspec.structs.replace(self, invitations=(*kept, made))

    def with_used(self, token: str, now: datetime) -> "Ledger":
        return msgspec.structs.replace(
            self,
            invitations=tuple(
                msgspec.structs.replace(each, used=now) if each.id == token else each
                for each in self.invitations
            ),
        )

    def names(self, role: Role, now: datetime) -> tuple[str, ...]:
        """For a broker that knows names alone: nobody whose revoked certificate would still be taken."""
        live = [each for each in self.issued if each.role is role and now <= each.until]
        revoked = {each.name for each in live if each.revoked is not None}
        return tuple(sorted({each.name for each in live} - revoked))


def read_ledger(path: Path, disk: Disk) -> Ledger:
    try:
        ledger = msgspec.json.decode(disk.read_file(path), type=Ledger)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SecurityError(
            "authority_damaged",
            f"the authority's ledger {path} cannot be read",
            why=str(error).lower().rstrip("."),
            remedy="Put its backup in its place",
        ) from error
    return ledger


def replace(path: Path, data: bytes, mode: int, disk: Disk) -> None:
    """As `Disk.atomic_write`, with these permissions from the first byte."""
    fresh = path.with_name(f".{path.name}.new")
    if fresh.name in disk.names(path.parent):  # left by a process that was killed here
        disk.unlink(fresh)
    disk.write_new(fresh, data, mode)
    disk.rename(fresh, path)
