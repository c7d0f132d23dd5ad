"""What people and machines are told of data that may go, waits or is gone."""

import json
from pathlib import Path
from typing import Any

import pytest

from brainforge_edge.cli import main as cli
from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.config import parse
from brainforge_edge.core.errors import ConfigError, ExitStatus
from brainforge_edge.recorder.signers import remember_signer
from tests.unit import retention_material
from tests.unit.retention_material import EEG, PUBLIC_PEM, Stand, write_segment


@pytest.fixture(autouse=True)
def signed_now(monkeypatch: pytest.MonkeyPatch) -> None:
    now = SystemClock().utc_ns()
    assert now is not None
    monkeypatch.setattr(retention_material, "NOW", now)


def _box(root: Path, retention: str, uplink: str = "") -> Path:
    (root / "signer.pem").write_bytes(PUBLIC_PEM)
    config = root / "edge.toml"
    config.write_text(
        f'[node]\nid = "box"\nroot = "{root}"\nrun = "{root}/run"\n[retention]\n{retention}\n'
        f'[uplink]\nsigner = "{root}/signer.pem"\n{uplink}\n'
    )
    return config


def _said(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    return said


def test_a_table_tells_for_each_recording_what_waits_and_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = _box(tmp_path, "enabled = true", "enabled = false")
    remember_signer(tmp_path, PUBLIC_PEM, Stand(tmp_path).disk)
    gone = Stand(tmp_path, name="gone", seed=2)
    young = Stand(tmp_path, name="young", seed=3)
    mixed = Stand(tmp_path, name="mixed", seed=4)
    for stand in (gone, young, mixed):
        stand.close()
    gone.attest_all()
    gone.retention(utc_ns=retention_material.NOW).once()
    young.attest_all(age_days=2.5)
    mixed.attest(mixed.chain[0])
    write_segment(mixed.folder / EEG.stream_id, 5, mixed.disk)
    assert cli.main(["retention", "--config", str(config)]) == ExitStatus.OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "retention is on: attested segments are freed after 7 days, earlier from 80 % of the disk on"  # fmt: skip
    assert lines[1].split("  ")[0] == "recording"
    rows = {line.split()[0]: line for line in lines[2:]}
    assert rows["rec-1"].endswith("the recording is open")
    assert rows["gone"].split()[1:4] == ["0", "0", "B"]
    assert rows["gone"].endswith("-")
    assert rows["young"].endswith("kept for 5 more days")
    assert rows["mixed"].endswith("3 not attested, 1 not in the chain yet, 1 due")
    assert cli.main(["retention", "--config", str(config), "--json"]) == ExitStatus.OK
    said = {row["recording"]: row for row in _said(capsys)["recordings"]}
    assert said["gone"]["freed"] == 4
    assert said["gone"]["freed_bytes"] == sum(line.size for line in gone.freed)
    assert said["young"]["waits"] == [{"why": "kept for 5 more days", "segments": 4}]


@pytest.mark.parametrize(
    ("retention", "uplink", "first", "why"),
    [
        ("", "", "retention is off: nothing is freed but what an operator releases", "retention is off"),
        ("enabled = true", "", "retention is on", "not delivered"),
        ("enabled = true\nkeep_days = 0.5", "enabled = false", "retention is on", "not attested"),
    ],
)  # fmt: skip
def test_the_reason_is_the_first_thing_that_is_lacking(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], retention: str, uplink: str, first: str, why: str
) -> None:  # fmt: skip
    config = _box(tmp_path, retention, uplink)
    Stand(tmp_path).close()
    assert cli.main(["retention", "--config", str(config)]) == ExitStatus.OK
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(first)
    assert said[2].endswith(why)


def test_an_empty_box_has_nothing_to_tell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = _box(tmp_path, "")
    assert cli.main(["retention", "--config", str(config)]) == ExitStatus.OK
    assert capsys.readouterr().out.splitlines()[1] == "nothing is recorded yet"


def test_retention_without_a_key_that_could_prove_anything_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"without uplink\.signer"):
        parse('[node]\nid = "box"\n[retention]\nenabled = true\n')


def _freed(root: Path) -> Stand:
    stand = Stand(root)
    stand.close()
    for entry in stand.chain[1:3]:
        stand.attest(entry)
    stand.retention(utc_ns=retention_material.NOW).once()
    return stand


