"""`run`: the daemon in the foreground. Runs in: the supervisor process, main thread."""

import json
import subprocess
import sys
from pathlib import Path

import click

from brainforge_edge.cli.path import GivenPath
from brainforge_edge.core.errors import ExitStatus, from_dict


@click.command()
@click.option(
    "--config",
    type=GivenPath(),
    default=Path("/etc/brainforge/edge.toml"),
    show_default=True,
    help="Configuration file.",
)
def run(config: Path) -> int:
    """Run the daemon in the foreground."""
    from brainforge_edge.daemon import supervisor  # noqa: PLC0415 - --help stays light

    _check_settings(config)
    return supervisor.run(config)


def _check_settings(config: Path) -> None:
    """Refuse wrong settings before anything starts; in a process that may import drivers.

    A box whose private key is away or locked, that is not enrolled yet, or where a file of others was spoilt,
    records all the same.
    """
    command = [sys.executable, "-m", "brainforge_edge.cli.main", "config", "check", str(config)]
    checked = subprocess.run([*command, "--start", "--json"], capture_output=True, check=False)
    if checked.returncode in {ExitStatus.CONFIG, ExitStatus.SECURITY}:
        raise from_dict(json.loads(checked.stdout)["error"])
