"""The site's certificate authority: invites boxes, signs, revokes. Runs in: the CLI process, and the process that serves it.

What was promised is on the disk before it is handed out: a token is used up, and its certificate in the
ledger, by one write. Whoever lost the answer sends the same request and gets the same certificate.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from brainforge_edge.cloud.authority import checks
from brainforge_edge.cloud.authority.ledger import (
    Invitation,
    Issued,
    Ledger,
    read_ledger,
    replace,
)
from brainforge_edge.core.errors import SecurityError
from brainforge_edge.core.ids import checked_name
from brainforge_edge.security import certificates
from brainforge_edge.security.certificates import (
    AGGREGATOR_NAME,
    BROKER_NAME,
    Certificate,
    PrivateKey,
    PublicKey,
    Role,
    public_der,
    read_certificate,
)
from brainforge_edge.security.enrolment import Token, answer, make_token, read_ask
from brainforge_edge.security.keystore import read_private
from brainforge_edge.security.sitekeys import ROLES, SiteKeys, site_keys
from brainforge_edge.storage.files import Disk

NODE_DAYS: Final = 7.0
TOKEN_MINUTES: Final = 15.0
FOLDER = "ca"  # below the aggregator's root
KEY_FILE, CERTIFICATE_FILE, LEDGER_FILE = "ca.key", "ca.pem", "ledger.json"
_NAMES = {Role.AGGREGATOR: AGGREGATOR_NAME, Role.BROKER: BROKER_NAME}


class Authority:
    """One in `ROOT/ca`."""

    def __init__(self, root: Path, *, disk: Disk, random: Callable[[int], bytes]) -> None:
        self.folder = root / FOLDER
        self._disk = disk
        self._random = random
        if KEY_FILE not in disk.names(self.folder):
            raise SecurityError(
                "no_authority",
                f"there is no authority below {root}",
                why=f"{self.folder / KEY_FILE} is not there",
                remedy="Make one: brainforge-edge cloud ca init",
            )

    @classmethod
    def create(
        cls,
        root: Path,
        site: str,
        *,
        now: datetime,
        days: float,
        disk: Disk,
        random: Callable[[int], bytes],
    ) -> "Authority":
        """A new one; never over another."""
        folder = root / FOLDER
        disk.make_folder(folder)
        with disk.exclusive(folder / ".lock"):
            if KEY_FILE in disk.names(folder):
                raise SecurityError(
                    "authority_exists",
                    f"no authority was made in {folder}",
                    why="one lies there already, and all that it signed would be worthless",
                    remedy="Name another folder with --root",
                )
            key = certificates.make_key()
            own = certificates.make_authority(key, site, serial=_serial(random), now=now, days=days)
            replace(folder / CERTIFICATE_FILE, certificates.pem(own), 0o644, disk)
            replace(folder / LEDGER_FILE, msgspec.json.encode(Ledger()), 0o600, disk)
            # The key comes last: it is what makes an authority of the folder.
            replace(folder / KEY_FILE, certificates.key_pem(key), 0o600, disk)
        return cls(root, disk=disk, random=random)

    @property
    def certificate(self) -> Certificate:
        path = self.folder / CERTIFICATE_FILE
        return read_certificate(self._disk.read_file(path), str(path))

    def ledger(self) -> Ledger:
        return read_ledger(self.folder / LEDGER_FILE, self._disk)

    def invite(self, name: str, *, now: datetime, minutes: float = TOKEN_MINUTES) -> Token:
        """A token with which `name` can enrol once."""
        checked_name(name, "the node id")
        token = make_token(self._random)
        made = Invitation(token.id, name, token.kept, now + timedelta(minutes=minutes))
        with self._locked():
            self._keep(self.ledger().with_invitation(made, now))
        return token

    def sign(
        self, request: bytes, *, now: datetime, days: float = NODE_DAYS
    ) -> tuple[bytes, Issued]:
        """The answer to a box's request; SecurityError says why it is not signed."""
        asked = read_ask(request)
        name, public = certificates.read_request(asked.request.encode())
        own = self.certificate
        with self._locked():
            ledger, key = self.ledger(), _digest(public)
            before = ledger.of_key(key)
            if before is not None:
                kept = checks.check_again(ledger, before, asked, _sha256(request), now)
                made = read_certificate(before.certificate.encode(), "in the ledger")
                return answer(made, (self._key(), own), kept, self.published()), before
            kept = None
            if asked.token:
                kept = checks.invitation(ledger, asked, name, now).kept
                ledger = ledger.with_used(asked.token, now)
            else:
                checks.check_renewal(ledger, own, asked, name, now)
            made, issued = self._certify(
                ledger, public, name, Role.NODE, now=now, days=days, request=request
            )
            return answer(made, (self._key(), own), kept, self.published()), issued

    def publish(self, pems: Mapping[str, bytes]) -> SiteKeys:
        """Give these public keys (role → PEM) out with every answer from now on; SecurityError for one that is none."""
        site_keys(pems)
        with self._locked():
            for role, pem in pems.items():
                replace(self.folder / _published(role), pem, 0o644, self._disk)
            return self.published()

    def published(self) -> SiteKeys:
        names = self._disk.names(self.folder)
        return site_keys(
            {
                role: self._disk.read_file(self.folder / _published(role))
                for role in ROLES
                if _published(role) in names
            }
        )

    def issue(
        self, role: Role, *, now: datetime, days: float, hosts: Sequence[str] = ()
    ) -> tuple[PrivateKey, Certificate]:
        """Key and certificate of the aggregator or a broker, whose operator has the authority."""
        key = certificates.make_key()
        with self._locked():
            made, _ = self._certify(
                self.ledger(), key.public_key(), _NAMES[role], role, now=now, days=days, hosts=hosts
            )
        return key, made

    def revoke(self, which: str, *, now: datetime) -> tuple[Issued, ...]:
        """All certificates of a name that still hold, or the one with that serial number."""
        with self._locked():
            ledger = self.ledger()
            found = tuple(
                each
                for each in ledger.issued
                if which in {each.name, each.serial} and each.revoked is None and now <= each.until
            )
            if not found:
                raise SecurityError(
                    "nothing_to_revoke",
                    f"nothing of {which!r} was revoked",
                    why="no certificate of that name or serial number holds",
                    remedy="See brainforge-edge cloud ca list",
                )
            self._keep(
                msgspec.structs.replace(
                    ledger,
                    issued=tuple(
                        msgspec.structs.replace(each, revoked=now) if each in found else each
                        for each in ledger.issued
                    ),
                )
            )
        return found

    def revoked(self, *, now: datetime) -> bytes:
        """The revocation list, for brokers that read one."""
        listed = [(int(e.serial, 16), e.revoked) for e in self.ledger().issued if e.revoked]
        own = (self._key(), self.certificate)
        return certificates.revocation_list(own, listed, number=len(listed), now=now)

    def _certify(
        self,
        ledger: Ledger,
        public: PublicKey,
        name: str,
        role: Role,
        *,
        now: datetime,
        days: float,
        hosts: Sequence[str] = (),
        request: bytes = b"",
    ) -> tuple[Certificate, Issued]:
        serial = _serial(self._random)
        checks.check_authority(self.certificate, now)
        made = certificates.certify(
            (self._key(), self.certificate), public, name=name, role=role, serial=serial,
            now=now, days=days, hosts=hosts,
        )  # fmt: skip
        issued = Issued(
            f"{serial:x}", name, role, _digest(public),
            made.not_valid_before_utc, made.not_valid_after_utc,
            request=_sha256(request) if request else "",
            certificate=certificates.pem(made).decode() if request else "",
        )  # fmt: skip
        self._keep(ledger.with_issued(issued, now))
        return made, issued

    def _key(self) -> PrivateKey:
        return read_private(self.folder / KEY_FILE)

    def _keep(self, ledger: Ledger) -> None:
        replace(self.folder / LEDGER_FILE, msgspec.json.encode(ledger), 0o600, self._disk)

    def _locked(self) -> AbstractContextManager[None]:
        locked: AbstractContextManager[None] = self._disk.exclusive(self.folder / ".lock")
        return locked


def _serial(random: Callable[[int], bytes]) -> int:
    """Positive, and never so small that it could be guessed: 126 random bits."""
    return 1 << 126 | int.from_bytes(random(16), "big") >> 2


def _digest(public: PublicKey) -> str:
    return _sha256(public_der(public))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _published(role: str) -> str:
    return f"{role}.pem"
