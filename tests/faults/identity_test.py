"""Another device at a port that has an owner: refused, no row of it enters, until a person binds it."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from brainforge_edge.core.errors import BrainforgeError, ConfigError, DeviceError
from brainforge_edge.fleet.registry import read_devices
from tests.faults.box import Box, box_in, check_refusal, cli, n_rows

OLD, NEW = "accel_hat:HAT-1", "accel_hat:HAT-2"


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    with box_in(tmp_path) as made:
        made.device("helmet", "opm")
        made.device("hat", "accel_hat")
        made.write_config()
        made.emulate("helmet", "opm")
        put_hat(made, "HAT-1")
        made.start()
        made.until_streaming("helmet-mag", 20)
        made.until_streaming("hat-acc1", 20)
        yield made


def put_hat(box: Box, serial_number: str) -> None:
    box.emulate("hat", "accel_hat", channels=3, more=("--serial-number", serial_number))


def error_of(box: Box, name: str) -> dict[str, Any]:
    return box.worker(f"acquire:{name}").get("error") or {}


def until_refused(box: Box, code: str = "device.new_identity") -> dict[str, Any]:
    box.until(lambda: error_of(box, "hat").get("code") == code, 20, code)
    return error_of(box, "hat")


def swap(box: Box, serial_number: str) -> None:
    box.end(box.emulators["hat"])
    box.until(lambda: not box.link("hat").is_symlink(), 10, "the end of the port")
    put_hat(box, serial_number)


def kill_agent(box: Box) -> None:
    pid = box.worker("agent")["pid"]
    os.kill(pid, signal.SIGKILL)
    box.until(lambda: box.worker("agent").get("pid") != pid, 10, "the end of the agent")


def known(box: Box) -> dict[str, dict[str, Any]]:
    return {device["identity"]: device for device in read_devices(box.root / "box")}


def devices(box: Box, *arguments: str) -> dict[str, Any]:
    result = cli("devices", *arguments, "--json", "--run", box.run)
    assert result.returncode == 0, result.stdout + result.stderr
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def test_another_device_at_the_port_is_refused_until_a_person_binds_it(box: Box) -> None:
    box.ask("record", name="night")
    box.until(lambda: box.stream("hat-acc1")["recorded"] > 500, 20, "rows of the hat")
    kill_agent(box)
    swap(box, "HAT-2")
    refused = until_refused(box)
    assert refused["facts"] == {"expected": OLD, "answered": NEW}
    assert "brainforge-edge devices bind hat" in refused["remedy"]
    head = box.stream("hat-acc1")["head"]
    helmet = box.stream("helmet-mag")["recorded"]
    box.until(lambda: box.stream("helmet-mag")["recorded"] > helmet + 3000, 20, "rows beside it")
    assert box.stream("hat-acc1")["head"] == head
    assert error_of(box, "hat")["code"] == "device.new_identity"
    kill_agent(box)
    assert devices(box, "bind", "hat") == {
        "ok": True,
        "device": "hat",
        "identity": NEW,
        "before": OLD,
    }
    box.until(lambda: box.stream("hat-acc1").get("head", 0) > head + 500, 20, "rows of the new hat")
    box.ask("stop")
    account = box.verify()
    assert not account["night"]["helmet-mag"]["gaps"]
    assert len(account["night"]["helmet-mag"]["spans"]) == 1
    assert n_rows(account, "helmet-mag") >= helmet + 3000
    assert len(account["night"]["hat-acc1"]["spans"]) == 2  # a run of each
    assert {key: (row["name"], row["pairing"]) for key, row in known(box).items()} == {
        "opm:BF-OPM-EMU-1": ("helmet", "bound"),
        OLD: ("hat", "known"),
        NEW: ("hat", "bound"),
    }


def test_the_old_one_is_welcome_at_once_and_a_binding_outlives_the_daemon(box: Box) -> None:
    swap(box, "HAT-2")
    until_refused(box)
    box.until(lambda: known(box).get(NEW, {}).get("pairing") == "refused", 10, "the registry")
    head = box.stream("hat-acc1")["head"]
    assert box.daemon is not None
    box.end(box.daemon)
    box.start()
    until_refused(box)
    assert box.stream("hat-acc1")["head"] == head  # of the ring that was kept
    swap(box, "HAT-1")
    box.until_streaming("hat-acc1", 20)
    box.until(lambda: known(box)[OLD]["times_connected"] >= 2, 10, "the registry")
    with pytest.raises(BrainforgeError):
        box.ask("bind", device="nobody")


def test_who_was_bound_while_the_agent_was_away_is_remembered(box: Box) -> None:
    for _ in range(3):
        box.ask("forget", device="hat")
        kill_agent(box)
        swap(box, "HAT-2")
        box.until_streaming("hat-acc1", 20)
    box.until(lambda: known(box).get(NEW, {}).get("pairing") == "bound", 20, "the registry")


def test_a_person_frees_names_and_gives_aliases(box: Box) -> None:
    assert devices(box, "alias", OLD, "the blue one")["identity"] == OLD
    assert known(box)[OLD]["alias"] == "the blue one"
    assert devices(box, "forget", "the blue one") == {
        "ok": True, "forgotten": [OLD], "freed": ["hat"]
    }  # fmt: skip
    swap(box, "HAT-2")  # the first that answers is the person's word again
    box.until_streaming("hat-acc1", 20)
    box.until(lambda: NEW in known(box), 10, "the registry")
    with pytest.raises(ConfigError, match="there is no one device 'HAT-9'"):
        box.ask("forget", device="HAT-9")
    with pytest.raises(DeviceError, match="bound to hat"):
        box.ask("bind", device="helmet", identity=NEW)
    asked = cli("devices", "bind", "helmet", "--identity", NEW, "--run", box.run)
    check_refusal(asked, 11, "is bound to hat", "devices forget hat")
    asked = cli("devices", "forget", "HAT-9", "--run", box.run)
    check_refusal(asked, 10, "there is no one device")


def test_a_device_that_is_bound_to_another_parts_with_the_one_it_has(box: Box) -> None:
    box.ask("bind", device="hat", identity=NEW)
    assert until_refused(box)["facts"]["expected"] == NEW
    assert not box.is_streaming("hat-acc1")
    box.ask("bind", device="hat")
    box.until_streaming("hat-acc1", 20)


def test_one_device_under_two_names_has_one_of_them(tmp_path: Path) -> None:
    with box_in(tmp_path) as box:
        for name in ("left", "right"):
            box.device(name, "accel_hat")
            box.emulate(name, "accel_hat", channels=3, more=("--serial-number", "HAT-1"))
        box.write_config()
        box.start()
        names = ("left", "right")

        def refused() -> list[str]:
            taken = "device.identity_taken"
            return [name for name in names if error_of(box, name).get("code") == taken]

        box.until(refused, 20, "a refusal")
        (second,) = refused()
        (first,) = {*names} - {second}
        box.until_streaming(f"{first}-acc1", 20)
        assert error_of(box, second)["facts"]["holder"] == first
        assert not box.stream(f"{second}-acc1").get("head")
        with pytest.raises(DeviceError, match="not trusted"):
            box.ask("bind", device=second)
