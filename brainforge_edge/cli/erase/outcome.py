"""What an erasure did: kept beside the recordings or the store, signed, and shown. Runs in: the CLI process."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from brainforge_edge.cli.output import print_json, print_table

if TYPE_CHECKING:
    from brainforge_edge.security.erasure import Erased, NotReached
    from brainforge_edge.security.order import EraseOrder, OrderFile
    from brainforge_edge.security.sign import Signer
    from brainforge_edge.storage.files import Disk


def publish(
    root: Path,
    file: "OrderFile",
    order: "EraseOrder",
    *,
    node: str,
    erased: "Sequence[Erased]",
    not_reached: "Sequence[NotReached]",
    signer: "Signer | None",
    utc_ns: int | None,
    disk: "Disk",
    as_json: bool,
) -> None:
    """On the disk before it is shown, and before the order counts as done."""
    import msgspec  # noqa: PLC0415 - --help stays light

    from brainforge_edge.fleet.erasurelist import keep_list, list_path  # noqa: PLC0415

    done, signed = keep_list(
        root, file, order, node=node, erased=erased, not_reached=not_reached, signer=signer,
        utc_ns=utc_ns, disk=disk,
    )  # fmt: skip
    path = list_path(root, file.id)
    if as_json:
        said = msgspec.to_builtins(done)
        print_json({"ok": True, **said, "signer": signed.signer, "file": str(path)})
        return
    click.echo(f"order {file.id} was carried out at {node}: {len(done.erased)} erased")
    print_table(("kind", "recording", "what"), [msgspec.to_builtins(each) for each in done.erased])
    if done.not_reached:
        click.echo("\nnot reached:")
        rows = [msgspec.to_builtins(each) for each in done.not_reached]
        print_table(("kind", "recording", "what", "why"), rows)
    click.echo("\nbeyond the reach of any software:")
    for limit in done.limits:
        click.echo(f"  {limit}")
    by = f"signed by {signed.signer}" if signed.signer else "not signed: no --signer was given"
    click.echo(f"{path}: {by}")
