"""The devices that this box has met, in node.sqlite. Runs in: agent process, main thread (its one writer)."""

from pathlib import Path
from typing import Any

import msgspec

from brainforge_edge.core.errors import ConfigError
from brainforge_edge.core.identity import taken
from brainforge_edge.storage.node import NODE_FILE, migrations
from brainforge_edge.storage.sqlite import Database

BOUND, REFUSED, KNOWN = "bound", "refused", "known"


class KnownDevice(msgspec.Struct, frozen=True, kw_only=True):
    """One row."""

    identity: str
    kind: str
    link: str
    name: str
    pairing: str
    alias: str = ""
    who_am_i: str = ""
    serial_number: str = ""
    address: str = ""
    hardware: str = ""
    firmware: str = ""
    first_seen_ns: int | None = None
    last_seen_ns: int | None = None
    times_connected: int = 0


_COLUMNS = KnownDevice.__struct_fields__


class Registry:
    """Opens `root`/node.sqlite; StorageError."""

    def __init__(self, root: Path, *, read_only: bool = False) -> None:
        self._database = Database(root / NODE_FILE, migrations=migrations(), read_only=read_only)

    def close(self) -> None:
        self._database.close()

    def devices(self) -> list[KnownDevice]:
        """All, the ones that were seen last first."""
        rows = self._database.query(
            f"SELECT {', '.join(_COLUMNS)} FROM device "  # noqa: S608  names of our own
            "ORDER BY last_seen_ns IS NULL, last_seen_ns DESC, identity"
        )
        return [KnownDevice(**dict(zip(_COLUMNS, row, strict=True))) for row in rows]

    def bound(self) -> dict[str, str]:
        """Device name → identity."""
        rows = self._database.query("SELECT name, identity FROM device WHERE pairing = ?", (BOUND,))
        return {str(name): str(identity) for name, identity in rows}

    def answered(
        self,
        *,
        identity: str,
        kind: str,
        link: str,
        name: str,
        info: dict[str, str],
        binds: bool,
        is_refused: bool,
        utc_ns: int | None,
    ) -> None:
        """A device answered under `name`: it is remembered, and bound if `binds`."""
        with self._database.transaction():
            if binds:
                self._free(name)
            self._add(identity, kind, link, name)
            self._database.execute(
                "UPDATE device SET link = ?, who_am_i = ?, serial_number = ?, address = ?, "
                "hardware = ?, firmware = ?, first_seen_ns = coalesce(first_seen_ns, ?), "
                "last_seen_ns = coalesce(?, last_seen_ns), times_connected = times_connected + ? "
                "WHERE identity = ?",
                (
                    link,
                    info.get("who_am_i", ""),
                    info.get("serial_number", ""),
                    info.get("address", ""),
                    info.get("hardware_version", ""),
                    info.get("firmware_version", ""),
                    utc_ns,
                    utc_ns,
                    int(not is_refused),
                    identity,
                ),
            )
            if binds:
                self._pair(identity, name, BOUND)
            elif is_refused:
                self._database.execute(
                    "UPDATE device SET name = ?, pairing = ? WHERE identity = ? AND pairing != ?",
                    (name, REFUSED, identity, BOUND),
                )

    def bind(self, name: str, who: str, *, kind: str, link: str) -> tuple[str, str]:
        """Give `name` to the device that `who` says (identity, its last part, alias): (identity, the one
        before). ConfigError `unknown_identity`, DeviceError `identity_taken`."""
        identity = self._found(who, new_of=kind)
        with self._database.transaction():
            held = self._database.one(
                "SELECT name FROM device WHERE identity = ? AND pairing = ? AND name != ?",
                (identity, BOUND, name),
            )
            if held is not None:
                raise taken(name, identity, str(held[0]))
            before = self.bound().get(name, "")
            self._free(name)
            self._add(identity, kind, link, name)
            self._pair(identity, name, BOUND)
        return identity, before

    def forget(self, who: str) -> list[KnownDevice]:
        """Take the device away that has this name or that `who` says; what was forgotten."""
        bound = self.bound()
        identity = bound[who] if who in bound else self._found(who)
        gone = [device for device in self.devices() if device.identity == identity]
        self._database.execute("DELETE FROM device WHERE identity = ?", (identity,))
        return gone

    def alias(self, who: str, alias: str) -> str:
        """Call a device so; "" for no alias. The identity. ConfigError `unknown_identity`, `alias_used`."""
        identity = self._found(who)
        owner = self._database.one("SELECT identity FROM device WHERE alias = ?", (alias,))
        if alias and owner is not None and owner[0] != identity:
            raise ConfigError(
                "alias_used",
                f"{identity} was not called {alias!r}",
                why=f"that is the alias of {owner[0]}",
                remedy="Choose another one",
            )
        self._database.execute("UPDATE device SET alias = ? WHERE identity = ?", (alias, identity))
        return identity

    def _add(self, identity: str, kind: str, link: str, name: str) -> None:
        self._database.execute(
            "INSERT INTO device (identity, kind, link, name, pairing) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (identity) DO NOTHING",
            (identity, kind, link, name, KNOWN),
        )

    def _free(self, name: str) -> None:
        self._database.execute(
            "UPDATE device SET pairing = ? WHERE name = ? AND pairing = ?", (KNOWN, name, BOUND)
        )

    def _pair(self, identity: str, name: str, pairing: str) -> None:
        self._database.execute(
            "UPDATE device SET name = ?, pairing = ? WHERE identity = ?", (name, pairing, identity)
        )

    def _found(self, who: str, *, new_of: str = "") -> str:
        devices = self.devices()
        for device in devices:
            if who in {device.identity, device.alias} - {""}:
                return device.identity
        last = {d.identity for d in devices if d.identity.partition(":")[2].lower() == who.lower()}
        if len(last) == 1:
            return last.pop()
        if new_of and who.startswith(f"{new_of}:") and who != f"{new_of}:" and not last:
            return who  # not met yet: a person may know what is to come
        raise ConfigError(
            "unknown_identity",
            f"there is no one device {who!r}",
            why=f"this box has met {', '.join(d.identity for d in devices[:8]) or 'none'}",
            remedy="Give an identity as brainforge-edge devices lists it, or an alias",
        )


def read_devices(root: Path) -> list[dict[str, Any]]:
    """The rows for whoever only looks, also while no daemon runs; [] where there is no database yet."""
    if not (root / NODE_FILE).exists():
        return []
    registry = Registry(root, read_only=True)
    try:
        return [msgspec.to_builtins(device) for device in registry.devices()]
    finally:
        registry.close()
