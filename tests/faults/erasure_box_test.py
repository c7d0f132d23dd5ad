"""A daemon that records two participants, and orders to erase one of them given at its side."""

import json
from pathlib import Path
from typing import Any

from brainforge_edge.core.errors import ExitStatus
from brainforge_edge.security.sign import make_signer
from tests.faults.box import Box, box_in, cli

CAPS = ("one", "two")


def two_participants(box: Box) -> None:
    """Sealed, with two signers known."""
    for cap in CAPS:
        box.device(cap, "openbci")
        box.emulate(cap, "cyton", channels=8)
    box.devices = [_with_subject(entry) for entry in box.devices]
    signers = []
    for role in ("fleet", "clinician"):
        private, public = make_signer()
        (box.root / f"{role}.pem").write_bytes(public)
        (box.root / f"{role}.key").write_bytes(private)
        (box.root / f"{role}.key").chmod(0o600)
        signers.append(f'{{role = "{role}", key = "{box.root / role}.pem"}}')
    box.write_config(
        uplink="enabled = false\n[seal]\nenabled = true\n"
        f"[orders]\nsigners = [{', '.join(signers)}]"
    )
    box.start()
    for cap in CAPS:
        box.until_streaming(f"{cap}-eeg", 30)


def _with_subject(entry: str) -> str:
    name = entry.split('"')[1]
    return entry.replace("settings =", f'subject = "p-{name}"\nsettings =')


def recorded(box: Box, more: int) -> None:
    goals = {cap: durable(box, cap) + more for cap in CAPS}
    box.until(lambda: all(durable(box, c) >= goals[c] for c in CAPS), 30, f"{more} rows of both")


def durable(box: Box, cap: str) -> int:
    return int(box.stream(f"{cap}-eeg").get("durable") or 0)


def order(box: Box, *more: str) -> Path:
    path = box.root / "order.json"
    arguments = ("--participant", "p-one", "--node", "box", "--reason", "withdrawn", *more)
    made = cli("erase", "request", *arguments)
    assert made.returncode == 0, made.stderr
    path.write_text(made.stdout, encoding="utf-8")
    for role in ("fleet", "clinician"):
        signed = cli("erase", "sign", path, "--key", box.root / f"{role}.key")
        assert signed.returncode == 0, signed.stderr
    return path


def run(box: Box, path: Path) -> tuple[int, dict[str, Any]]:
    done = cli("erase", "run", path, "--config", box.config, "--json")
    return done.returncode, json.loads(done.stdout)


def test_one_of_two_is_erased_while_both_are_recorded_into_the_next_recording(
    tmp_path: Path,
) -> None:
    with box_in(tmp_path) as box:
        two_participants(box)
        box.ask("record", name="first")
        recorded(box, 250)
        box.ask("stop")
        before = box.verify()["first"]
        box.ask("record", name="second")
        recorded(box, 100)
        status, said = run(box, order(box))
        assert status == ExitStatus.SESSION
        assert said["error"]["code"] == "session.participant_recorded"
        assert box.verify()["first"] == before
        status, said = run(box, order(box, "--recording", "first"))
        assert status == 0, said
        assert [each["recording"] for each in said["erased"]] == ["first"]
        recorded(box, 250)
        box.ask("stop")
        account = box.verify()
        first, second = account["first"], account["second"]
        assert first["one-eeg"]["erased"] == before["one-eeg"]["chunks"] > 0
        assert first["two-eeg"] == before["two-eeg"]
        for cap in CAPS:
            found = second[f"{cap}-eeg"]
            assert (found["erased"], found["unopened"], found["gaps"]) == (0, 0, [])
            assert found["rows"] >= 250
        status, said = run(box, order(box))
        assert status == 0, said
        assert {each["recording"] for each in said["erased"]} == {"first", "second"}
        account = box.verify()["second"]
        assert account["one-eeg"]["erased"] == account["one-eeg"]["chunks"] > 0
        assert account["two-eeg"] == second["two-eeg"]
