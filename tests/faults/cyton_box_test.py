"""A Cyton through the real daemon: impedance during a recording, and a marker that goes through the board."""

import json
from functools import partial
from pathlib import Path

import pytest

from tests.faults.box import Box, box_in, check_refusal, cli
from tests.opened import parts_of

DEVICE = 11


def _has_one_marker(box: Box, worker: str) -> bool:
    return bool(box.worker(worker)["markers"]["stored"] == 1)


@pytest.mark.slow
def test_impedance_and_marks_of_a_cyton_are_in_its_recording(tmp_path: Path) -> None:
    with box_in(tmp_path) as box:
        box.device("cap", "openbci")
        box.device("net", "openbci")
        box.devices[-1] = box.devices[-1].replace(" }", ", markers = true }")
        box.write_config()
        box.emulate("cap", "cyton", more=("--kohm", "5", "--kohm", "750"))
        box.emulate("net", "cyton")
        box.start()
        box.until_streaming("cap-acc", 20)
        box.until_streaming("net-eeg", 20)
        box.ask("record", name="night")
        refused = cli("device", "cap", "impedance", "--run", box.run)
        check_refusal(refused, DEVICE, "the recording night is open")
        forced = cli(
            "device", "cap", "impedance", "seconds=1", "--force", "--json", "--run", box.run
        )
        assert forced.returncode == 0, forced.stdout + forced.stderr
        contact = json.loads(forced.stdout)["values"]["contact"]
        assert (contact["EEG1"], contact["EEG2"]) == ("good", "open")
        assert cli("mark", "eyes closed", "--run", box.run).returncode == 0
        for name in ("cap", "net"):
            worker = f"acquire:{name}"
            is_stored = partial(_has_one_marker, box, worker)
            box.until(is_stored, 10, f"the marker of {name}")
        box.ask("stop")
        (part,) = parts_of(box.recordings / "night", "cap-eeg")
        account = box.verify()["night"]
    texts = [marker.description for marker in part.markers]
    assert sorted(texts) == ["BAD_impedance", "eyes closed", "net: eyes closed"]
    typed = next(marker for marker in part.markers if marker.description == "eyes closed")
    back = next(marker for marker in part.markers if marker.description == "net: eyes closed")
    assert abs(back.row - typed.row) < 250  # a second
    assert {"cap-eeg", "cap-acc", "net-eeg"} <= set(account)
    assert "net-acc" not in account
