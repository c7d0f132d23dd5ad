"""Floors and doors: import-linter's contracts are kept, and they do catch what they forbid."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.structure.tree import PACKAGE, ROOT

LINT = (
    "import sys; from importlinter.cli import lint_imports; "
    "sys.exit(lint_imports(config_filename=sys.argv[1], is_debug_mode=False, cache_dir=None))"
)


def _lint(config: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, '.'); {LINT}", str(config)],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )


def test_every_contract_is_kept() -> None:
    result = _lint(ROOT / "pyproject.toml", ROOT)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("folder", "line", "contract"),
    [
        ("recorder", "import brainforge_edge.codec", "Floors"),
        ("core", "import brainforge_edge.storage", "Floors"),
        ("hallway", "", "hallway"),
        ("devices", "import scipy", "Acquire stays lean"),
        ("cloud", "import brainforge_edge.devices", "The cloud drives no hardware"),
        ("daemon", "import numpy", "The supervisor imports no numpy"),
        ("uplink", "import sqlite3", "Door: SQLite"),
        ("recorder", "import serial", "Door: serial ports"),
        ("devices", "import bleak", "Door: Bluetooth"),
        ("devices", "import bumble", "Door: Bluetooth"),
    ],
)
def test_a_forbidden_import_is_caught(
    tmp_path: Path, folder: str, line: str, contract: str
) -> None:
    """On a skeleton of the package: the contracts are not empty words."""
    skeleton = tmp_path / "brainforge_edge"
    for package in PACKAGE.rglob("__init__.py"):
        target = skeleton / package.parent.relative_to(PACKAGE)
        target.mkdir(parents=True, exist_ok=True)
        (target / "__init__.py").touch()
    for door in ("core/log", "daemon/service", "signal/design"):
        path = skeleton / f"{door}.py"
        path.write_text((PACKAGE / f"{door}.py").read_text(encoding="utf-8"), encoding="utf-8")
    (skeleton / folder).mkdir(exist_ok=True)
    (skeleton / folder / "__init__.py").touch()
    (skeleton / folder / "intruder.py").write_text(line + "\n", encoding="utf-8")
    config = tmp_path / "pyproject.toml"
    config.write_text((ROOT / "pyproject.toml").read_text(encoding="utf-8"), encoding="utf-8")
    result = _lint(config, tmp_path)
    assert result.returncode == 1, result.stdout + result.stderr
    assert contract in result.stdout


def test_every_room_stands_on_a_floor() -> None:
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    floors = table["tool"]["importlinter"]["contracts"][0]
    named = {
        room.strip(" ()")
        for layer in floors["layers"]
        for room in layer.replace("|", ",").split(",")
    }
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms <= named
    assert floors["exhaustive"] is True
