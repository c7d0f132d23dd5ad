"""`stop`: end the recording and wait until all of it is archived. Runs in: the CLI process."""

from pathlib import Path

import click

from brainforge_edge.cli.client import request
from brainforge_edge.cli.number import Number
from brainforge_edge.cli.output import json_option, print_json
from brainforge_edge.cli.target import daemon_options, daemon_socket


@click.command()
@daemon_options
@click.option(
    "--timeout",
    "timeout_s",
    type=Number(least=0.1, most=86_400),
    default=120.0,
    show_default=True,
    help="Seconds to wait; the recording ends also where nobody waits.",
)
@json_option
def stop(config: Path | None, run_folder: Path | None, *, timeout_s: float, as_json: bool) -> None:
    """Stop the recording and wait until it is safe."""
    reply = request(daemon_socket(config, run_folder), "stop", timeout_s=timeout_s)
    if as_json:
        print_json(reply)
    else:
        click.echo(f"stopped {reply.get('recording')}")
        for device, state in (reply.get("devices") or {}).items():
            # Also said of a device that was never there: it promises nothing about its rows.
            said = "what it delivered is durable and archived" if state == "closed" else state
            click.echo(f"  {device}: {said}")
