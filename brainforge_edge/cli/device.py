"""`device`: a command for a device of the running box. Runs in: the CLI process."""

import json
from pathlib import Path
from typing import Any

import click

from brainforge_edge.cli.client import request
from brainforge_edge.cli.number import Number
from brainforge_edge.cli.output import json_option, print_json
from brainforge_edge.cli.target import daemon_options, daemon_socket
from brainforge_edge.core.errors import ExitStatus


@click.command()
@click.argument("name")
@click.argument("command")
@click.argument("arguments", nargs=-1, metavar="[KEY=VALUE]...")
@daemon_options
@click.option("--force", is_flag=True, help="Also while a recording is open.")
@click.option(
    "--timeout",
    "timeout_s",
    type=Number(least=0.1, most=900),
    default=15.0,
    show_default=True,
    help="Seconds to wait for the answer.",
)
@json_option
def device(
    name: str,
    command: str,
    arguments: tuple[str, ...],
    config: Path | None,
    run_folder: Path | None,
    *,
    force: bool,
    timeout_s: float,
    as_json: bool,
) -> int:
    """Let a device do something: zero, calibrate, self_test …"""
    given = dict(_argument(text) for text in arguments)
    if force:
        given["force"] = True
    reply = request(
        daemon_socket(config, run_folder),
        "command",
        timeout_s=timeout_s + 5.0,
        device=name,
        command=command,
        arguments=given,
        timeout=timeout_s,
    )
    if as_json:
        print_json(reply)
    else:
        click.echo(f"{name}: {command} done")
        for key, value in reply["values"].items():
            click.echo(f"  {key}: {json.dumps(value, ensure_ascii=False)}")
    has_failed = reply["values"].get("passed") is False
    return int(ExitStatus.FAILED if has_failed else ExitStatus.OK)


def _argument(text: str) -> tuple[str, Any]:
    """KEY=VALUE; a value that is no JSON is text."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        message = f"{text!r} has not the form KEY=VALUE"
        raise click.UsageError(message)
    try:
        return key, json.loads(value)
    except (ValueError, RecursionError):
        return key, value
