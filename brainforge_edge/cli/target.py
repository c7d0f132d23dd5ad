"""The options with which a verb finds its daemon. Runs in: the CLI process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from brainforge_edge.cli.client import socket_path
from brainforge_edge.cli.path import GivenPath

Command = TypeVar("Command", bound=Callable[..., Any])


def daemon_options(command: Command) -> Command:
    """Add `--config` and `--run`; the verb gets them as `config` and `run_folder`."""
    with_run = click.option(
        "--run",
        "run_folder",
        type=GivenPath(),
        help="Run folder of the daemon (its control socket lies there).",
    )(command)
    return click.option(
        "--config",
        type=GivenPath(),
        help="Configuration that the daemon runs with.",
    )(with_run)


def daemon_socket(config: Path | None, run_folder: Path | None) -> Path:
    """The control socket that the options name."""
    return socket_path(config, run_folder)
