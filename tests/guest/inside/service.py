"""The unit itself: ready, watched, resumed. Runs in: the guest, beside the real daemon."""

import json
import os
import re
import signal
import subprocess
import time
from typing import Any

from tests.guest.inside.bedside import UNIT, Bedside, sh, until
from tests.guest.inside.cyton import PORT, STREAM


def main() -> dict[str, Any]:
    box = Bedside()
    found: dict[str, Any] = {"verify": _verify(), "exposure": _exposure()}
    try:
        box.device("cyton", "openbci", port=PORT)
        found["ready_s"] = box.begin()
        found["first_s"] = box.until_streaming(STREAM, 60)
        box.until(lambda: box.stream(STREAM).get("recorded"), 30, "a recording")
        found["state"] = box.property("ActiveState")
        pid = int(box.property("MainPID"))
        found["user"] = sh("stat", "-c", "%U", f"/proc/{pid}").strip()
        found["status"] = box.property("StatusText")
        recording = box.status()["recording"]

        stopped = time.monotonic()
        os.kill(pid, signal.SIGSTOP)
        until(lambda: box.property("MainPID") != str(pid), 20, "systemd's verdict")
        found["ended_s"] = time.monotonic() - stopped
        box.until(lambda: _goes_on(box), 60, "a recording that goes on")
        found["resumed_s"] = time.monotonic() - stopped
        found["restarts"] = int(box.property("NRestarts"))
        found["same_recording"] = box.status()["recording"] == recording
        box.finish()
        found["stopped"] = box.property("Result")
    finally:
        box.close()
    return found


def _goes_on(box: Bedside) -> bool:
    stream = box.stream(STREAM)
    return stream.get("state") == "streaming" and bool(stream.get("recorded"))


def _verify() -> str:
    """What systemd finds wrong with the unit; nothing, if it is right."""
    done = subprocess.run(
        ["systemd-analyze", "verify", UNIT], capture_output=True, text=True, check=False
    )
    said = (done.stdout + done.stderr).splitlines()
    return "\n".join(line for line in said if "brainforge" in line)


def _exposure() -> float:
    text = sh("systemd-analyze", "security", "--no-pager", UNIT)
    found = re.search(r"Overall exposure level for .*: ([0-9.]+)", text)
    assert found is not None, text
    return float(found.group(1))


if __name__ == "__main__":
    print(json.dumps(main()))
