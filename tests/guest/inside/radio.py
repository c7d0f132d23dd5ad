"""Real BlueZ with a virtual controller: another process plays the air, everything else is the box's.

Runs in: the guest.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.guest.inside.bedside import sh, until

_BLUEZ = ("busctl", "--json=short")
_ADAPTER = ("org.bluez", "/org/bluez/hci0", "org.bluez.Adapter1")
# The kernel's own cryptography, which BlueZ asks for as soon as an adapter is there.
_MODULES = ("hci_vhci", "algif_hash", "algif_skcipher", "cmac", "ecb", "ccm", "ecdh_generic")


class Radio:
    """The devices on the air, and what BlueZ knows of them."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def tell(self, verb: str, name: str) -> dict[str, Any]:
        """`drop` the link, be `away`, come `back`, fall into `silence`, or `look`; how it is then."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{verb} {name}\n")
        stdin.flush()
        answer: dict[str, Any] = json.loads(stdout.readline())
        return answer

    def power(self, *, is_on: bool) -> None:
        _power(is_on=is_on)

    def connected(self) -> list[str]:
        """Addresses of the devices that BlueZ says are connected."""
        get = ("call", "org.bluez", "/", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")
        objects = json.loads(sh(*_BLUEZ, *get))["data"][0]
        devices = [
            interfaces["org.bluez.Device1"]
            for interfaces in objects.values()
            if "org.bluez.Device1" in interfaces
        ]
        return sorted(d["Address"]["data"] for d in devices if d["Connected"]["data"])


@contextmanager
def radio(*names: str) -> Iterator[Radio]:
    """An adapter that is powered, and these devices (see `headsets`) on the other side of the air."""
    # Makes /sys/class/bluetooth too, without which the service does not start.
    sh("modprobe", "--all", *_MODULES)
    sh("systemctl", "start", "dbus", "bluetooth")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.guest.inside.headsets", *names],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        until(Path("/sys/class/bluetooth/hci0").exists, 180, "the virtual controller")
        until(_has_power, 60, "BlueZ's adapter")
        yield Radio(process)
    finally:
        process.kill()
        process.wait(20)
        until(lambda: not Path("/sys/class/bluetooth/hci0").exists(), 20, "the controller's end")


def _has_power() -> bool:
    try:
        _power(is_on=True)
    except AssertionError:
        return False
    return True


def _power(*, is_on: bool) -> None:
    sh("busctl", "set-property", *_ADAPTER, "Powered", "b", str(is_on).lower())
