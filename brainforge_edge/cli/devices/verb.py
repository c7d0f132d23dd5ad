"""`devices`: what is plugged in, in the air and on the network. Runs in: the CLI process."""

from pathlib import Path

import click

from brainforge_edge.cli.devices.binding import alias, bind, forget
from brainforge_edge.cli.number import Number
from brainforge_edge.cli.output import json_option
from brainforge_edge.cli.target import daemon_options

_LINKS = ("serial", "ble", "lsl", "network")


def _links(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in value.split(",") if word.strip())
    wrong = [word for word in words if word not in _LINKS]
    if wrong or not words:
        message = f"{value!r} is not a list of {', '.join(_LINKS)}."
        raise click.BadParameter(message, ctx, param)
    return words


@click.group(invoke_without_command=True)
@daemon_options
@click.option(
    "--seconds",
    type=Number(least=0.1, most=600),
    default=5.0,
    show_default=True,
    help="Bluetooth and LSL are listened to for this long; with --watch a round lasts so long.",
)
@click.option(
    "--link",
    "links",
    default=",".join(_LINKS),
    show_default=True,
    callback=_links,
    help="Only these, separated by commas.",
)
@click.option("--no-ble", is_flag=True, help="Leave Bluetooth out.")
@click.option(
    "--at", "addresses", multiple=True, metavar="tcp://HOST:PORT", help="Ask there too; or udp://."
)
@click.option(
    "--probe", is_flag=True, help="Open serial ports that nobody uses and ask who is there."
)
@click.option("--all", "shows_all", is_flag=True, help="Also Bluetooth devices of no known kind.")
@click.option("--watch", is_flag=True, help="Look again and again until Ctrl-C.")
@json_option
@click.pass_context
def devices(
    ctx: click.Context,
    config: Path | None,
    run_folder: Path | None,
    *,
    seconds: float,
    links: tuple[str, ...],
    no_ble: bool,
    addresses: tuple[str, ...],
    probe: bool,
    shows_all: bool,
    watch: bool,
    as_json: bool,
) -> None:
    """List the devices in reach; bind, forget, name them."""
    if ctx.invoked_subcommand is not None:
        return
    from brainforge_edge.cli.devices.listing import Listing  # noqa: PLC0415  --help stays light

    listing = Listing(
        config=config,
        run_folder=run_folder,
        seconds=seconds,
        links=tuple(link for link in links if not (no_ble and link == "ble")),
        addresses=addresses,
        probe=probe,
        shows_all=shows_all,
    )
    if watch:
        listing.watch(as_json=as_json)
    else:
        listing.show(as_json=as_json)


for command in (bind, forget, alias):
    devices.add_command(command)
