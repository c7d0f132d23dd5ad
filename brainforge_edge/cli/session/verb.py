"""`session`: start, stop and look at bedside sessions. Runs in: the CLI process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from brainforge_edge.cli.client import request
from brainforge_edge.cli.number import Number
from brainforge_edge.cli.output import json_option, print_json
from brainforge_edge.cli.session.picture import check_lines, lines
from brainforge_edge.cli.target import daemon_options, daemon_socket
from brainforge_edge.core.errors import ExitStatus

Command = TypeVar("Command", bound=Callable[..., Any])

ASK_S = 45.0  # longer than the daemon waits for its agent
_MODES = ("record", "feedback", "dual")

by_option = click.option("--by", required=True, help="Who does it: a role or initials.")


@click.group()
def session() -> None:
    """Start, stop and look at a bedside session."""


def _worn(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    worn: dict[str, str] = {}
    for value in values:
        device, equals, participant = value.partition("=")
        if not equals or not device or device in worn:
            message = f"{value!r} is not DEVICE=PSEUDONYM, or names a device twice."
            raise click.BadParameter(message, ctx, param)
        worn[device] = participant
    return worn


def _planned(command: Command) -> Command:
    """Options of a session that is to be."""
    options = (
        click.argument("protocol"),
        click.argument("worn", nargs=-1, metavar="DEVICE=PSEUDONYM...", callback=_worn),
        click.option("--mode", type=click.Choice(_MODES), default="dual", show_default=True),
        click.option(
            "--duration",
            type=Number(least=-1e9, most=1e9),
            help="Seconds; else as long as the protocol.",
        ),
        by_option,
        daemon_options,
        json_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


def _ask(config: Path | None, run_folder: Path | None, do: str, **given: object) -> dict[str, Any]:
    return request(
        daemon_socket(config, run_folder), "session", timeout_s=ASK_S, do=do, **given
    )  # fmt: skip


def _show(reply: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(reply)
        return
    for line in lines(reply):
        click.echo(line)


@session.command()
@_planned
def preflight(
    protocol: str,
    worn: dict[str, str],
    mode: str,
    duration: float | None,
    by: str,
    config: Path | None,
    run_folder: Path | None,
    *,
    as_json: bool,
) -> int:
    """Say whether a session may start, and what to do where it may not; exit status 1 if not."""
    reply = _ask(
        config, run_folder, "look", protocol=protocol, devices=worn, mode=mode,
        duration=duration, by=by,
    )  # fmt: skip
    if as_json:
        print_json(reply)
    else:
        for line in check_lines(reply):
            click.echo(line)
    return int(ExitStatus.OK if reply["may_start"] else ExitStatus.FAILED)


@session.command()
@_planned
def start(
    protocol: str,
    worn: dict[str, str],
    mode: str,
    duration: float | None,
    by: str,
    config: Path | None,
    run_folder: Path | None,
    *,
    as_json: bool,
) -> None:
    """Start a session with a protocol, on devices that participants wear."""
    reply = _ask(
        config, run_folder, "start", protocol=protocol, devices=worn, mode=mode,
        duration=duration, by=by,
    )  # fmt: skip
    _show(reply, as_json=as_json)


@session.command()
@daemon_options
@json_option
def status(config: Path | None, run_folder: Path | None, *, as_json: bool) -> None:
    """Show how the session stands, and how the last one ended."""
    _show(_ask(config, run_folder, "status"), as_json=as_json)


def _plain(name: str, do: str, text: str) -> None:
    """A verb that needs nothing but who does it."""

    @session.command(name, help=text, short_help=text)
    @by_option
    @daemon_options
    @json_option
    def verb(by: str, config: Path | None, run_folder: Path | None, *, as_json: bool) -> None:
        _show(_ask(config, run_folder, do, by=by), as_json=as_json)


_plain("stop", "stop", "End the session; it is saved.")
_plain("hand-over", "hand_over", "Nobody wears anything any more: the next participant may come.")
_plain("emergency-stop", "emergency_stop", "End the session at once; none starts before `release`.")
_plain("release", "release", "Release the emergency stop.")
_plain("acknowledge", "acknowledge", "Say that a failed session was looked at.")
_plain("save-again", "save_again", "Try to save a session that could not be saved.")


def _of_participant(name: str, do: str, text: str) -> None:
    """A verb about one participant."""

    @session.command(name, help=text, short_help=text)
    @click.argument("participant")
    @by_option
    @daemon_options
    @json_option
    def verb(
        participant: str, by: str, config: Path | None, run_folder: Path | None, *, as_json: bool
    ) -> None:
        _show(_ask(config, run_folder, do, participant=participant, by=by), as_json=as_json)


_of_participant("consent", "consent", "Note that a participant has agreed.")
_of_participant(
    "withdraw", "withdraw", "Note that a participant does not agree any more; the devices stop."
)


@session.command()
@click.argument("session_id")
@click.argument("device")
@click.argument("participant")
@click.option("--reason", required=True, help="What was wrong.")
@by_option
@daemon_options
@json_option
def correct(
    session_id: str,
    device: str,
    participant: str,
    reason: str,
    by: str,
    config: Path | None,
    run_folder: Path | None,
    *,
    as_json: bool,
) -> None:
    """Note that somebody else wore a device in a session that is over; both pseudonyms are kept."""
    reply = _ask(
        config, run_folder, "correct", session=session_id, device=device,
        participant=participant, reason=reason, by=by,
    )  # fmt: skip
    if as_json:
        print_json(reply)
    else:
        worn = reply["worn"]
        click.echo(f"{device}: recorded as {worn['recorded']}, noted as {worn['corrected']}")
