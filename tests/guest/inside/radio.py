"""Real BlueZ with a virtual controller: `peripherals` plays the air, everything else is the box's.

Runs in: the guest. The peripherals are a process of their own, since bumble is busy with each packet.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.guest.inside.bedside import sh, until

ADAPTER = "/org/bluez/hci0"


@contextmanager
def radio(peripherals: str, *arguments: str) -> "Iterator[subprocess.Popen[bytes]]":
    """An adapter that is powered, and `python -m peripherals` on the other side of the air."""
    sh(
        "modprobe", "hci_vhci"
    )  # makes /sys/class/bluetooth, without which the service does not start
    sh("systemctl", "start", "dbus", "bluetooth")
    process = subprocess.Popen(
        [sys.executable, "-m", peripherals, *arguments], stdin=subprocess.DEVNULL, stdout=sys.stderr
    )
    try:
        until(Path("/sys/class/bluetooth/hci0").exists, 40, "the virtual controller")
        until(lambda: _bluez("get-property", "Powered"), 20, "BlueZ's adapter")
        until(lambda: _bluez("set-property", "Powered", "b", "true"), 20, "power for the adapter")
        yield process
    finally:
        process.terminate()
        process.wait(20)


def _bluez(verb: str, *what: str) -> bool:
    command = ["busctl", verb, "org.bluez", ADAPTER, "org.bluez.Adapter1", *what]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
