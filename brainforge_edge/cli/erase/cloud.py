"""`cloud erase`: an order carried out at the aggregator, also while it runs. Runs in: the CLI process."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from brainforge_edge.cli.erase.outcome import publish
from brainforge_edge.cli.erase.shown import order_at
from brainforge_edge.cli.erase.verb import signers_of
from brainforge_edge.cli.output import json_option
from brainforge_edge.cli.path import GivenPath
from brainforge_edge.core.clock import SystemClock

if TYPE_CHECKING:
    from brainforge_edge.security.order import Role


@click.command()
@click.argument("order", type=GivenPath())
@click.option("--root", type=GivenPath(), required=True, help="Where the store lies.")
@click.option("--fleet", type=GivenPath(), required=True, help="Public key of the fleet's signer.")
@click.option("--clinician", type=GivenPath(), required=True, help="… of the clinician.")
@click.option(
    "--signer", type=GivenPath(), help="Private key that signs the list of what was done."
)
@json_option
def erase(
    order: Path,
    *,
    root: Path,
    fleet: Path,
    clinician: Path,
    signer: Path | None,
    as_json: bool,
) -> None:
    """Carry an order to erase out at the aggregator."""
    from brainforge_edge.cloud.store.erasure import (  # noqa: PLC0415 - --help stays light
        StoreErasure,
        check_store,
    )
    from brainforge_edge.fleet.orders import Orders  # noqa: PLC0415
    from brainforge_edge.security.order import AGGREGATOR  # noqa: PLC0415
    from brainforge_edge.security.signfiles import signer_at  # noqa: PLC0415
    from brainforge_edge.storage.files import SystemDisk  # noqa: PLC0415

    disk = SystemDisk()
    signing = None if signer is None else signer_at(signer)
    named: list[tuple[Role, Path]] = [("fleet", fleet), ("clinician", clinician)]
    file = order_at(order)
    utc_ns = SystemClock().utc_ns()
    check_store(root)  # before the order counts as begun there
    orders = Orders(root, signers_of(named), disk)
    said = orders.begin(file, node=AGGREGATOR, log_id=None, utc_ns=utc_ns)
    erasure = StoreErasure(root, said, order_id=file.id, utc_ns=utc_ns, disk=disk)
    erasure.run()
    publish(
        root, file, said, node=AGGREGATOR, signer=signing, utc_ns=utc_ns, disk=disk,
        erased=erasure.erased, not_reached=erasure.not_reached, as_json=as_json,
    )  # fmt: skip
    orders.done(file)
