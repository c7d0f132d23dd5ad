"""The installed box in the guest: the steps of the operator's guide, the service, the control socket.

Runs in: the guest, as root, started by the agent.
"""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from brainforge_edge.cli.demo.children import python
from tests.faults.box import Box

PROJECT = Path("/srv/brainforge-edge")
STATE = Path("/var/lib/brainforge")
RUN = Path("/run/brainforge")
CONFIG = Path("/etc/brainforge/edge.toml")
OUT = Path("/out")
UNIT = "brainforge-edge.service"
_DROP_IN = Path("/etc/systemd/system") / f"{UNIT}.d" / "guest.conf"

_NO_PIPELINE = "[pipeline]\nenabled = false"  # it looks at samples; here they are to arrive


def sh(*command: object, timeout_s: float = 60.0) -> str:
    """Standard output; an AssertionError with all it said if the command fails."""
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    words = " ".join(map(str, command))
    assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def until(is_so: Callable[[], object], most_s: float, what: str) -> float:
    """Wait for a condition; the seconds it took."""
    started = time.monotonic()
    while not is_so():
        assert time.monotonic() - started < most_s, f"{what} did not come within {most_s:g} s"
        time.sleep(0.02)
    return time.monotonic() - started


def installation() -> str:
    """The second block of the operator's guide's section on it; the first needs a network."""
    page = (PROJECT / "brainforge_edge/docs/operator.md").read_text(encoding="utf-8")
    section = page.partition("## Installation as a service")[2]
    blocks: list[str] = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    return blocks[1]


class Bedside(Box):
    """The box under systemd: files where the unit has them, everything before it forgotten."""

    def __init__(self) -> None:
        root = Path("/tmp/bedside")
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        super().__init__(root, RUN)
        self.config = CONFIG
        self.install()

    def install(self) -> None:
        subprocess.run(["systemctl", "stop", UNIT], capture_output=True, check=False)
        for folder in (STATE, RUN):
            shutil.rmtree(folder, ignore_errors=True)
        CONFIG.parent.mkdir(exist_ok=True)
        # The package is not installed here but used from its work tree.
        _DROP_IN.parent.mkdir(exist_ok=True)
        _DROP_IN.write_text(f"[Service]\nEnvironment=PYTHONPATH={PROJECT}\n")
        subprocess.run(
            ["sh", "-e", "-c", installation()], cwd=PROJECT, check=True, stdout=subprocess.DEVNULL
        )

    def begin(self) -> float:
        """Write the configuration and start the service; seconds until systemd says it is ready."""
        self.write_config(recording=f"auto_record = true\n{_NO_PIPELINE}", root=STATE)
        started = time.monotonic()
        sh("systemctl", "start", UNIT, timeout_s=90)
        return time.monotonic() - started

    def listed(self) -> list[dict[str, Any]]:
        """What `devices` says of the serial ports."""
        options = ("--link", "serial", "--json")
        command = python("brainforge_edge.cli.main", "devices", *options)
        rows: list[dict[str, Any]] = json.loads(
            sh("env", f"PYTHONPATH={PROJECT}", *command, timeout_s=120)
        )["devices"]
        return rows

    def finish(self) -> None:
        """Stop recording and service, and hand the recordings to the host."""
        self.ask("stop")
        sh("systemctl", "stop", UNIT, timeout_s=90)
        sh("cp", "-r", self.recordings, OUT / "recordings")
        sh("cp", "-r", STATE / "keys", OUT / "keys")

    def close(self) -> None:
        """Also after a step that failed: a box left alone would take the next test's processors."""
        sh("systemctl", "stop", UNIT, timeout_s=120)
        super().close()

    def property(self, name: str) -> str:
        return sh("systemctl", "show", UNIT, "-P", name).strip()
