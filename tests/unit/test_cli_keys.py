"""`keys`, and `--keys` of what reads recordings: what they make, show, change and refuse."""

import json
from pathlib import Path
from typing import Any

import pytest

from brainforge_edge.cli.main import main
from brainforge_edge.core.errors import ExitStatus
from brainforge_edge.recorder.keyfile import read_keys
from brainforge_edge.recorder.sealing import KEYS_FOLDER
from brainforge_edge.security.signfiles import verifier_at
from tests.unit.sealed_material import (
    DISK,
    account,
    pair,
    rows_chunk,
    sealed_segment,
    sealing,
)

Out = pytest.CaptureFixture[str]


def answer(out: Out) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out.readouterr().out)
    return found


def box(root: Path) -> Path:
    """A box's root with one recording, sealed for the box alone; the recording."""
    recordings = root / "recordings"
    recordings.mkdir()
    own = pair(root / KEYS_FOLDER, "box")
    key = sealing(recordings, (own,)).key_for("rec-1", "p1")
    sealed_segment(recordings, key, [rows_chunk(0, 80), rows_chunk(80, 20)])
    return recordings / "rec-1"


def test_make_writes_a_pair_and_never_over_another(tmp_path: Path, capsys: Out) -> None:
    assert main(["keys", "make", str(tmp_path / "new"), "--role", "recovery", "--json"]) == 0
    made = answer(capsys)
    assert made["role"] == "recovery"
    assert (tmp_path / "new" / "recovery.key").stat().st_mode & 0o777 == 0o600
    before = (tmp_path / "new" / "recovery.key").read_bytes()
    assert main(["keys", "make", str(tmp_path / "new"), "--role", "recovery"]) == 14
    assert "recovery.key and recovery.pem lie there already" in capsys.readouterr().err
    assert (tmp_path / "new" / "recovery.key").read_bytes() == before


def test_a_signing_pair_is_made_and_never_over_another(tmp_path: Path, capsys: Out) -> None:
    words = ["keys", "make", str(tmp_path / "new"), "--role", "signer"]
    assert main([*words, "--json"]) == 0
    made = answer(capsys)
    assert made["id"] == verifier_at(tmp_path / "new" / "signer.pem").id
    assert (tmp_path / "new" / "signer.key").stat().st_mode & 0o777 == 0o600
    before = (tmp_path / "new" / "signer.key").read_bytes()
    assert main(words) == ExitStatus.SECURITY
    assert "boxes that know it would believe nothing more" in capsys.readouterr().err
    assert (tmp_path / "new" / "signer.key").read_bytes() == before


def test_a_signer_that_is_no_ed25519_key_is_refused_by_box_and_aggregator(
    tmp_path: Path, capsys: Out
) -> None:
    pair(tmp_path / "other", "aggregator")
    config = tmp_path / "edge.toml"
    text = '[node]\nid = "bed-1"\n[uplink]\nsigner = "{}"\n'
    check = ["config", "check", str(config)]
    for name, why in (("absent.pem", "no such file"), ("other/aggregator.pem", "another kind")):
        config.write_text(text.format(tmp_path / name))
        assert main(check) == ExitStatus.SECURITY
        assert why in capsys.readouterr().err
        assert (
            main([*check, "--start"]) == 0
        )  # whose word it believes, a box records before it knows
    words = ["cloud", "run", "--root", str(tmp_path / "cloud"), "--signer"]
    assert main([*words, str(tmp_path / "other" / "aggregator.key")]) == ExitStatus.SECURITY
    assert "another kind" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "other" / "aggregator.pem")]) == ExitStatus.SECURITY
    assert "others may read it" in capsys.readouterr().err
    assert not (tmp_path / "cloud").exists()
    assert main(["keys", "make", str(tmp_path / "new"), "--role", "signer"]) == 0
    config.write_text(text.format(tmp_path / "new" / "signer.pem"))
    assert main(["config", "check", str(config)]) == 0


def test_list_shows_for_whom_each_key_is_wrapped(tmp_path: Path, capsys: Out) -> None:
    recording = box(tmp_path)
    assert main(["keys", "list", str(recording), "--json"]) == 0
    (row,) = answer(capsys)["keys"]
    found = read_keys(recording, DISK)
    assert found is not None
    assert row["key"] == found.keys[0].key_id
    assert (row["participant"], row["wrapped_for"].partition(":")[0]) == ("p1", "box")
    assert main(["keys", "list", str(tmp_path / "recordings")]) == 0
    assert found.keys[0].key_id in capsys.readouterr().out


