"""A device that was seen, and how it stands to what is configured and known. Pure.

Runs in: the command line.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from brainforge_edge.core.errors import BrainforgeError
from brainforge_edge.core.identity import is_proven
from brainforge_edge.devices.probe import Answer

IN_USE, CONFIGURED, KNOWN, NEW, GONE = "in use", "configured", "known", "new", "gone"
_CONNECTED = {"streaming", "degraded"}
_REFUSED = {"device.new_identity", "device.identity_taken", "device.wrong_device"}


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the list; `devices --json` prints these keys."""

    link: str  # serial, ble, lsl, tcp, udp
    address: str  # the most lasting name of the port; Bluetooth address; host; tcp://…
    kind: str  # of driver, guessed; "" where nothing says
    basis: str  # what the guess rests on
    identity: str  # core/identity.py; "" where nothing proves one
    name: str = ""  # what it calls itself
    rssi_dbm: int | None = None
    alive: str  # plugged in, advertises, answers, streams, no answer: …
    state: str = NEW  # in use, configured, known, new, gone
    device: str = ""  # name in the configuration
    alias: str = ""
    last_seen_ns: int | None = None  # UTC
    node: str = ""  # what `address` leads to
    detail: dict[str, str] = {}

    def answered(self, answer: Answer) -> "Sighting":
        """With what a probe found out."""
        return msgspec.structs.replace(
            self,
            kind=answer.kind,
            basis=answer.basis,
            identity=answer.identity or self.identity,
            name=answer.name,
            alive="answers",
            detail=self.detail | answer.detail,
        )

    def silent(self, error: BrainforgeError) -> "Sighting":
        return msgspec.structs.replace(self, alive=f"no answer: {error.why}")

    @property
    def key(self) -> tuple[str, str]:
        """The same for every look at one device."""
        if self.device or is_proven(self.identity):
            return self.link, self.device or self.identity
        return self.link, f"{self.address} {self.name}"


class Configured(msgspec.Struct, frozen=True, kw_only=True):
    """A `[[device]]`, and how the daemon says that it stands; `state` "" while none runs."""

    name: str
    kind: str
    settings: dict[str, Any] = {}
    state: str = ""
    identity: str = ""  # of the one that is connected, or was last
    bound: str = ""
    status: dict[str, Any] = {}
    error: dict[str, Any] | None = None

    @property
    def port(self) -> str:
        return str(self.settings.get("port", ""))

    @property
    def is_in_use(self) -> bool:
        return self.state in _CONNECTED

    def is_met_by(self, seen: Sighting) -> bool:
        """Whether `seen` is at this device's place and is not proven to be another one."""
        if is_proven(self.bound) and is_proven(seen.identity):
            if self.bound == seen.identity:
                return True
            # The serial number of a USB device need not be the one that the device itself tells.
            if not (seen.link == "serial" and seen.alive == "plugged in"):
                return False
        said = self.settings.get
        if self.port:
            same = os.path.realpath(self.port) == os.path.realpath(seen.node or seen.address)
            return self.port == seen.address or (seen.link == "serial" and same)
        if seen.kind != self.kind or seen.link not in {"ble", "lsl"}:
            return False
        if seen.link == "lsl":
            pairs = (
                ("stream", seen.name),
                ("type", seen.detail.get("type", "")),
                ("source_id", seen.detail.get("source_id", "")),
            )
            return all(said(key, "") in {"", value} for key, value in pairs)
        if said("address"):
            return str(said("address")).lower() == seen.address.lower()
        return said("name", "") in {"", seen.name}


def settle(
    seen: Iterable[Sighting],
    configured: Iterable[Configured],
    known: Iterable[Mapping[str, Any]],
    *,
    utc_ns: int | None,
) -> list[Sighting]:
    """The list: everything that was seen, then what is configured or known and was not."""
    configured = list(configured)
    registry = {str(row["identity"]): row for row in known}
    met: set[str] = set()
    rows: list[Sighting] = []
    for each in seen:
        owner = next((c for c in configured if c.name not in met and c.is_met_by(each)), None)
        row = registry.get(each.identity)
        state = KNOWN if row is not None else NEW
        if owner is not None:
            met.add(owner.name)
            state = IN_USE if owner.is_in_use else CONFIGURED
            row = row or registry.get(owner.bound)
        rows.append(
            msgspec.structs.replace(
                each,
                state=state,
                device=owner.name if owner is not None else "",
                alive="streams" if state == IN_USE else each.alive,
                kind=owner.kind if owner is not None else each.kind,
                basis="the configuration" if owner is not None else each.basis,
                identity=_identity(each, owner),
                alias=str(row["alias"]) if row is not None else "",
                last_seen_ns=utc_ns,
            )
        )
    rows += [_absent(one, registry, utc_ns) for one in configured if one.name not in met]
    listed = {row.identity for row in rows} | {one.bound for one in configured}
    rows += [_gone(row) for identity, row in registry.items() if identity not in listed]
    return sorted(rows, key=lambda r: (_ORDER.index(r.state), r.device, r.link, r.address))


_ORDER = [IN_USE, CONFIGURED, KNOWN, NEW, GONE]


def _identity(seen: Sighting, owner: Configured | None) -> str:
    if owner is None:
        return seen.identity
    return owner.identity if owner.is_in_use else seen.identity or owner.bound


def _absent(
    one: Configured, registry: Mapping[str, Mapping[str, Any]], utc_ns: int | None
) -> Sighting:
    """Configured, and not found by looking: the daemon has it (what is connected may not be seen), or
    it is not there."""
    identity = one.identity if one.is_in_use else one.bound
    row = registry.get(identity, {})
    is_there = bool(one.port) and "://" not in one.port and os.path.exists(one.port)  # noqa: PTH110
    rssi = one.status.get("rssi_dbm")
    alive = "streams" if one.is_in_use else "plugged in" if is_there else ""
    is_refused = False
    if one.error is not None and not one.is_in_use:
        is_refused = one.error.get("code") in _REFUSED
        alive = f"{'refused' if is_refused else 'no answer'}: {one.error.get('why', '')}"
    state = IN_USE if one.is_in_use else CONFIGURED if is_there or is_refused else GONE
    return Sighting(
        link=_link(one),
        address=one.port or str(one.status.get("address") or one.settings.get("address") or ""),
        kind=one.kind,
        basis="the configuration",
        identity=identity,
        name=str(one.settings.get("name") or one.settings.get("stream") or row.get("who_am_i", "")),
        rssi_dbm=rssi if isinstance(rssi, int) else None,
        alive=alive,
        state=state,
        device=one.name,
        alias=str(row.get("alias", "")),
        last_seen_ns=utc_ns if state == IN_USE else row.get("last_seen_ns"),
    )


def _link(one: Configured) -> str:
    if one.port:
        scheme, separator, _ = one.port.partition("://")
        return scheme if separator else "serial"
    return "lsl" if one.kind == "lsl" else "ble"


def _gone(row: Mapping[str, Any]) -> Sighting:
    return Sighting(
        link=str(row["link"]),
        address=str(row["address"]),
        kind=str(row["kind"]),
        basis="the registry",
        identity=str(row["identity"]),
        name=str(row["who_am_i"]),
        alive="",
        state=GONE,
        alias=str(row["alias"]),
        last_seen_ns=row["last_seen_ns"],
    )
