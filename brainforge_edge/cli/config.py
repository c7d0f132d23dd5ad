"""`config check`: refuse a wrong configuration before the daemon does. Runs in: the CLI process."""

from pathlib import Path

import click

from brainforge_edge.cli.output import json_option, print_json
from brainforge_edge.cli.path import GivenPath
from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.config import EdgeConfig, load


@click.group()
def config() -> None:
    """Check a configuration."""


@config.command()
@click.argument("file", type=GivenPath())
@json_option
def check(file: Path, *, as_json: bool) -> None:
    """Check every key of a configuration, the drivers' own included."""
    edge = load(file)
    _check_devices(edge)
    if as_json:
        print_json({"ok": True, "node": edge.node.id, "devices": [d.name for d in edge.device]})
    else:
        names = ", ".join(device.name for device in edge.device) or "no device"
        click.echo(f"{file}: in order ({edge.node.id}: {names})")


def _check_devices(edge: EdgeConfig) -> None:
    if not edge.device:
        return
    from brainforge_edge.devices import registry  # noqa: PLC0415 - --help stays light

    for device in edge.device:
        registry.make_driver(device, clock=SystemClock())  # touches no port before `open`
