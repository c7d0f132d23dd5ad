"""Five headsets near one box: a scan, two of one name, four at once. Runs in: the guest."""

import json
import time
from typing import Any

from brainforge_edge.devices import ble
from tests.guest.inside.bodies import name_of
from tests.guest.inside.kept import RUN, afresh, kept, make_driver, refusal, say
from tests.guest.inside.radio import radio

# 120 notifications a second of one Muse at its own speed are more than an emulated machine carries.
PACE = 0.125
FOUR = ("muse1", "muse2", "muse3", "muse4")
NAMESAKE = "muse5"
LISTEN_S = 6.0


def ambiguous() -> dict[str, str]:
    driver = make_driver(NAMESAKE, pace=PACE, address="", name=name_of(NAMESAKE))
    try:
        return refusal(driver.open)
    finally:
        driver.close()


def main() -> dict[str, Any]:
    afresh()
    with radio(*(f"{each}@{PACE}" for each in (*FOUR, NAMESAKE))) as air:
        found: dict[str, Any] = {
            "scan": {each.address: each.name for each in ble.scan(3.0, run=RUN)},
            "ambiguous": ambiguous(),
        }
        say("scanned")
        air.tell("away", NAMESAKE)
        with kept(*FOUR, pace=PACE) as devices:
            found["first_s"] = [each.until_streaming() for each in devices.values()]
            say("four stream")
            time.sleep(LISTEN_S)
            found["connected"] = air.connected()
        found["accounts"] = {name: each.account() for name, each in devices.items()}
        found["left"] = air.connected()
        found["last_commands"] = [air.tell("look", name)["commands"][-1] for name in FOUR]
    return found


if __name__ == "__main__":
    print(json.dumps(main()))
