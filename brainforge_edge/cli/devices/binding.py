"""`devices bind`, `forget`, `alias`: who belongs to which name. Runs in: the CLI process."""

from pathlib import Path

import click

from brainforge_edge.cli.client import request
from brainforge_edge.cli.output import json_option, print_json
from brainforge_edge.cli.target import daemon_options, daemon_socket

_ASK_S = 60.0  # an agent that is being started again is waited for


@click.command()
@click.argument("name")
@click.option("--identity", default="", help="Of the one that is meant; the one that answers now.")
@daemon_options
@json_option
def bind(
    name: str, config: Path | None, run_folder: Path | None, *, identity: str, as_json: bool
) -> None:
    """Accept the device that answers under a configured NAME."""
    socket = daemon_socket(config, run_folder)
    reply = request(socket, "bind", timeout_s=_ASK_S, device=name, identity=identity)
    if as_json:
        print_json(reply)
    elif reply["before"] == reply["identity"]:
        click.echo(f"{name} is bound to {reply['identity']} already")
    else:
        before = f", no longer to {reply['before']}" if reply["before"] else ""
        click.echo(f"{name} is bound to {reply['identity']}{before}")


@click.command()
@click.argument("device", metavar="NAME|IDENTITY")
@daemon_options
@json_option
def forget(device: str, config: Path | None, run_folder: Path | None, *, as_json: bool) -> None:
    """Take a device out of the registry; its name is free for the next one that answers."""
    socket = daemon_socket(config, run_folder)
    reply = request(socket, "forget", timeout_s=_ASK_S, device=device)
    if as_json:
        print_json(reply)
        return
    click.echo(f"forgotten: {', '.join(reply['forgotten'])}")
    for name in reply["freed"]:
        click.echo(f"the next device that answers as {name} is bound to that name")


@click.command()
@click.argument("device", metavar="IDENTITY")
@click.argument("name")
@daemon_options
@json_option
def alias(
    device: str, name: str, config: Path | None, run_folder: Path | None, *, as_json: bool
) -> None:
    """Call a known device NAME in lists; "" takes the alias away."""
    socket = daemon_socket(config, run_folder)
    reply = request(socket, "alias", timeout_s=_ASK_S, device=device, alias=name)
    if as_json:
        print_json(reply)
    else:
        click.echo(f"{reply['identity']} is called {reply['alias']!r}")
