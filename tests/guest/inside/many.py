"""Six headsets near one box: a scan, two of one name, five at once, two that lose the link. Runs in: the guest."""

import json
import time
from typing import Any

from brainforge_edge.devices import ble
from tests.guest.inside.bodies import GANGLION, name_of
from tests.guest.inside.kept import RUN, afresh, kept, make_driver, refusal, say
from tests.guest.inside.radio import radio

# 120 notifications a second of one Muse at its own speed are more than an emulated machine carries.
PACE = 0.125
FOUR = ("muse1", "muse2", "muse3", "muse4")
NAMESAKE = "muse5"
DROPPED = ("muse1", GANGLION)
LISTEN_S = 4.0


def ambiguous() -> dict[str, str]:
    driver = make_driver(NAMESAKE, pace=PACE, address="", name=name_of(NAMESAKE))
    try:
        return refusal(driver.open)
    finally:
        driver.close()


def main() -> dict[str, Any]:
    afresh()
    with radio(*(f"{each}@{PACE}" for each in (*FOUR, NAMESAKE, GANGLION))) as air:
        found: dict[str, Any] = {
            "scan": {each.address: each.name for each in ble.scan(3.0, run=RUN)},
            "ambiguous": ambiguous(),
        }
        say("scanned")
        air.tell("away", NAMESAKE)
        with kept(*FOUR, GANGLION, pace=PACE) as devices:
            found["first_s"] = [each.until_streaming() for each in devices.values()]
            say("all stream")
            time.sleep(LISTEN_S)
            found["back_s"] = {}
            for name in DROPPED:
                air.tell("drop", name)
                devices[name].until_lost()
                found["back_s"][name] = devices[name].until_streaming()
            found["connected"] = air.connected()
        found["accounts"] = {name: each.account() for name, each in devices.items()}
        found["left"] = air.connected()
        found["last_commands"] = [air.tell("look", name)["commands"][-1] for name in FOUR]
    return found


if __name__ == "__main__":
    print(json.dumps(main()))
