"""The command `devices` beside a daemon: what it has is listed and let alone."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from brainforge_edge.cli.demo.children import python
from tests.faults.box import Box, box_in, check_refusal, cli
from tests.faults.own_devices_test import emulate_on_the_network

HAT = ("--link", "serial,network", "--seconds", "0.2")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    with box_in(tmp_path) as made:
        made.device("helmet", "opm")
        made.emulate("helmet", "opm")
        made.device(
            "hat", "accel_hat", port=emulate_on_the_network(made, "hat", "accel_hat", "tcp", 3)
        )
        made.device("gone", "accel_hat", port=made.link("gone"))
        made.write_config()
        made.start()
        made.until_streaming("helmet-mag", 20)
        made.until_streaming("hat-acc1", 20)
        yield made


def listed(box: Box, *arguments: object) -> dict[str, Any]:
    result = cli("devices", *HAT, *arguments, "--json", "--config", box.config)
    assert result.returncode == 0, result.stdout + result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def states(found: dict[str, Any]) -> dict[str, str]:
    return {row["device"] or row["identity"]: row["state"] for row in found["devices"]}


def test_what_the_daemon_has_is_listed_and_not_opened_a_second_time(
    box: Box, tmp_path: Path
) -> None:
    stranger = emulate_on_the_network(box, "stranger", "fnirs", "tcp", 16)
    head = box.stream("hat-acc1")["head"]
    found = listed(box, "--probe", "--at", stranger)
    assert found["troubles"] == []
    assert states(found) == {
        "helmet": "in use",
        "hat": "in use",
        "fnirs:BF-FNIRS-EMU-1": "new",
        "gone": "gone",
    }
    rows = {row["device"]: row for row in found["devices"]}
    assert rows["helmet"]["identity"] == "opm:BF-OPM-EMU-1"
    assert rows["helmet"]["alive"] == "streams"
    assert rows["gone"]["alive"].startswith("no answer: ")
    assert rows["hat"]["link"] == "tcp"
    box.until(lambda: box.stream("hat-acc1")["head"] > head + 500, 20, "rows of the hat")
    assert not box.stream("hat-acc1")["gaps"]
    assert len(box.devices) == 3  # nothing was configured
    assert "fnirs" not in box.config.read_text()
    assert len(box.ask("devices")["configured"]) == 3


def test_without_the_daemon_the_list_rests_on_configuration_and_registry(box: Box) -> None:
    assert box.daemon is not None
    box.end(box.daemon)
    found = listed(box)
    rows = {row["device"]: row for row in found["devices"]}
    assert (rows["hat"]["state"], rows["hat"]["alive"]) == ("configured", "answers")
    assert rows["helmet"]["state"] == "configured"
    assert rows["helmet"]["identity"] == "opm:BF-OPM-EMU-1"  # whom it is bound to
    assert rows["gone"]["state"] == "gone"
    box.end(box.emulators["hat"])
    found = listed(box)
    rows = {row["device"]: row for row in found["devices"]}
    assert rows["hat"]["state"] == "gone"
    assert rows["hat"]["last_seen_ns"] > 0
    assert found["troubles"] == []
    refused = cli("devices", "bind", "hat", "--config", box.config)
    check_refusal(refused, 20, "no daemon answers")


def test_a_list_for_people_and_one_that_goes_on(box: Box) -> None:
    plain = cli("devices", *HAT, "--config", box.config)
    assert plain.returncode == 0
    assert plain.stdout.splitlines()[0].split()[:3] == ["state", "link", "address"]
    assert "in use as helmet" in plain.stdout
    assert "gone: gone" in plain.stdout
    verb = ("devices", *HAT, "--watch", "--config", str(box.config))
    watching = subprocess.Popen(  # a shell's background jobs, and so their children, ignore Ctrl-C
        ["env", "--default-signal=INT", *python("brainforge_edge.cli.main", *verb)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None
    try:
        lines: list[str] = []
        while not any("in use as hat" in line for line in lines):
            lines.append(watching.stdout.readline())
        box.end(box.emulators["hat"])
        until = time.monotonic() + 30
        while not any(line.startswith("- gone: hat") for line in lines):
            assert time.monotonic() < until
            lines.append(watching.stdout.readline())
    finally:
        watching.send_signal(signal.SIGINT)
        assert watching.wait(20) == 130
        watching.stdout.close()


def test_wrong_words_are_a_sentence_each(tmp_path: Path) -> None:
    check_refusal(cli("devices", "--link", "usb"), 2, "'usb' is not a list of serial, ble")
    check_refusal(cli("devices", "--at", "10.0.0.1"), 10, "is no address of a device")
    check_refusal(cli("devices", "bind", "hat", "--run", tmp_path), 20, "no daemon answers")
    check_refusal(cli("devices", "--config", tmp_path / "none"), 10, "there is no such file")
