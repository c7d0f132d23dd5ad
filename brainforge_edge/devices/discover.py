"""What is in reach: serial ports, Bluetooth, LSL, and devices of ours at known network addresses.

Looks, and changes nothing: nothing is added to the configuration or bound to a name, no address is
asked that was not given, and a serial port is opened only where `probe` says so (opening toggles DTR).
Blocks. Runs in: the command line, its main thread and one for each link.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from brainforge_edge.core.clock import Clock
from brainforge_edge.core.errors import BrainforgeError, ConfigError, DeviceError
from brainforge_edge.core.identity import identity_of
from brainforge_edge.core.stream import DeviceInfo
from brainforge_edge.devices.ble_adapter import AdapterLock
from brainforge_edge.devices.network import parse, places
from brainforge_edge.devices.probe import Answer, ask
from brainforge_edge.devices.sighting import Sighting
from brainforge_edge.devices.udev import Roots, SerialPort, serial_ports

if TYPE_CHECKING:
    from brainforge_edge.devices.ble import Backend

LINKS = ("serial", "ble", "lsl", "network")
_OURS = {"bf01": "opm", "bf02": "fnirs", "bf03": "accel_hat"}  # USB products of vendor 1209
_RULES = {"opm": "opm", "fnirs": "fnirs", "accel": "accel_hat", "ftdi": "openbci"}  # udev/
_FTDI = {("0403", "6001"), ("0403", "6015")}


class Search(NamedTuple):
    """What is looked for, for how long, and what is let alone."""

    seconds: float = 5.0  # Bluetooth and LSL listen this long
    links: tuple[str, ...] = LINKS
    addresses: tuple[str, ...] = ()  # tcp://host:port, udp://host:port
    probe: bool = False  # open serial ports that nobody uses, to ask who is there
    in_use: frozenset[str] = frozenset()  # ports and addresses of the daemon: never opened here
    run: Path | None = None  # the node's run folder: a scan waits while its workers connect


class Look(NamedTuple):
    sightings: list[Sighting]
    troubles: list[BrainforgeError]  # a link that could not be searched; the others were


def look(
    search: Search,
    *,
    clock: Clock,
    roots: Roots | None = None,
    backend: "Backend | None" = None,
) -> Look:
    """Search each link at the same time. Never raises a BrainforgeError: those are `troubles`."""
    searches: dict[str, Callable[[], Look]] = {
        "serial": lambda: _serial(search, clock, roots or Roots()),
        "ble": lambda: Look(_ble(search, backend), []),
        "lsl": lambda: Look(_lsl(search), []),
        "network": lambda: _network(search, clock),
    }
    wanted = [searches[link] for link in LINKS if link in search.links]
    with ThreadPoolExecutor(max_workers=len(LINKS)) as pool:
        looks = list(pool.map(_guarded, wanted))
    return Look(
        [s for one in looks for s in one.sightings], [t for one in looks for t in one.troubles]
    )


def guess(port: SerialPort) -> tuple[str, str]:
    """(kind, what that rests on) of a port that was not opened; ("", …) where nothing says."""
    usb = f"USB {port.vid}:{port.pid}"
    if port.vid == "1209" and port.pid in _OURS:
        return _OURS[port.pid], usb
    if port.kind in _RULES and port.kind != "ftdi":
        return _RULES[port.kind], "udev rule"
    if port.kind == "ftdi" or (port.vid, port.pid) in _FTDI:
        return "openbci", f"an adapter as an OpenBCI dongle has ({usb})"
    return "", usb if port.vid else "a port without a USB description"


def _guarded(search: Callable[[], Look]) -> Look:
    try:
        return search()
    except BrainforgeError as error:
        return Look([], [error])
    except ModuleNotFoundError as error:
        missing = ConfigError(
            "missing_package",
            "one link was not searched",
            why=f"the package {error.name!r} is not installed",
            remedy="Install the extra edge (brainforge_edge/docs/dependencies.md)",
        )
        return Look([], [missing])


def _serial(search: Search, clock: Clock, roots: Roots) -> Look:
    sightings: list[Sighting] = []
    troubles: list[BrainforgeError] = []
    used = {os.path.realpath(port) for port in search.in_use if "://" not in port}
    for port in serial_ports(roots):
        seen = _seen(port)
        if search.probe and os.path.realpath(port.node) not in used:
            try:
                seen = seen.answered(ask(port.path, seen.kind, clock=clock))
            except DeviceError as error:
                seen = seen.silent(error)
                if error.code == "device.permission":
                    troubles.append(error)
        sightings.append(seen)
    return Look(sightings, troubles)


def _seen(port: SerialPort) -> Sighting:
    kind, basis = guess(port)
    own = kind if kind in _OURS.values() else ""
    identity = ""
    if port.serial:
        identity = (
            identity_of(own, DeviceInfo(own, port.serial), place="")
            if own
            else identity_of(kind or "usb", None, place="", adapter_serial=port.serial)
        )
    return Sighting(
        link="serial",
        address=port.path,
        node=port.node,
        kind=kind,
        basis=basis,
        identity=identity,
        name=" ".join(filter(None, (port.manufacturer, port.product))),
        alive="plugged in",
        detail={
            key: value
            for key, value in (
                ("vid", port.vid), ("pid", port.pid), ("serial", port.serial),
                ("links", " ".join(port.links)),
            )
            if value
        },
    )  # fmt: skip


def _ble(search: Search, backend: "Backend | None") -> list[Sighting]:
    from brainforge_edge.devices import ble, ganglion, muse  # noqa: PLC0415  bleak on use

    words = {
        "muse": (("Muse",), muse.SERVICE),
        "ganglion": (("Ganglion", "Simblee"), ganglion.SERVICE),
    }
    sightings = []
    for found in ble.scan(search.seconds, run=_lockable(search.run), backend=backend):
        kind, basis = "", "nothing that is known"
        for each, (prefixes, service) in words.items():
            if found.name.startswith(prefixes):
                kind, basis = each, f"its name, {found.name}"
            elif service in found.services:
                kind, basis = each, f"its service, {service[4:8]}"
        address = DeviceInfo("", address=found.address)
        sightings.append(
            Sighting(
                link="ble",
                address=found.address,
                kind=kind,
                basis=basis,
                identity=identity_of(kind or "ble", address, place=""),
                name=found.name,
                rssi_dbm=found.rssi,
                alive="advertises",
                detail={"adapter": found.adapter} if found.adapter else {},
            )
        )
    return sightings


def _lockable(run: Path | None) -> Path | None:
    """None where no worker has made the adapter's lock and this user may not make it."""
    path = AdapterLock(run).path
    if run is None or path is None or os.access(run, os.W_OK) or os.access(path, os.R_OK):
        return run
    return None


