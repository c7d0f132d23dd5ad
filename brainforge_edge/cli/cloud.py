"""`cloud run`: the aggregator in the foreground. Runs in: the ingest process, main thread.

`cloud restored` runs in the CLI process, not beside an aggregator.
"""

from pathlib import Path

import click

from brainforge_edge.cli.output import json_option, print_json
from brainforge_edge.cli.path import GivenPath
from brainforge_edge.core.errors import CloudError


@click.group()
def cloud() -> None:
    """Run the aggregator."""


@cloud.command()
@click.option("--root", type=GivenPath(), required=True, help="Where the store lies.")
@click.option("--broker", default="127.0.0.1:1883", show_default=True, help="HOST:PORT")
@click.option("--protocol", type=click.Choice(["5", "4"]), default="5", help="MQTT 5 or 3.1.1.")
def run(root: Path, broker: str, protocol: str) -> None:
    """Store what boxes send, until SIGTERM or Ctrl-C."""
    host, separator, port = broker.rpartition(":")
    if not host or not separator or not port.isdigit() or not 0 < int(port) < 65536:
        raise click.BadParameter("expected HOST:PORT", param_hint="'--broker'")

    from brainforge_edge.cloud.ingest.main import run as ingest  # noqa: PLC0415 - --help stays light
    from brainforge_edge.core import log  # noqa: PLC0415

    log.configure("ingest")
    ingest(root, host.strip("[]"), int(port), protocol=int(protocol))


@cloud.command()
@click.option("--root", type=GivenPath(), required=True, help="Where the store lies.")
@json_option
def restored(root: Path, *, as_json: bool) -> None:
    """Say that the store is a backup, so that boxes send again what it lacks."""
    from brainforge_edge.cloud.store.chunks import ChunkStore  # noqa: PLC0415 - --help stays light
    from brainforge_edge.codec import registry  # noqa: PLC0415

    if not (root / "catalogue.sqlite").is_file():
        raise CloudError(
            "no_store",
            f"{root} is no store",
            why="it holds no catalogue.sqlite",
            remedy="Put the backup there first, or name the aggregator's folder with --root",
        )
    store = ChunkStore(root, decode=registry.decode)
    try:
        generation = store.raise_generation()
    finally:
        store.close()
    if as_json:
        print_json({"ok": True, "generation": generation})
    else:
        click.echo(f"generation {generation}: every box compares when it hears from the aggregator")
