"""A helmet on a real USB cable that is pulled and put back. Runs in: the guest.

Arguments: channels, rate in Hz. Leaves the recordings and the helmet's own account in /out.
"""

import grp
import json
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from brainforge_edge.cli.demo.children import python
from tests.guest.inside.bedside import OUT, Bedside, sh, until
from tests.guest.inside.gadget import DEVICE_SIDE, Gadget

SERIAL = "BF-OPM-0001"
STREAM = "helmet-mag"
RUN_S = 8.0


def main(channels: str, sfreq: str) -> dict[str, Any]:
    box = Bedside()
    gadget = Gadget(serial=SERIAL)
    ledger = box.root / "helmet.json"
    where = ("--port", DEVICE_SIDE, "--ledger", ledger, "--channels", channels, "--sfreq", sfreq)
    emulator = box.children.start(
        "helmet", python("brainforge_edge.cli.main", "emulate", "opm", *map(str, where)), {}
    )
    found: dict[str, Any] = {}
    try:
        until(ledger.exists, 40, "the emulated helmet")
        box.device("helmet", "opm", port=gadget.host_side)
        found["ready_s"] = box.begin()  # the port appears later: DeviceAllow= must know its class
        gadget.plug()
        found["named_s"] = until(gadget.host_side.exists, 10, str(gadget.host_side))
        found["node"] = _node(gadget.host_side)
        found["first_s"] = box.until_streaming(STREAM, 60)
        box.until(lambda: box.stream(STREAM).get("recorded"), 20, "a recording")
        found["rate"] = _rate(box)

        pulled = time.monotonic()
        gadget.pull()
        box.until_lost(STREAM, 10)
        found["lost_s"] = time.monotonic() - pulled
        time.sleep(3.0)
        before = box.stream(STREAM)["head"]
        plugged = time.monotonic()
        gadget.plug()
        emulator.process.send_signal(signal.SIGUSR2)
        box.until(
            lambda: box.is_streaming(STREAM) and box.stream(STREAM)["head"] > before,
            30,
            "samples after the cable was back",
        )
        found["back_s"] = time.monotonic() - plugged
        found["rate_after"] = _rate(box)
        found["stream"] = box.stream(STREAM)
        box.end(emulator)
        box.until_lost(STREAM, 20)
        box.finish()
        shutil.copy(ledger, OUT / "helmet.json")
    finally:
        gadget.pull()
        box.close()
    return found


def _rate(box: Bedside) -> float:
    first, began = _fresh_head(box)
    time.sleep(RUN_S)
    last, ended = _fresh_head(box)
    return (last - first) / (ended - began)


def _fresh_head(box: Bedside) -> tuple[int, float]:
    """When a heartbeat brings another one: what it said before may be a second old."""
    old = box.stream(STREAM)["head"]
    box.until(lambda: box.stream(STREAM)["head"] != old, 10, "a heartbeat")
    return int(box.stream(STREAM)["head"]), time.monotonic()


def _node(port: Path) -> dict[str, Any]:
    state = port.stat()
    properties = dict(
        line.split("=", 1)
        for line in sh("udevadm", "info", "-q", "property", "-n", port).splitlines()
    )
    usb = sh("udevadm", "info", "-q", "property", "-p", _usb_device(port))
    return {
        "target": str(port.resolve()),
        "mode": oct(state.st_mode & 0o777),
        "group": grp.getgrgid(state.st_gid).gr_name,
        "driver": properties.get("ID_USB_DRIVER"),
        "links": properties["DEVLINKS"].split(),
        "tags": properties.get("CURRENT_TAGS", ""),
        "ignored_by_modem_manager": "ID_MM_DEVICE_IGNORE=1" in usb,
    }


def _usb_device(port: Path) -> Path:
    interface = (Path("/sys/class/tty") / port.resolve().name / "device").resolve()
    return interface.parent


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
