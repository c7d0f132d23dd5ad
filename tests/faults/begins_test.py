"""A recording's first gap reaches back to its own beginning, and devices of which nothing came are named."""

import time
from pathlib import Path

from tests.faults.box import box_in, cli

LATE_S = 2.0


def test_a_device_that_comes_late_has_a_gap_since_the_recording_began(tmp_path: Path) -> None:
    with box_in(tmp_path) as box:
        for name in ("steady", "late", "never"):
            box.device(name, "openbci" if name == "steady" else "accel_hat")
        box.write_config(recording="preroll_s = 2.0")
        box.emulate("steady", "cyton")
        box.emulate("late", "accel_hat", channels=3)
        box.start()
        box.until_streaming("late-acc1", 20)
        box.quiet("late-acc1")
        time.sleep(3.0)  # longer than the preroll
        box.ask("record", name="one")
        box.until(lambda: box.stream("steady-eeg").get("recorded"), 20, "the recording")
        began = time.monotonic()
        time.sleep(LATE_S)
        box.emulate("late", "accel_hat", channels=3)
        box.until(lambda: box.stream("late-acc1").get("recorded"), 20, "rows of the late device")
        waited_s = time.monotonic() - began
        box.ask("stop")
        (gap,) = box.verify()["one"]["late-acc1"]["gaps"]
        said = cli("verify", box.recordings / "one").stdout
    assert LATE_S * 1000 - gap["plus_minus"] < gap["n"] < (waited_s + 1.5) * 1000
    assert gap["basis"] == "clock"
    assert "nothing came of: never" in said
    assert "late" not in said.partition("nothing came of")[2].splitlines()[0]