def test_the_boxs_own_key_is_used_without_being_named(tmp_path: Path, capsys: Out) -> None:
    recording = box(tmp_path)
    assert main(["verify", str(recording), "--json"]) == 0
    (found,) = answer(capsys)["recordings"]
    assert [(s["rows"], s["unopened"]) for s in found["streams"]] == [(100, 0)]
    arguments = ["export", str(recording), "--format", "csv", "--output", str(tmp_path / "out")]
    assert main(arguments) == 0
    lines = (tmp_path / "out" / "rec-1_dev-eeg.csv").read_text(encoding="utf-8").splitlines()
    assert sum(not line.startswith(("#", "t_s")) for line in lines) == 100


def test_without_the_key_verify_counts_and_export_refuses(tmp_path: Path, capsys: Out) -> None:
    recording = box(tmp_path)
    pair(tmp_path / "other", "recovery")
    arguments = ["verify", str(recording), "--keys", str(tmp_path / "other")]
    assert main(arguments) == 0
    assert "2 chunks are sealed and no key for them is here" in capsys.readouterr().out
    arguments = [
        "export", str(recording), "--format", "csv", "--output", str(tmp_path / "out"),
        "--keys", str(tmp_path / "other"),
    ]  # fmt: skip
    assert main(arguments) == ExitStatus.SECURITY
    assert "wrapped for box, and no such private key is here" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*"))


def test_rewrap_lets_one_more_open_and_can_be_done_again(tmp_path: Path, capsys: Out) -> None:
    recording = box(tmp_path)
    late = pair(tmp_path / "late", "aggregator")
    arguments = ["keys", "rewrap", str(recording), "--for", str(tmp_path / "late/aggregator.pem")]
    assert main([*arguments, "--json"]) == 0
    assert answer(capsys) == {"ok": True, "recipient": late.id, "wrapped": {"rec-1": 1}}
    assert account(tmp_path / "recordings", tmp_path / "late").unopened == 0
    assert account(tmp_path / "recordings", tmp_path / KEYS_FOLDER).unopened == 0
    assert main([*arguments, "--json"]) == 0
    assert answer(capsys)["wrapped"] == {"rec-1": 0}


def test_rewrap_with_what_is_no_key_or_without_a_key_that_opens_is_refused(
    tmp_path: Path, capsys: Out
) -> None:
    recording = box(tmp_path)
    before = (recording / "keys").read_bytes()
    (tmp_path / "no.pem").write_text("no key")
    assert main(["keys", "rewrap", str(recording), "--for", str(tmp_path / "no.pem")]) == 14
    assert "it is no public key in PEM" in capsys.readouterr().err
    absent = str(tmp_path / "absent.pem")
    assert main(["keys", "rewrap", str(recording), "--for", absent]) == 14
    assert "no such file" in capsys.readouterr().err
    pair(tmp_path / "late", "aggregator")
    arguments = [
        "keys", "rewrap", str(recording), "--for", str(tmp_path / "late" / "aggregator.pem"),
        "--keys", str(tmp_path / "late"),
    ]  # fmt: skip
    assert main(arguments) == 14
    assert "wrapped for box, and no such private key" in capsys.readouterr().err
    assert (recording / "keys").read_bytes() == before


def test_a_configuration_with_a_key_that_cannot_be_used_is_refused(
    tmp_path: Path, capsys: Out
) -> None:
    config = tmp_path / "edge.toml"
    text = '[node]\nid = "bed-1"\n[seal]\nenabled = true\naggregator = "{}"\n'
    check = ["config", "check", str(config)]
    (tmp_path / "bad.pem").write_text("no key")
    config.write_text(text.format(tmp_path / "bad.pem"))
    assert main(check) == ExitStatus.SECURITY
    assert "bad.pem" in capsys.readouterr().err
    assert main([*check, "--start"]) == 0
    config.write_text(text.format(tmp_path / "absent.pem"))
    assert main(check) == ExitStatus.SECURITY
    said = capsys.readouterr().err
    assert "no such file" in said
    assert "correct `aggregator` in [seal]" in said
    assert main([*check, "--start"]) == 0
    assert not (tmp_path / "keys").exists()


def test_a_key_of_orders_that_is_gone_keeps_no_box_from_recording(
    tmp_path: Path, capsys: Out
) -> None:
    """Orders are refused meanwhile; after a power cut nobody may be there to put it back."""
    config = tmp_path / "edge.toml"
    text = '[node]\nid = "bed-1"\n[[orders.signers]]\nrole = "fleet"\nkey = "{0}/fleet.pem"\n'
    more = '[[orders.signers]]\nrole = "clinician"\nkey = "{0}/clinician.pem"\n'
    config.write_text((text + more).format(tmp_path))
    assert main(["config", "check", str(config)]) == ExitStatus.SECURITY
    assert "fleet.pem cannot be read" in capsys.readouterr().err
    assert main(["config", "check", str(config), "--start"]) == 0
