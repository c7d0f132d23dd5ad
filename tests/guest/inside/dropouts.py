"""A Muse and a Ganglion that lose the link, go away, and with the argument `radio` lose the box's. Runs in: the guest."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from brainforge_edge.devices import ble
from tests.guest.inside.bedside import sh
from tests.guest.inside.bodies import GANGLION
from tests.guest.inside.kept import RUN, Kept, afresh, kept, refusal, say
from tests.guest.inside.radio import Radio, radio

MUSE = "muse1"
PACE = 0.25
LISTEN_S = 2.0
FIND_S = 4.0  # an emulated machine hears within three


def dropped_and_away(air: Radio, devices: dict[str, Kept]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in devices.values():
        air.tell("drop", each.name)
        each.until_lost()
        found[f"{each.name}_back_s"] = each.until_streaming()
    headset = devices[MUSE]
    air.tell("away", headset.name)
    found["said"] = headset.until_error("device.not_found")
    others = devices[GANGLION].rows
    air.tell("back", headset.name)
    found["found_again_s"] = headset.until_streaming()
    found["others_meanwhile"] = devices[GANGLION].rows - others
    return found


def without_radio(air: Radio, devices: dict[str, Kept]) -> dict[str, Any]:
    """Switched off, blocked, without the service; each is refused to a scan too, and comes back."""
    found: dict[str, Any] = {}
    (blocked,) = Path("/sys/class/rfkill").glob("rfkill*/soft")
    steps: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "adapter_off": (lambda: air.power(is_on=False), lambda: air.power(is_on=True)),
        "adapter_blocked": (lambda: blocked.write_text("1"), lambda: blocked.write_text("0")),
        "no_bluetooth": (
            lambda: sh("systemctl", "mask", "--runtime", "--now", "bluetooth"),
            lambda: sh("systemctl", "unmask", "--runtime", "bluetooth"),
        ),
    }
    for code, (take, give_back) in steps.items():
        take()
        found[code] = {
            "said": {name: each.until_error(f"device.{code}") for name, each in devices.items()},
            "scan": refusal(lambda: ble.scan(0.5, run=RUN)),
        }
        give_back()
        if code == "no_bluetooth":
            sh("systemctl", "start", "bluetooth")
        say(code)
        found[code]["back_s"] = [each.until_streaming() for each in devices.values()]
    return found


def main(what: str = "drop") -> dict[str, Any]:
    afresh()
    with radio(f"{MUSE}@{PACE}", f"{GANGLION}@{PACE}") as air:
        with kept(MUSE, GANGLION, pace=PACE, find_s=FIND_S) as devices:
            found: dict[str, Any] = {
                "first_s": [each.until_streaming() for each in devices.values()]
            }
            say("both stream")
            time.sleep(LISTEN_S)
            lose = {"drop": dropped_and_away, "radio": without_radio}[what]
            found[what] = lose(air, devices)
        found["accounts"] = {name: each.account() for name, each in devices.items()}
        found["left"] = air.connected()
    return found


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