def _lsl(search: Search) -> list[Sighting]:
    from brainforge_edge.devices import lsl  # noqa: PLC0415  pylsl on use

    return [_stream(found) for found in lsl.discover(search.seconds)]


def _stream(found: dict[str, Any]) -> Sighting:
    info = DeviceInfo(found["name"], found["source_id"])
    return Sighting(
        link="lsl",
        address=found["hostname"],
        kind="lsl",
        basis=f"LSL, type {found['type'] or 'not said'}",
        identity=identity_of("lsl", info, place=found["name"]),
        name=found["name"],
        alive="answers",
        detail={
            key: str(found[key])
            for key in ("type", "source_id", "channels", "rate", "format")
            if found[key] != ""
        },
    )


def _network(search: Search, clock: Clock) -> Look:
    """Only what was given is asked: no broadcast, no range of addresses."""
    used: set[tuple[str, str, int]] = set()
    for port in search.in_use:
        with suppress(ConfigError):  # its own worker tells
            used |= places(port)
    asked = list(dict.fromkeys(search.addresses))
    if not asked:
        return Look([], [])
    with ThreadPoolExecutor(max_workers=min(8, len(asked))) as pool:
        looks = list(
            pool.map(lambda address: _guarded(lambda: _asked(address, used, clock)), asked)
        )
    return Look(
        [s for one in looks for s in one.sightings], [t for one in looks for t in one.troubles]
    )


def _asked(address: str, used: set[tuple[str, str, int]], clock: Clock) -> Look:
    link, _, _ = parse(address)
    if places(address) & used:
        return Look([], [])
    try:
        answer: Answer = ask(address, "", clock=clock)
    except DeviceError as error:
        raise _silent(address, error) from error
    seen = Sighting(link=link, address=address, kind="", basis="", identity="", alive="")
    return Look([seen.answered(answer)], [])


def _silent(address: str, error: DeviceError) -> DeviceError:
    """The same for a person who gave an address: the remedies of `error` are those of a running box."""
    is_told = error.code == "device.no_answer" or address in error.what
    return DeviceError(
        error.code.partition(".")[2],
        f"no device of ours answers at {address}",
        why=error.why if is_told else f"{error.what}, {error.why}",
        remedy="Check the address given with --at, and that its device is switched on and free",
        transient=error.transient,
        port=address,
    )
