"""`record`: start a recording. Runs in: the CLI process."""

from pathlib import Path

import click

from brainforge_edge.cli.client import request
from brainforge_edge.cli.number import Number
from brainforge_edge.cli.output import json_option, print_json
from brainforge_edge.cli.target import daemon_options, daemon_socket


@click.command()
@daemon_options
@click.option("--name", default="", help="Name of the recording; the box makes one up otherwise.")
@click.option(
    "--preroll",
    "preroll_s",
    type=Number(most=60),
    default=None,
    help="Seconds before now that belong to it; the configuration's preroll_s otherwise.",
)
@json_option
def record(
    config: Path | None,
    run_folder: Path | None,
    *,
    name: str,
    preroll_s: float | None,
    as_json: bool,
) -> None:
    """Start a recording."""
    fields: dict[str, object] = {"name": name} if name else {}
    if preroll_s is not None:
        fields["preroll"] = preroll_s
    reply = request(daemon_socket(config, run_folder), "record", timeout_s=30.0, **fields)
    if as_json:
        print_json(reply)
    else:
        click.echo(f"recording {reply['recording']}")
        for device, state in (reply.get("devices") or {}).items():
            click.echo(f"  {device}: {state}")
