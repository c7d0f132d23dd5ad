"""`logins add`: a password comes from stdin, others cannot read the file, a second one replaces the first."""

import io
from pathlib import Path

import pytest

from brainforge_edge.cli.main import main
from brainforge_edge.core.errors import ExitStatus
from brainforge_edge.web.logins import Role, read


def add(
    file: Path, name: str, password: str, monkeypatch: pytest.MonkeyPatch, role: str = "operator"
) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{password}\n"))
    return main(["logins", "add", str(file), name, "--role", role])


def test_logins_are_added_and_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "logins"
    assert add(file, "nurse", "quiet river stone", monkeypatch) == 0
    first = read(file)["nurse"]
    assert file.stat().st_mode & 0o777 == 0o640
    assert add(file, "guest", "look and do not touch", monkeypatch, "viewer") == 0
    assert add(file, "nurse", "another quiet river", monkeypatch) == 0
    kept = read(file)
    assert set(kept) == {"nurse", "guest"}
    assert kept["guest"].role is Role.VIEWER
    assert kept["nurse"] != first
    assert file.stat().st_mode & 0o777 == 0o640


def test_a_short_password_and_a_damaged_file_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "logins"
    assert add(file, "nurse", "short", monkeypatch) == ExitStatus.SECURITY
    assert "10 to 200 characters" in capsys.readouterr().err
    assert not file.exists()
    file.write_text("damaged\n")
    assert add(file, "nurse", "quiet river stone", monkeypatch) == ExitStatus.SECURITY
    assert file.read_text() == "damaged\n"
