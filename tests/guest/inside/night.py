"""The whole box with a Muse: streams, records, loses its worker, ends. Runs in: the guest."""

import json
import os
import signal
import time
from typing import Any

from tests.guest.inside.bedside import Bedside
from tests.guest.inside.bodies import address_of
from tests.guest.inside.kept import say
from tests.guest.inside.radio import radio

MUSE = "muse1"
SPEED = "@0.25"
STREAM = "muse-eeg"
LISTEN_S = 3.0
MOST_S = 120.0


def main() -> dict[str, Any]:
    with radio(MUSE + SPEED) as air:
        box = Bedside()
        box.devices.append(
            '[[device]]\nname = "muse"\nkind = "muse"\n'
            f'settings = {{ address = "{address_of(MUSE)}", silent_s = 20.0 }}\n'
        )
        try:
            found: dict[str, Any] = {"ready_s": box.begin()}
            found["first_s"] = box.until_streaming(STREAM, MOST_S)
            box.until(lambda: box.stream(STREAM).get("recorded"), MOST_S, "a recording")
            say("recorded")
            time.sleep(LISTEN_S)
            found["connected"] = air.connected()

            killed, worker = time.monotonic(), box.worker("acquire:muse")["pid"]
            before = box.stream(STREAM)["head"]
            os.kill(worker, signal.SIGKILL)
            box.until(lambda: box.worker("acquire:muse")["pid"] != worker, MOST_S, "another worker")
            found["left_by_the_killed"] = air.connected()
            box.until(lambda: _goes_on(box, before), MOST_S, "samples after the worker was killed")
            found["back_s"] = time.monotonic() - killed
            say("back")
            time.sleep(LISTEN_S)
            found["status"] = box.worker("acquire:muse")
            box.finish()
        finally:
            box.close()
        found["left"] = air.connected()
        found.update({key: air.tell("look", MUSE)[key] for key in ("commands", "runs")})
    return found


def _goes_on(box: Bedside, before: int) -> bool:
    return box.is_streaming(STREAM) and box.stream(STREAM)["head"] > before + 24


if __name__ == "__main__":
    print(json.dumps(main()))
