"""Words between a Bluetooth driver and its link, and what can go wrong there. Knows no library.

Runs in: acquire process, pull thread; `scan` results also in discovery.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from brainforge_edge.core.errors import DeviceError


class Packet(NamedTuple):
    """One notification."""

    arrived_ns: int  # box clock, when the Bluetooth service handed it over
    characteristic: str  # UUID, lower case
    data: bytes


@dataclass(frozen=True, slots=True)
class Found:
    """A peripheral that was heard."""

    address: str
    name: str
    rssi: int | None  # dBm
    services: tuple[str, ...]  # UUIDs, lower case, as advertised
    adapter: str  # "hci0"; "" where the backend does not say


@dataclass(frozen=True, slots=True)
class Target:
    """Which peripheral is meant: its address, else its whole name, else its kind."""

    kind: str  # for sentences: "Muse"
    prefixes: tuple[str, ...]  # of advertised names
    service: str = ""  # UUID that also names the kind
    address: str = ""
    name: str = ""

    def is_met_by(self, found: Found) -> bool:
        if self.address:
            return found.address.lower() == self.address.lower()
        if self.name:
            return found.name == self.name
        return found.name.startswith(self.prefixes) or self.service in found.services

    @property
    def wanted(self) -> str:
        """For a sentence."""
        if self.address:
            return f"a {self.kind} with the address {self.address}"
        return f"a {self.kind} called {self.name!r}" if self.name else f"a {self.kind}"


class GattLink(Protocol):
    """A connection to one peripheral. One thread reads; any thread may write or close."""

    @property
    def dropped(self) -> int:
        """Notifications left out because nobody read; only ever counts up."""
        ...

    @property
    def mtu(self) -> int | None:
        """Bytes of the largest packet, headers included; None where the Bluetooth service does not say."""
        ...

    def open(self, required: Iterable[str]) -> Found:
        """Find, connect, and check that all these characteristics exist. Blocks; DeviceError."""
        ...

    def has(self, characteristic: str) -> bool: ...
    def subscribe(self, characteristic: str) -> None: ...
    def read_value(self, characteristic: str) -> bytes: ...
    def write(self, characteristic: str, data: bytes, *, response: bool = False) -> None:
        """In order; waits until the Bluetooth service has it, or the device says so. DeviceError."""
        ...

    def post(self, characteristic: str, data: bytes, *, response: bool = False) -> None:
        """`write` without waiting; what fails is told by the next `read`."""
        ...

    def read(self, timeout_s: float) -> list[Packet]:
        """All that have come, oldest first, empty on time-out. DeviceError when lost or closed."""
        ...

    def close(self, farewell: tuple[str, bytes] | None = None) -> None:
        """Idempotent, from any thread, also during `open`: disconnects, after writing `farewell`.

        Where the device answers on that characteristic it is told until it does, thrice at most.
        """
        ...


def no_adapter(why: str) -> DeviceError:
    return DeviceError(
        "no_adapter",
        "cannot use Bluetooth",
        why=why,
        remedy="Plug a Bluetooth adapter in, or correct `adapter` in the device's settings",
        transient=True,
    )


def adapter_off(*, is_blocked: bool) -> DeviceError:
    if is_blocked:
        return DeviceError(
            "adapter_blocked",
            "cannot use Bluetooth",
            why="the adapter is blocked (rfkill), by a switch or by flight mode",
            remedy="Unblock it: rfkill unblock bluetooth",
            transient=True,
        )
    return DeviceError(
        "adapter_off",
        "cannot use Bluetooth",
        why="the adapter is switched off",
        remedy="Switch it on: bluetoothctl power on",
        transient=True,
    )


def no_service(why: str) -> DeviceError:
    return DeviceError(
        "no_bluetooth",
        "cannot use Bluetooth",
        why=f"the system's Bluetooth service does not answer ({why})",
        remedy="Install and start it: apt-get install bluez, systemctl start bluetooth",
        transient=True,
    )


def not_allowed(why: str) -> DeviceError:
    return DeviceError(
        "bluetooth_denied",
        "cannot use Bluetooth",
        why=f"permission was refused ({why})",
        remedy="Add the user to the group bluetooth, or allow it in the D-Bus policy",
    )


def adapter_busy(why: str) -> DeviceError:
    return DeviceError(
        "adapter_busy",
        "cannot connect over Bluetooth now",
        why=why,
        remedy="It is tried again by itself; if this repeats, systemctl restart bluetooth",
        transient=True,
    )


def not_found(target: Target, seconds: float) -> DeviceError:
    return DeviceError(
        "not_found",
        f"cannot find {target.wanted}",
        why=f"nothing of that kind was heard within {seconds:g} s",
        remedy="Switch it on, bring it near, and disconnect it from phones and tablets",
        transient=True,
    )


def ambiguous(target: Target, found: Iterable[Found]) -> DeviceError:
    heard = ", ".join(sorted(f"{each.name or 'unnamed'} {each.address}" for each in found))
    return DeviceError(
        "ambiguous",
        f"cannot tell which device is {target.wanted}",
        why=f"several were heard: {heard}",
        remedy="Write the right `address` into the device's settings, or switch the others off",
        heard=heard,
    )


def wrong_peripheral(found: Found, target: Target, missing: Iterable[str]) -> DeviceError:
    return DeviceError(
        "wrong_device",
        f"{found.name or found.address} is not {target.wanted}",
        why=f"it has no characteristic {', '.join(sorted(missing))}",
        remedy="Correct `address`, `name` or `kind` in the configuration",
        transient=True,  # services are sometimes announced before they are there
        answered=found.name,
    )


def connect_failed(target: Target, why: str) -> DeviceError:
    return DeviceError(
        "connect_failed",
        f"cannot connect to {target.wanted}",
        why=why,
        remedy="It is tried again by itself; bring it nearer or charge it if this repeats",
        transient=True,
    )


def link_lost(target: Target, why: str) -> DeviceError:
    return DeviceError(
        "link_lost",
        f"the link to {target.wanted} is lost",
        why=why,
        remedy="Bring it near and switch it on; the connection is made anew by itself",
        transient=True,
    )


def link_stuck(target: Target, seconds: float) -> DeviceError:
    return DeviceError(
        "link_stuck",
        f"{target.wanted} takes no commands",
        why=f"the Bluetooth service had not passed one on after {seconds:g} s",
        remedy="The connection is made anew by itself; if this repeats, switch the device off and on",
        transient=True,
    )


def closed(target: Target) -> DeviceError:
    return DeviceError(
        "closed",
        f"the link to {target.wanted} was closed",
        why="the recorder asked for it",
        remedy="Nothing needs to be done",
    )
