"""One sentence or one JSON object, and the documented exit status, for every way a verb can end."""

import json
from pathlib import Path

import click
import pytest

from brainforge_edge.cli import main as cli
from brainforge_edge.cli.output import report_error, wants_json
from brainforge_edge.core.errors import DeviceError, ExitStatus, StorageError

CHECK = ["config", "check"]


def test_an_unknown_verb_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["dance"]) == ExitStatus.USAGE
    assert capsys.readouterr().err == (
        "brainforge-edge: the command line is wrong: No such command 'dance'. "
        "`brainforge-edge --help` lists what it takes.\n"
    )


def test_wrong_usage_with_json_is_an_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--json", "--dance"]) == ExitStatus.USAGE
    reply = json.loads(capsys.readouterr().out)
    assert (reply["ok"], reply["error"]["code"]) == (False, "error.usage")


def test_no_verb_shows_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == ExitStatus.USAGE
    assert "Commands:" in capsys.readouterr().err


def test_a_missing_configuration_is_one_sentence_with_its_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*CHECK, str(tmp_path / "none.toml")]) == ExitStatus.CONFIG
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "there is no such file" in said.err
    assert "write one: brainforge_edge/docs/operator.md" in said.err


def test_an_unknown_key_is_refused_with_its_path_also_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "edge.toml"
    file.write_text('[node]\nid = "box"\ncolour = "red"\n', encoding="utf-8")
    assert cli.main([*CHECK, str(file), "--json"]) == ExitStatus.CONFIG
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "config.invalid"
    assert "`colour`" in error["why"]
    assert "`$.node`" in error["why"]


def test_a_good_configuration_is_said_to_be_good(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "edge.toml"
    file.write_text('[node]\nid = "box"\n[uplink]\nenabled = false\n', encoding="utf-8")
    assert cli.main([*CHECK, str(file), "--json"]) == ExitStatus.OK
    assert json.loads(capsys.readouterr().out) == {
        "ok": True, "node": "box", "devices": [], "notes": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("sections", "note"),
    [
        ("", "the box seals for itself alone and sends nothing: name seal.aggregator"),
        ("[seal]\nenabled = false\n", "rows are recorded in the clear, and sent so"),
        ("[seal]\nenabled = false\n[uplink]\nenabled = false\n", "rows are recorded in the clear"),
    ],
)
def test_what_is_in_order_and_perhaps_not_meant_is_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sections: str, note: str
) -> None:
    file = tmp_path / "edge.toml"
    file.write_text('[node]\nid = "box"\n' + sections, encoding="utf-8")
    assert cli.main([*CHECK, str(file)]) == ExitStatus.OK
    assert capsys.readouterr().out.splitlines()[1:] == [f"note: {note}"]


def test_an_unknown_kind_and_a_wrong_setting_are_found_before_the_daemon_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "edge.toml"
    device = '[node]\nid = "box"\n[[device]]\nname = "one"\nkind = "{}"\nsettings = {{ {} }}\n'
    file.write_text(device.format("tricorder", 'port = "/dev/x"'), encoding="utf-8")
    assert cli.main([*CHECK, str(file)]) == ExitStatus.CONFIG
    assert "no driver for devices of kind 'tricorder'" in capsys.readouterr().err
    file.write_text(device.format("opm", 'prot = "/dev/x"'), encoding="utf-8")
    assert cli.main([*CHECK, str(file)]) == ExitStatus.CONFIG
    assert "`prot`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (KeyboardInterrupt(), cli.INTERRUPTED),
        (click.Abort(), cli.INTERRUPTED),
        (DeviceError("busy", "no", why="busy", remedy="Wait"), ExitStatus.DEVICE),
        (ModuleNotFoundError("no mne", name="mne"), ExitStatus.CONFIG),
    ],
)
def test_every_expected_end_has_its_status_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    raised: BaseException,
    status: int,
) -> None:
    def verb(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(cli.cli, "main", verb)
    assert cli.main(["status"]) == status
    assert "Traceback" not in capsys.readouterr().err


def test_json_after_two_dashes_is_an_argument() -> None:
    assert wants_json(["mark", "--json", "text"])
    assert not wants_json(["mark", "--", "--json"])


def test_an_error_shows_what_somebody_else_wrote_and_does_not_obey_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A name from a file or from the network can redraw a terminal's line."""
    error = StorageError("x", "\x1b[2Kall is well\r", why="why", remedy="Do")
    report_error(error, as_json=False)
    said = capsys.readouterr().err
    assert "\\x1b[2Kall is well\\r" in said
    assert all(each.isprintable() for each in said.rstrip("\n"))
