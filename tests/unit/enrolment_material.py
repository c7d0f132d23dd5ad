"""A site's authority and a box of it, in folders, at a fixed time."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from brainforge_edge.cloud.authority.authority import Authority
from brainforge_edge.core import config
from brainforge_edge.core.config import EdgeConfig
from brainforge_edge.fleet.enrol import Enrolment
from brainforge_edge.security.keystore import make_pair
from brainforge_edge.security.sign import make_signer
from brainforge_edge.storage.files import Disk
from tests.unit.recorder_faulty_disk import UnsyncedDisk

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


def authority(root: Path, disk: Disk | None = None) -> Authority:
    """In `root`/site."""
    made = disk or UnsyncedDisk()
    return Authority.create(root / "site", "site", now=NOW, days=400, disk=made, random=os.urandom)


def edge(root: Path, name: str = "bed-1") -> EdgeConfig:
    """Its certificate in `root`/<name>, the site's keys in `root`/<name>-keys."""
    tls, keys = root / name, root / f"{name}-keys"
    return config.parse(
        f'[node]\nid = "{name}"\nroot = "{root}/box"\n[seal]\naggregator = "{keys}/aggregator.pem"\n'
        f'recovery = "{keys}/recovery.pem"\n[uplink]\nsigner = "{keys}/signer.pem"\n'
        f'[uplink.tls]\nca = "{tls}/ca.pem"\ncertificate = "{tls}/node.pem"\n'
        f'key = "{tls}/node.key"\nenrol = "http://127.0.0.1:8480"\n'
    )


def box(root: Path, name: str = "bed-1", disk: Disk | None = None) -> Enrolment:
    return Enrolment(edge(root, name), disk or UnsyncedDisk())


def enrolled(root: Path, site: Authority, *, at: datetime = NOW, days: float = 7.0) -> Enrolment:
    made = box(root)
    token = site.invite("bed-1", now=at)
    made.now(token, lambda request: site.sign(request, now=at, days=days)[0])
    return made


def public_keys(folder: Path) -> dict[str, bytes]:
    """New ones, by role."""
    folder.mkdir()
    disk = UnsyncedDisk()
    pems = {
        role: make_pair(folder, role, disk.write_new).pem for role in ("aggregator", "recovery")
    }
    return {**pems, "signer": make_signer()[1]}
