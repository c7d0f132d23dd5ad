"""`streams`: the streams of the devices that are connected. Runs in: the CLI process."""

from pathlib import Path

import click

from brainforge_edge.cli.client import request
from brainforge_edge.cli.output import json_option, print_json, print_table
from brainforge_edge.cli.target import daemon_options, daemon_socket


@click.command()
@daemon_options
@json_option
def streams(config: Path | None, run_folder: Path | None, *, as_json: bool) -> None:
    """List the streams of the devices."""
    reply = request(daemon_socket(config, run_folder), "streams")
    if as_json:
        print_json(reply)
        return
    print_table(("stream_id", "device", "state", "sfreq", "n_channels"), reply.get("streams", []))
