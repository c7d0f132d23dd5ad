"""A site's authority and its certificates, as the product makes them."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from brainforge_edge.cloud.authority.authority import Authority
from brainforge_edge.cloud.broker.config import Trust
from brainforge_edge.core.config import TlsConfig
from brainforge_edge.security import certificates
from brainforge_edge.security.certificates import AGGREGATOR_NAME, Role
from brainforge_edge.security.enrolment import Token, accept, ask
from brainforge_edge.security.tls import TlsFiles
from brainforge_edge.storage.files import SystemDisk

DISK = SystemDisk()


def now() -> datetime:
    return datetime.now(UTC)


class Pki:
    """Authority in `root`/ca, certificates in `root`/<name>."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.authority = Authority.create(
            root, "site", now=now() - timedelta(days=40), days=400, disk=DISK, random=os.urandom
        )
        self.broker = self.issued(Role.BROKER, hosts=("127.0.0.1",))
        self.aggregator = self.issued(Role.AGGREGATOR)

    def issued(
        self, role: Role, name: str = "", *, at: timedelta = timedelta(), **options: Any
    ) -> TlsFiles:
        key, made = self.authority.issue(role, now=now() + at, days=7, **options)
        return self._kept(name or role.value, key, made)

    def node(self, name: str, *, folder: str = "", at: timedelta = timedelta()) -> TlsFiles:
        """Enrolled by a token, as if at another time."""
        when = now() + at
        token: Token = self.authority.invite(name, now=when)
        key = certificates.make_key()
        answer, _ = self.authority.sign(ask(key, name, token), now=when)
        made = accept(answer, name=name, key=key, token=token, known=None).certificate
        return self._kept(folder or name, key, made)

    def trust(self, *, server: TlsFiles | None = None) -> Trust:
        """What a broker is configured with, as things stand."""
        server = server or self.broker
        revoked = self.root / "revoked.pem"
        revoked.write_bytes(self.authority.revoked(now=now()))
        return Trust(
            server.ca, server.certificate, server.key, revoked, AGGREGATOR_NAME,
            self.authority.ledger().names(Role.NODE, now()),
        )  # fmt: skip

    def _kept(
        self, name: str, key: certificates.PrivateKey, made: certificates.Certificate
    ) -> TlsFiles:
        folder = self.root / name
        folder.mkdir()
        files = TlsFiles(folder / "ca.pem", folder / "certificate.pem", folder / "own.key")
        files.ca.write_bytes(certificates.pem(self.authority.certificate))
        files.certificate.write_bytes(certificates.pem(made))
        DISK.write_new(files.key, certificates.key_pem(key), 0o600)
        return files


def section(files: TlsFiles) -> TlsConfig:
    """`[uplink.tls]`."""
    return TlsConfig(str(files.ca), str(files.certificate), str(files.key))
