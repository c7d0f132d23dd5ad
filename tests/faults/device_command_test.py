"""Commands for devices, from the command line to the device and back, through the real daemon."""

import json
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from brainforge_edge.cli.demo.children import python
from brainforge_edge.core.errors import BrainforgeError
from tests.faults.box import Box, box_in, check_refusal, cli

DEVICE = 11


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A helmet that needs 4 s for its start-up and a Cyton."""
    with box_in(tmp_path_factory.mktemp("box")) as made:
        made.device("helmet", "opm")
        made.device("cap", "openbci")
        made.write_config()
        made.emulate("helmet", "opm", more=("--startup-s", "4"))
        made.emulate("cap", "cyton")
        made.start()
        made.until_streaming("helmet-mag", 20)
        made.until_streaming("cap-eeg", 20)
        yield made


def command(box: Box, *words: str) -> "subprocess.CompletedProcess[str]":
    return cli("device", *words, "--run", box.run)


def until_ready(box: Box) -> None:
    box.until(lambda: figures(box).get("state") == "ready", 15, "the helmet's end of its work")


def figures(box: Box) -> dict[str, Any]:
    told: dict[str, Any] = box.worker("acquire:helmet").get("device") or {}
    return told


def markers(box: Box) -> dict[str, int]:
    told: dict[str, int] = box.worker("acquire:helmet")["markers"]
    return told


def test_a_helmet_is_zeroed_and_the_answer_tells_how_it_ended(box: Box) -> None:
    until_ready(box)
    result = command(box, "helmet", "zero", "wait_s=10", 'channels=["OPM001"]', "--json")
    assert result.returncode == 0, result.stdout + result.stderr
    assert json.loads(result.stdout)["values"] == {"state": "ready", "passed": True}
    log = "".join(path.read_text() for path in box.logs.glob("daemon-*"))
    for state in ("coarse_zero", "fine_zero"):
        assert f'"state":"{state}"' in log.replace(" ", "")


def test_figures_of_a_device_are_in_the_status(box: Box) -> None:
    box.until(lambda: "bias_us" in figures(box), 10, "a round trip")
    told = figures(box)
    assert told["supply_v"] == 5.0
    assert told["temperature_c"] == 31.0
    assert told["fifo_level"] >= 0
    assert len(told["residual_pt"]) == 8


def test_a_self_test_is_told_for_people(box: Box) -> None:
    until_ready(box)
    result = command(box, "helmet", "self_test", "seconds=0.2", "signal=prbs31")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.startswith("helmet: self_test done\n")
    assert "passed: true" in result.stdout


def test_what_a_device_cannot_do_is_refused_in_one_sentence(box: Box) -> None:
    check_refusal(command(box, "cap", "zero"), DEVICE, "cap cannot do 'zero'")
    check_refusal(command(box, "helmet", "impedance"), DEVICE, "helmet cannot do 'impedance'")
    check_refusal(command(box, "helmet", "zero", "wait_s=soon"), DEVICE, "wait_s must be")
    check_refusal(command(box, "hat", "zero"), 10, "this box has cap, helmet")
    check_refusal(command(box, "helmet", "zero", "force"), 2, "KEY=VALUE")


def test_zeroing_is_refused_while_recording_unless_it_is_forced(box: Box) -> None:
    until_ready(box)
    before = markers(box)["stored"]
    box.ask("record", name="night")
    check_refusal(command(box, "helmet", "zero"), DEVICE, "the recording night is open")
    forced = command(box, "helmet", "zero", "--force", "wait_s=10")
    assert forced.returncode == 0, forced.stderr
    box.until(lambda: markers(box)["stored"] == before + 1, 10, "the marker BAD_zeroing")
    box.ask("stop")
    (span,) = box.verify()["night"]["helmet-mag"]["spans"]  # samples flowed on, without a gap
    assert span[2] - span[1] > 1000


def test_one_command_at_a_time_and_none_is_waited_for_longer_than_said(box: Box) -> None:
    until_ready(box)
    slow = subprocess.Popen(
        python(
            "brainforge_edge.cli.main",
            "device",
            "helmet",
            "zero",
            "wait_s=20",
            "--run",
            str(box.run),
        ),
        stdout=subprocess.DEVNULL,
    )
    box.until(lambda: figures(box).get("state") != "ready", 10, "the begin of zeroing")
    check_refusal(command(box, "helmet", "self_test"), DEVICE, "at work on another command")
    assert slow.wait(20) == 0
    late = command(box, "helmet", "zero", "wait_s=20", "--timeout", "0.3")
    check_refusal(late, DEVICE, "no answer came within 0.3 s")
    box.until(lambda: figures(box).get("state") != "ready", 10, "the begin of zeroing")
    until_ready(box)


def test_a_request_that_makes_no_sense_is_refused(box: Box) -> None:
    for fields in ({"device": 3}, {"device": "helmet", "arguments": [1]}, {"timeout": -1}, {}):
        with pytest.raises(BrainforgeError) as caught:
            box.ask("command", **fields)
        assert caught.value.code in {"config.bad_argument", "config.unknown_device"}


def test_a_device_that_is_unplugged_or_whose_process_ends_answers_with_that(box: Box) -> None:
    until_ready(box)
    box.signal("cap", signal.SIGUSR1)
    box.until_lost("cap-eeg", 10)
    check_refusal(command(box, "cap", "zero"), DEVICE, "is not connected")
    slow = subprocess.Popen(
        python(
            "brainforge_edge.cli.main",
            "device",
            "helmet",
            "zero",
            "wait_s=20",
            "--run",
            str(box.run),
        ),
        stderr=subprocess.PIPE,
        text=True,
    )
    box.until(lambda: figures(box).get("state") != "ready", 10, "the begin of zeroing")
    pid = box.worker("acquire:helmet")["pid"]
    subprocess.run(["kill", "-KILL", str(pid)], check=True)
    _, said = slow.communicate(timeout=30)
    assert slow.returncode == DEVICE
    assert "its process ended meanwhile" in said
    box.until_streaming("helmet-mag", 20)
    box.signal("cap", signal.SIGUSR2)
    box.until_streaming("cap-eeg", 20)
