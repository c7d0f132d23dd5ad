"""`mark`: a marker in the open recording. Runs in: the CLI process."""

from pathlib import Path

import click

from brainforge_edge.cli.client import request
from brainforge_edge.cli.number import Number
from brainforge_edge.cli.output import json_option, print_json
from brainforge_edge.cli.target import daemon_options, daemon_socket


def _fits(_ctx: click.Context, _param: click.Parameter, text: str) -> str:
    if any("\ud800" <= character <= "\udfff" for character in text):  # bytes of another encoding
        raise click.BadParameter("it is not UTF-8.")
    return text


@click.command()
@click.argument("text", callback=_fits)
@daemon_options
@click.option(
    "--duration",
    "duration_s",
    type=Number(most=86_400),
    default=0.0,
    help="Seconds, 0 by default.",
)
@json_option
def mark(
    text: str,
    config: Path | None,
    run_folder: Path | None,
    *,
    duration_s: float,
    as_json: bool,
) -> None:
    """Put a marker into the open recording."""
    reply = request(
        daemon_socket(config, run_folder),
        "mark",
        timeout_s=30.0,
        description=text,
        duration=duration_s,
    )
    if as_json:
        print_json(reply)
    else:
        click.echo(f"marked: {text}")
