"""A Cyton behind a real FTDI driver; the board itself plays on the host. Runs in: the guest."""

import json
import time
from pathlib import Path
from typing import Any

from tests.guest.inside.bedside import Bedside, sh

PORT = Path("/dev/brainforge/ftdi-DM0TEST1")
STREAM = "cyton-eeg"
RUN_S = 6.0


def main() -> dict[str, Any]:
    box = Bedside()
    found: dict[str, Any] = {
        "target": str(PORT.resolve()),
        "mode": oct(PORT.stat().st_mode & 0o777),
    }
    adapter = Path("/sys/bus/usb-serial/devices") / PORT.resolve().name
    timer = adapter / "latency_timer"
    timer.write_text("16")
    sh("udevadm", "trigger", "--settle", "--action=add", adapter)
    found["latency_ms"] = int(timer.read_text())
    try:
        found["new"] = [row for row in box.listed() if row["address"] == str(PORT)]
        box.device("cyton", "openbci", port=PORT)
        box.begin()
        box.until_streaming(STREAM, 60)
        box.until(lambda: box.stream(STREAM).get("recorded"), 30, "a recording")
        first, at = box.stream(STREAM)["head"], time.monotonic()
        time.sleep(RUN_S)
        found["rate"] = (box.stream(STREAM)["head"] - first) / (time.monotonic() - at)
        found["listed"] = [row for row in box.listed() if row["device"] == "cyton"]
        box.finish()
    finally:
        box.close()
    return found


if __name__ == "__main__":
    print(json.dumps(main()))
