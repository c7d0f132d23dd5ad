"""udev rules and systemd files: they parse, they agree with each other, and the unit is closed."""

import configparser
import re
import shutil
import subprocess

import pytest

from brainforge_edge.core.config import DEFAULT_ROOT, DEFAULT_RUN
from brainforge_edge.devices.bfp import WHO_AM_I
from tests.structure.tree import DOCS, ROOT

UNIT = ROOT / "systemd" / "brainforge-edge.service"
RULES = ROOT / "udev" / "70-brainforge.rules"
_WORD = re.compile(
    r"(ACTION|SUBSYSTEM|DRIVER|GROUP|MODE|SYMLINK|TAG|GOTO|LABEL|(?:ENV|ATTR)\{[A-Za-z_/]+\})"
    r"(==|!=|\+=|=)\"([^\"]*)\""
)
_MOST_EXPOSED = 20  # tenths of systemd's scale from 0 to 10


def _rules() -> list[list[tuple[str, str, str]]]:
    """Each rule as (key, operator, value)."""
    lines = RULES.read_text(encoding="utf-8").splitlines()
    parsed = []
    for line in (line for line in lines if line and not line.startswith("#")):
        words = line.split(", ")
        found = [_WORD.fullmatch(word) for word in words]
        assert all(found), line
        parsed.append([(m.group(1), m.group(2), m.group(3)) for m in found if m])
    return parsed


def _unit() -> configparser.RawConfigParser:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(UNIT, encoding="utf-8")
    return unit


def test_every_udev_rule_parses_and_every_jump_has_its_label() -> None:
    words = [word for rule in _rules() for word in rule]
    jumps = {value for key, _, value in words if key == "GOTO"}
    assert jumps == {value for key, _, value in words if key == "LABEL"}


def test_udev_itself_accepts_the_rules() -> None:
    udevadm = shutil.which("udevadm")
    if (
        udevadm is None
        or subprocess.run(
            [udevadm, "verify", "--help"], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("no udevadm that knows `verify` (systemd 254): tests/guest runs the rules")
    done = subprocess.run(
        [udevadm, "verify", str(RULES)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_start_nothing_and_know_every_device_of_ours() -> None:
    words = [word for rule in _rules() for word in rule]
    assert not [key for key, _, _ in words if key.startswith(("RUN", "PROGRAM"))]
    assert "ENV{SYSTEMD_WANTS}" not in {key for key, _, _ in words}
    products = {value for key, _, value in words if key == "ENV{ID_MODEL_ID}"}
    assert {f"{identity:04x}" for identity in WHO_AM_I} <= products


def test_the_unit_is_watched_restarted_and_keeps_the_rings_over_a_restart() -> None:
    service = _unit()["Service"]
    assert service["Type"] == "notify"
    assert service["Restart"] == "always"
    assert float(service["WatchdogSec"]) > 0
    assert service["RuntimeDirectoryPreserve"] == "restart"
    assert f"/run/{service['RuntimeDirectory']}" == DEFAULT_RUN
    assert f"/var/lib/{service['StateDirectory']}" == DEFAULT_ROOT


def test_the_unit_runs_as_the_user_that_is_made_and_its_ports_have_their_drivers_loaded() -> None:
    people = (ROOT / "systemd" / "brainforge.sysusers").read_text(encoding="utf-8")
    user = _unit()["Service"]["User"]
    assert re.search(rf"^u {user} ", people, re.MULTILINE)
    group = next(value for rule in _rules() for key, _, value in rule if key == "GROUP")
    assert _unit()["Service"]["SupplementaryGroups"] == group
    drivers = (ROOT / "systemd" / "brainforge.modules").read_text(encoding="utf-8").splitlines()
    assert {"cdc_acm", "usbserial", "ftdi_sio"} <= set(drivers)


def test_the_unit_leaves_open_what_it_needs_and_little_else() -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze here")
    done = subprocess.run(
        [analyze, "security", "--offline=true", "--no-pager", f"--threshold={_MOST_EXPOSED}", UNIT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-300:] + done.stderr


def test_the_guide_installs_every_file_that_is_there() -> None:
    guide = (DOCS / "operator.md").read_text(encoding="utf-8")
    files = [path for folder in ("systemd", "udev") for path in (ROOT / folder).iterdir()]
    assert files
    for path in files:
        assert f"install -D -m 644 {path.relative_to(ROOT)} /etc/" in guide, path.name