def test_verify_tells_what_was_freed_and_asks_for_the_key_that_proves_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stand = _freed(tmp_path)
    folder = str(stand.folder)
    assert cli.main(["verify", folder]) == ExitStatus.FAILED
    assert "was freed without evidence: the key that proves it is not here" in capsys.readouterr().out  # fmt: skip
    key = tmp_path / "aggregator.pem"
    key.write_bytes(PUBLIC_PEM)
    assert cli.main(["verify", folder, "--signer", str(key)]) == ExitStatus.OK
    said = capsys.readouterr().out
    assert "freed: 2 segments, delivered and attested; rows 1:80–160, 1:180–260" in said
    assert said.endswith("clean\n")
    remember_signer(tmp_path, PUBLIC_PEM, stand.disk)  # as the agent does
    assert cli.main(["verify", folder, "--json"]) == ExitStatus.OK
    (recording,) = _said(capsys)["recordings"]
    assert recording["chain"] == {
        "head": stand.chain[-1].head.hex(), "segments": 4, "holds": True, "unchained": [],
    }  # fmt: skip
    gone = recording["streams"][0]["freed"]
    assert [(line["segment"], line["rows"], line["proof"]) for line in gone] == [
        ("0002.seg", [[1, 80, 160]], "attestation"),
        ("0003.seg", [[1, 180, 260]], "attestation"),
    ]


def test_export_gives_out_no_part_as_if_it_were_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stand = _freed(tmp_path)
    output = tmp_path / "out"
    command = ["export", str(stand.folder), "--format", "csv", "--output", str(output)]
    assert cli.main(command) == ExitStatus.STORAGE
    said = capsys.readouterr().err
    assert said.startswith(
        "brainforge-edge: rec-1 is not whole on this box: delivered or copied, then freed here: "
        f"{EEG.stream_id}: rows 1:80–160, 1:180–260. "
    )
    assert not list(output.glob("*"))
    assert cli.main([*command, "--partial"]) == ExitStatus.OK
    told = capsys.readouterr().err
    (path,) = output.glob("*.csv")
    rows = [line for line in path.read_text().splitlines() if line[0].isdigit()]
    assert len(rows) == 160
    assert "rows 1:80–160, 1:180–260 were freed on this box" in told


def test_of_a_recording_that_is_all_elsewhere_export_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stand = Stand(tmp_path)
    stand.close()
    stand.attest_all()
    stand.retention(utc_ns=retention_material.NOW).once()
    command = ["export", str(stand.folder), "--format", "csv", "--output", str(tmp_path / "out")]
    for more in ([], ["--partial"], ["--stream", EEG.stream_id, "--partial"]):
        assert cli.main([*command, *more]) == ExitStatus.STORAGE
        assert "rec-1 is not here any more" in capsys.readouterr().err


def test_a_recording_that_cannot_be_read_is_named_and_the_others_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = _box(tmp_path, "enabled = true")
    for name in ("bad", "good", "unread"):
        Stand(tmp_path, name=name).close()
    (tmp_path / "recordings" / "bad" / "chain").unlink()
    (tmp_path / "recordings" / "bad" / "chain").mkdir()
    (tmp_path / "recordings" / "unread" / "recording.json").unlink()
    (tmp_path / "recordings" / "unread" / "recording.json").mkdir()
    assert cli.main(["retention", "--config", str(config)]) == ExitStatus.STORAGE
    said = capsys.readouterr()
    assert "good" in said.out
    assert "bad/chain" in said.err
    assert "unread/recording.json" in said.err
    assert cli.main(["retention", "--config", str(config), "--json"]) == ExitStatus.STORAGE
    told = _said(capsys)
    assert not told["ok"]
    assert [row["recording"] for row in told["recordings"]] == ["good"]
    assert [error["code"] for error in told["errors"]] == ["storage.failed"] * 2


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_signer_that_cannot_be_read_is_named_and_the_others_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, is_folder: bool
) -> None:
    config = _box(tmp_path, "enabled = true")
    gone = Stand(tmp_path, name="gone")
    gone.close()
    gone.attest_all()
    gone.retention(utc_ns=retention_material.NOW).once()
    remember_signer(tmp_path, PUBLIC_PEM, gone.disk)
    bad = tmp_path / "signers" / "0000.pem"
    if is_folder:
        bad.mkdir()
    else:
        bad.write_bytes(b"no key")
    assert cli.main(["verify", str(gone.folder)]) == ExitStatus.OK
    said = capsys.readouterr()
    assert "signers/0000.pem" in said.err
    assert "clean" in said.out
    status = cli.main(["retention", "--config", str(config)])
    assert status == (ExitStatus.STORAGE if is_folder else ExitStatus.SECURITY)
    said = capsys.readouterr()
    assert "signers/0000.pem" in said.err
    assert "without evidence" not in said.out
    assert "gone" in said.out
