"""`logins`: who may log in at the bedside page. Runs in: the CLI process."""

import os
import sys
from pathlib import Path

import click

from brainforge_edge.cli.output import json_option, print_json
from brainforge_edge.cli.path import GivenPath

ROLES = ("viewer", "operator")


@click.group()
def logins() -> None:
    """Make logins for the bedside page."""


@logins.command()
@click.argument("file", type=GivenPath())
@click.argument("name")
@click.option(
    "--role", type=click.Choice(ROLES), required=True, help="May look, or start and stop, too."
)
@json_option
def add(file: Path, name: str, *, role: str, as_json: bool) -> None:
    """Add NAME to FILE, or give a new password; it is asked for, or is the first line of stdin."""
    from brainforge_edge.storage.files import SystemDisk  # noqa: PLC0415 - --help stays light
    from brainforge_edge.web.logins import Role, entry, read  # noqa: PLC0415

    made = entry(name, Role(role), _password(), random=os.urandom)
    lines = []
    if file.exists():
        read(file)  # a damaged one is not written over
        lines = [
            line for line in file.read_text(encoding="utf-8").splitlines() if _name(line) != name
        ]
    content = "\n".join([*lines, made, ""]).encode()
    SystemDisk().atomic_write(file, content)  # of the folder's owner, who is the daemon's user
    if as_json:
        print_json({"ok": True, "name": name, "role": role})
    else:
        click.echo(f"{name} may log in as {role}")


def _name(line: str) -> str:
    return line.split(" ", 1)[0]


def _password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    return str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
