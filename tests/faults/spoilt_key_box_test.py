"""A box whose own public key was spoilt while it runs: who is started again records on for the others, and says why."""

from pathlib import Path
from typing import Any

import pytest

from tests.faults.box import Box, box_in, cli
from tests.faults.sealedbox import STREAM, kill_acquire, recorded, recording_box


def error(box: Box) -> str:
    said: dict[str, Any] | None = (box.worker("acquire:cap").get("recording") or {}).get("error")
    return str((said or {}).get("code", ""))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_box_whose_own_key_was_spoilt_records_on_for_the_others_and_says_so(
    tmp_path: Path,
) -> None:
    keys, away = tmp_path / "box" / "keys", tmp_path / "away"
    for folder, role in ((keys, "box"), (away, "recovery")):
        assert cli("keys", "make", folder, "--role", role).returncode == 0
    own = keys / "box.pem"
    whole = own.read_bytes()
    with box_in(tmp_path) as box:
        seal = f'box = "{own}"\nrecovery = "{away / "recovery.pem"}"'
        recording_box(box, is_sealed=True, seal=seal)
        assert error(box) == ""
        own.write_bytes(b"\0" * len(whole))
        kill_acquire(box)
        box.until_streaming(STREAM, 60)
        recorded(box, 250)
        assert error(box) == "security.own_key_unusable"
        assert str(own) in cli("status", "--config", box.config).stdout
        own.write_bytes(whole)
        box.ask("stop", timeout_s=120)
        box.ask("record", name="after")
        box.until(lambda: error(box) == "", 60, "to be sealed for the box again")
        recorded(box, 250)
        box.ask("stop", timeout_s=120)
        shown = cli("keys", "list", box.recordings, "--json").stdout
        assert shown.count("recovery:") > shown.count("box:") > 0
        opened = cli("verify", box.recordings, "--keys", away, "--json")
        assert opened.returncode == 0, opened.stdout
        own.write_bytes(b"")
        assert box.daemon is not None
        assert box.end(box.daemon) == 0
        box.start()  # and so does one that boots with it
        box.until_streaming(STREAM, 60)
        box.until(lambda: error(box) == "security.own_key_unusable", 60, "it to be said")
