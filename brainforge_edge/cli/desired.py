"""`cloud desired`: what boxes are to be, made, signed, set, and what they say of it. Runs in: the CLI process."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from brainforge_edge.cli.erase.shown import DAY_NS, encoded, issued_now, order_at, when
from brainforge_edge.cli.erase.signing import sign_order
from brainforge_edge.cli.number import Number
from brainforge_edge.cli.output import escaped, json_option, print_json, print_table
from brainforge_edge.cli.path import GivenPath

if TYPE_CHECKING:
    from brainforge_edge.security.desired import DesiredState
    from brainforge_edge.security.order import OrderFile

root_option = click.option(
    "--root", type=GivenPath(), required=True, help="The aggregator's folder."
)


@click.group()
def desired() -> None:
    """Say what boxes are to be from now on."""


@desired.command()
@click.option("--node", "nodes", multiple=True, required=True, help="A box that it is for.")
@click.option("--log-id", "log_ids", multiple=True, help="This log of the boxes alone; else all.")
@click.option("--aggregator", type=GivenPath(), help="Public key (.pem) to seal for.")
@click.option("--recovery", type=GivenPath(), help="… of the site's recovery.")
@click.option("--signer", type=GivenPath(), help="Public key (signer.pem) of receipts.")
@click.option("--days", type=Number(least=0.01, most=3660), default=90.0, show_default=True)
@click.option("--counter", type=click.IntRange(0, 2**62), help="Else the time in milliseconds.")
def request(
    *,
    nodes: tuple[str, ...],
    log_ids: tuple[str, ...],
    aggregator: Path | None,
    recovery: Path | None,
    signer: Path | None,
    days: float,
    counter: int | None,
) -> None:
    """Print a desired state that nobody has signed yet; it replaces the one before as a whole."""
    from brainforge_edge.core.ids import checked_name  # noqa: PLC0415 - --help stays light
    from brainforge_edge.recorder.sealing import public_key  # noqa: PLC0415
    from brainforge_edge.security.desired import (  # noqa: PLC0415
        AGGREGATOR,
        RECOVERY,
        DesiredState,
        SealState,
        new_desired,
    )
    from brainforge_edge.security.signfiles import verifier_at  # noqa: PLC0415

    for node in nodes:
        checked_name(node, "the node id")
    utc_ns = issued_now()
    seal = SealState(
        aggregator="" if aggregator is None else public_key(aggregator, AGGREGATOR).pem.decode(),
        recovery="" if recovery is None else public_key(recovery, RECOVERY).pem.decode(),
    )
    state = DesiredState(
        nodes=nodes,
        log_ids=tuple(log_id.lower() for log_id in log_ids),
        issued_utc_ns=utc_ns,
        expires_utc_ns=utc_ns + round(days * DAY_NS),
        counter=utc_ns // 1_000_000 if counter is None else counter,
        seal=seal,
        signer="" if signer is None else verifier_at(signer).pem.decode(),
    )
    click.echo(encoded(new_desired(state)), nl=False)


@desired.command()
@click.argument("state", type=GivenPath())
@click.option("--key", type=GivenPath(), required=True, help="The fleet's private key.")
@json_option
def sign(state: Path, *, key: Path, as_json: bool) -> None:
    """Put the fleet's signature under a desired state; it says first what you sign."""
    from brainforge_edge.security.desired import desired_statement  # noqa: PLC0415 - --help stays light

    file = order_at(state)
    sign_order(state, file, _lines(file, desired_statement(file)), key, most=1, as_json=as_json)


@desired.command("set")
@click.argument("state", type=GivenPath())
@root_option
@json_option
def set_(state: Path, *, root: Path, as_json: bool) -> None:
    """Have the aggregator tell boxes: it publishes within seconds, and with every link."""
    from brainforge_edge.cloud.store.outbound import Outbound  # noqa: PLC0415 - --help stays light
    from brainforge_edge.storage.files import SystemDisk  # noqa: PLC0415

    file = order_at(state)
    said = Outbound(root, SystemDisk()).set_desired(file)
    if as_json:
        print_json({"ok": True, "id": file.id, "version": said.counter, "nodes": said.nodes})
    else:
        click.echo(f"version {said.counter} is set for {', '.join(said.nodes)}")


@desired.command()
@root_option
@json_option
def show(*, root: Path, as_json: bool) -> None:
    """Show what is set for each box, and what the box said."""
    from brainforge_edge.cloud.store.outbound import Outbound  # noqa: PLC0415 - --help stays light
    from brainforge_edge.storage.files import SystemDisk  # noqa: PLC0415

    outbound = Outbound(root, SystemDisk())
    rows = []
    for node in outbound.nodes():
        found, said = outbound.desired(node), outbound.reported(node)
        if found is None:
            continue
        row: dict[str, Any] = {"node": node, "set": found.state.counter, "id": found.file.id}
        row |= {"stands": None, "since": None, "keys_left": None, "error": None, "why": None}
        if said is not None:
            applied = said.applied_utc_ns
            error = said.error if said.untaken is None else said.untaken.error
            row |= {
                "stands": said.version,
                "since": None if applied is None else when(applied),
                "keys_left": said.left,
                "error": None if error is None else error.get("code"),
                "why": None if error is None else error.get("why"),
            }
        rows.append(row)
    if as_json:
        print_json({"ok": True, "nodes": rows})
        return
    print_table(("node", "set", "stands", "since", "keys_left", "error", "why"), rows)


def _lines(file: "OrderFile", state: "DesiredState") -> Iterator[str]:
    """Everything that is signed."""
    from brainforge_edge.security.sign import read_verifier  # noqa: PLC0415 - --help stays light

    yield f"order         {file.id}: desired state"
    for label, names, every in (
        ("node", state.nodes, "(none)"),
        ("log id", state.log_ids, "(all of these nodes)"),
    ):
        for name in names or (every,):
            yield f"{label:12}  {escaped(name)}"
    named = {each.role: each.id for each in state.recipients()}
    for role in ("aggregator", "recovery"):
        yield f"{role:12}  {named.get(role, '(as the box is configured)')}"
    signer = read_verifier(state.signer.encode(), "signer").id if state.signer else ""
    yield f"receipts by   {signer or '(as the box is configured)'}"
    yield f"issued        {when(state.issued_utc_ns)}"
    yield f"expires       {when(state.expires_utc_ns)}"
    yield f"counter       {state.counter}"
