"""Serial ports as udev and the kernel describe them; no port is opened.

Sources: systemd's udev database (/run/udev/data, `E:` properties and `S:` links) where there is one,
else sysfs (Documentation/ABI/testing/sysfs-bus-usb). Runs in: discovery; acquire, before a device is
trusted.
"""

import os
from pathlib import Path
from typing import NamedTuple

_NAMES = ("ttyUSB", "ttyACM", "ttyAMA", "rfcomm")
_MOST_TEXT = 128


class Roots(NamedTuple):
    """Where the system's descriptions lie; tests have their own."""

    sys: Path = Path("/sys")
    udev: Path = Path("/run/udev")
    dev: Path = Path("/dev")


class SerialPort(NamedTuple):
    node: str  # /dev/ttyUSB0
    links: tuple[str, ...]  # names below /dev that lead there, ours first
    vid: str  # hexadecimal, "" where it is no USB device
    pid: str
    serial: str  # of the device or its adapter
    product: str
    manufacturer: str
    kind: str  # what our udev rules call it

    @property
    def path(self) -> str:
        """The most lasting name."""
        return self.links[0] if self.links else self.node


def serial_ports(roots: Roots | None = None) -> list[SerialPort]:
    """Every serial port that something may be plugged into, by node."""
    roots = roots or Roots()
    try:
        names = sorted(entry.name for entry in (roots.sys / "class" / "tty").iterdir())
    except OSError:
        return []
    return [_port(name, roots) for name in names if name.startswith(_NAMES)]


def port_at(path: str, roots: Roots | None = None) -> SerialPort | None:
    """The port that `path` leads to; None for a network address, a pseudo-terminal, nothing."""
    roots = roots or Roots()
    name = Path(os.path.realpath(path)).name
    if not path or "://" in path:
        return None
    try:
        (roots.sys / "class" / "tty" / name / "device").stat()
    except OSError:
        return None
    return _port(name, roots)


def _port(name: str, roots: Roots) -> SerialPort:
    folder = roots.sys / "class" / "tty" / name
    properties, links = _database(roots.udev / "data" / f"c{_text(folder / 'dev')}")
    usb = _usb_device(folder / "device")

    def either(key: str, attribute: str) -> str:
        return properties.get(key) or (_text(usb / attribute) if usb is not None else "")

    return SerialPort(
        node=str(roots.dev / name),
        links=tuple(str(roots.dev / link) for link in sorted(links, key=_lasting)),
        vid=either("ID_VENDOR_ID", "idVendor").lower(),
        pid=either("ID_MODEL_ID", "idProduct").lower(),
        serial=either("ID_SERIAL_SHORT", "serial"),
        product=_plain(properties.get("ID_MODEL", "")) or either("ID_MODEL", "product"),
        manufacturer=_plain(properties.get("ID_VENDOR", "")) or either("", "manufacturer"),
        kind=properties.get("BRAINFORGE_KIND", ""),
    )


def _database(path: Path) -> tuple[dict[str, str], list[str]]:
    properties: dict[str, str] = {}
    links: list[str] = []
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}, []
    for line in lines:
        if line.startswith("E:"):
            key, _, value = line[2:].partition("=")
            properties[key] = _clean(value)
        elif line.startswith("S:"):
            links.append(line[2:])
    return properties, links


def _usb_device(interface: Path) -> Path | None:
    """The folder above a tty's interface that holds the USB descriptor."""
    try:
        folder = interface.resolve(strict=True)
    except OSError:
        return None
    return next((each for each in (folder, *folder.parents) if (each / "idVendor").exists()), None)


def _lasting(link: str) -> tuple[int, str]:
    order = ("brainforge/by-path/", "brainforge/", "serial/by-id/", "serial/by-path/")
    place = {"brainforge/": 0, "serial/by-id/": 1, "brainforge/by-path/": 2, "serial/by-path/": 3}
    return next((place[start] for start in order if link.startswith(start)), 4), link


def _text(path: Path) -> str:
    try:
        return _clean(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return ""


def _clean(text: str) -> str:
    return "".join(c for c in text.strip() if c.isprintable())[:_MOST_TEXT]


def _plain(text: str) -> str:
    """udev writes words with `_` between them."""
    return text.replace("_", " ")
