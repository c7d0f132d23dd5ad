"""`erase`: an order to erase a participant, its two signatures, and its execution at a box. Runs in: the CLI process."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from brainforge_edge.cli.erase.outcome import publish
from brainforge_edge.cli.erase.shown import DAY_NS, encoded, issued_now, lines, order_at
from brainforge_edge.cli.erase.signing import sign_order
from brainforge_edge.cli.number import Number
from brainforge_edge.cli.output import json_option
from brainforge_edge.cli.path import GivenPath
from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.config import load

if TYPE_CHECKING:
    from brainforge_edge.security.order import Role, Signers


@click.group()
def erase() -> None:
    """Order that a participant is erased, sign the order, carry it out."""


@erase.command()
@click.option("--participant", default="", help="Pseudonym: `subject` of a device.")
@click.option("--recording", "recordings", multiple=True, help="This one alone; else all.")
@click.option("--node", "nodes", multiple=True, help="A box that it is for.")
@click.option("--aggregator", is_flag=True, help="It is for the aggregator, too.")
@click.option("--log-id", "log_ids", multiple=True, help="This log of the boxes alone; else all.")
@click.option("--reason", required=True, help="Stands in the order and in what was done.")
@click.option("--days", type=Number(least=0.01, most=366), default=7.0, show_default=True)
@click.option("--counter", type=click.IntRange(0, 2**62), help="Else the time in milliseconds.")
def request(
    *,
    participant: str,
    recordings: tuple[str, ...],
    nodes: tuple[str, ...],
    aggregator: bool,
    log_ids: tuple[str, ...],
    reason: str,
    days: float,
    counter: int | None,
) -> None:
    """Print an order that nobody has signed yet."""
    from brainforge_edge.core.ids import checked_name  # noqa: PLC0415 - --help stays light
    from brainforge_edge.security.order import AGGREGATOR, EraseOrder, new_order  # noqa: PLC0415

    for name, what in [
        *((name, "the node id") for name in nodes),
        *((name, "the recording") for name in recordings),
        *([(participant, "the participant")] if participant else []),
    ]:
        checked_name(name, what)
    if not nodes:
        raise click.UsageError("Give --node for each box that recorded.")
    utc_ns = issued_now()
    order = EraseOrder(
        participant=participant,
        recordings=recordings,
        nodes=(*nodes, *([AGGREGATOR] if aggregator else [])),
        log_ids=tuple(log_id.lower() for log_id in log_ids),
        reason=reason,
        issued_utc_ns=utc_ns,
        expires_utc_ns=utc_ns + round(days * DAY_NS),
        counter=utc_ns // 1_000_000 if counter is None else counter,
    )
    click.echo(encoded(new_order(order)), nl=False)


@erase.command()
@click.argument("order", type=GivenPath())
@click.option("--key", type=GivenPath(), required=True, help="Your private key (signer.key).")
@json_option
def sign(order: Path, *, key: Path, as_json: bool) -> None:
    """Put your signature under an order; it says first what you sign."""
    from brainforge_edge.security.order import statement  # noqa: PLC0415 - --help stays light

    file = order_at(order)
    sign_order(order, file, lines(file, statement(file)), key, most=2, as_json=as_json)


@erase.command()
@click.argument("order", type=GivenPath())
@click.option(
    "--config",
    type=GivenPath(),
    default=Path("/etc/brainforge/edge.toml"),
    show_default=True,
    help="The box's configuration, with [orders].",
)
@click.option(
    "--signer", type=GivenPath(), help="Private key that signs the list of what was done."
)
@json_option
def run(order: Path, *, config: Path, signer: Path | None, as_json: bool) -> None:
    """Carry an order out at this box, as the daemon's user or root."""
    from brainforge_edge.fleet.erasure import BoxErasure  # noqa: PLC0415 - --help stays light
    from brainforge_edge.fleet.orders import Orders, configured_signers  # noqa: PLC0415
    from brainforge_edge.recorder.log import read_log_id  # noqa: PLC0415
    from brainforge_edge.security.signfiles import signer_at  # noqa: PLC0415
    from brainforge_edge.storage.files import SystemDisk  # noqa: PLC0415
    from brainforge_edge.storage.openfiles import open_below  # noqa: PLC0415

    edge, disk = load(config), SystemDisk()
    root = Path(edge.node.root)
    signing = None if signer is None else signer_at(signer)
    file = order_at(order)
    log_id = read_log_id(root / "recordings", disk)
    utc_ns = SystemClock().utc_ns()
    orders = Orders(root, configured_signers(edge.orders), disk)
    said = orders.begin(file, node=edge.node.id, log_id=log_id.hex(), utc_ns=utc_ns)
    erasure = BoxErasure(
        root / "recordings",
        said,
        order_id=file.id,
        utc_ns=utc_ns,
        disk=disk,
        written=lambda folder: [each.path for each in open_below(folder) if each.is_written],
    )
    erasure.run()
    publish(
        root, file, said, node=edge.node.id, signer=signing, utc_ns=utc_ns, disk=disk,
        erased=erasure.erased, not_reached=erasure.not_reached, as_json=as_json,
    )  # fmt: skip
    orders.done(file)


def signers_of(named: Sequence[tuple["Role", Path]]) -> "Signers":
    from brainforge_edge.security.order import Signers  # noqa: PLC0415 - --help stays light
    from brainforge_edge.security.signfiles import verifier_at  # noqa: PLC0415

    return Signers([(role, verifier_at(path)) for role, path in named])
