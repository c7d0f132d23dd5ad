"""Signers, desired states and a box that judges what comes on its topics, for the tests of orders."""

from pathlib import Path
from typing import Any

import msgspec

from brainforge_edge.core.clock import SystemClock
from brainforge_edge.fleet.desired import DesiredStates
from brainforge_edge.fleet.jobs import Jobs
from brainforge_edge.fleet.rewrapping import Rewrapping
from brainforge_edge.security.desired import DesiredState, new_desired
from brainforge_edge.security.keystore import FileKeyStore
from brainforge_edge.security.order import OrderFile, Signers, signed_by
from brainforge_edge.security.sign import Signer, make_signer, read_signer
from brainforge_edge.storage.files import Disk
from tests.unit.erasure_material import DAY_NS, NODE, NOW_NS, Session
from tests.unit.sealed_material import DISK


def signer() -> Signer:
    return read_signer(make_signer()[0], "test")


FLEET, CLINICIAN, STRANGER = signer(), signer(), signer()
KNOWN = Signers([("fleet", FLEET.public), ("clinician", CLINICIAN.public)])


class FixedClock(SystemClock):
    """A box's clock that says what a test says."""

    def __init__(self, utc_ns: int | None = NOW_NS + 1) -> None:
        self.utc: int | None = utc_ns

    def utc_ns(self) -> int | None:
        return self.utc


def desired(**fields: object) -> DesiredState:
    usual: dict[str, Any] = {
        "nodes": (NODE,), "issued_utc_ns": NOW_NS, "expires_utc_ns": NOW_NS + DAY_NS, "counter": 7,
    }  # fmt: skip
    return DesiredState(**(usual | fields))


def signed(file: OrderFile, *signers: Signer) -> OrderFile:
    for each in signers:
        file = signed_by(file, each)
    return file


def raw(body: dict[str, Any], *signers: Signer) -> OrderFile:
    """As one that another program made and signed."""
    return signed(OrderFile(msgspec.json.encode(body).decode()), *signers)


def body_of(state: object) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(state))
    return body


def sent(file: OrderFile) -> bytes:
    return msgspec.json.encode(file)


def good(**fields: object) -> bytes:
    return sent(signed(new_desired(desired(**fields)), FLEET))


def states_at(
    root: Path, *, clock: FixedClock | None = None, disk: Disk = DISK, begun: bool = True
) -> DesiredStates:
    """A box that knows two signers, as after a start; it has recorded nothing."""
    states = DesiredStates(
        root, node=NODE, log_id=bytes(16), signers=lambda: KNOWN, clock=clock or FixedClock(),
        rewrapping=rewrapping(root / "recordings", root / "keys", disk), disk=disk,
    )  # fmt: skip
    if begun:
        states.begin()
    return states


def rewrapping(recordings: Path, keys: Path, disk: Disk = DISK) -> Rewrapping:
    return Rewrapping(recordings, disk, store=lambda: FileKeyStore(keys), is_over=lambda: False)


def jobs_at(made: Session, *, clock: FixedClock | None = None, disk: Disk = DISK) -> Jobs:
    return Jobs(
        made.root, node=NODE, log_id=made.log_id, signers=lambda: KNOWN, list_signer="",
        clock=clock or FixedClock(), disk=disk,
    )  # fmt: skip
