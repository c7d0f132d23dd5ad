"""`cloud job`: signed orders on their way to boxes, and what became of them. Runs in: the CLI process."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from brainforge_edge.cli.desired import root_option
from brainforge_edge.cli.erase.shown import order_at, when
from brainforge_edge.cli.output import json_option, print_json, print_table
from brainforge_edge.cli.path import GivenPath
from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.errors import BrainforgeError

if TYPE_CHECKING:
    from brainforge_edge.cloud.store.outbound import Job, Outbound


@click.group()
def job() -> None:
    """Have boxes carry signed orders out."""


@job.command()
@click.argument("order", type=GivenPath())
@root_option
@json_option
def add(order: Path, *, root: Path, as_json: bool) -> None:
    """Have the aggregator publish an order to the boxes that it names."""
    from brainforge_edge.cloud.store.outbound import Outbound  # noqa: PLC0415 - --help stays light
    from brainforge_edge.storage.files import SystemDisk  # noqa: PLC0415

    file = order_at(order)
    said = Outbound(root, SystemDisk()).add_job(file)
    if as_json:
        print_json({"ok": True, "job": file.id, "nodes": said.nodes})
    else:
        click.echo(f"job {file.id} is for {', '.join(said.nodes)}")


@job.command("list")
@root_option
@json_option
def list_(*, root: Path, as_json: bool) -> None:
    """Show every job at every box: unanswered, waiting, begun, done, refused, expired."""
    from brainforge_edge.cloud.store.outbound import Outbound  # noqa: PLC0415 - --help stays light
    from brainforge_edge.storage.files import SystemDisk  # noqa: PLC0415

    outbound = Outbound(root, SystemDisk())
    rows: list[dict[str, Any]] = []
    for job_id, found in outbound.all_jobs():
        if isinstance(found, BrainforgeError):
            rows.append(
                {"job": job_id, "state": "unreadable", "error": found.code, "why": found.why}
            )
        else:
            rows += _rows(root, outbound, found)
    if as_json:
        print_json({"ok": True, "jobs": rows})
        return
    columns = ("job", "kind", "node", "state", "when", "erased", "not_reached", "error", "why")
    print_table(columns, rows)


def _rows(root: Path, outbound: "Outbound", found: "Job") -> Iterator[dict[str, Any]]:
    from brainforge_edge.fleet.erasurelist import list_path  # noqa: PLC0415 - --help stays light

    utc_ns = SystemClock().utc_ns()
    is_over = utc_ns is not None and utc_ns >= found.order.expires_utc_ns
    for node in found.order.nodes:
        row: dict[str, Any] = {"job": found.file.id, "kind": found.order.kind, "node": node}
        said = outbound.status(found.file.id, node)
        if node not in found.boxes:
            is_done = list_path(root, found.file.id).is_file()
            yield row | {"state": "done" if is_done else "by `cloud erase`"}
            continue
        if said is None or (is_over and said.state in {"waiting", "begun"}):
            row["state"] = "expired" if is_over else "unanswered"
        else:
            row["state"] = said.state
        if said is not None:
            error = said.error or {}
            row |= {"when": None if said.utc_ns is None else when(said.utc_ns)}
            row |= {"error": error.get("code"), "why": error.get("why"), **_counts(said.done)}
            row["list"] = said.done or None
        yield row


def _counts(done: str) -> dict[str, int]:
    import msgspec  # noqa: PLC0415 - --help stays light

    from brainforge_edge.core.garbled import GARBLED  # noqa: PLC0415
    from brainforge_edge.security.erasure import Erasure, SignedErasure  # noqa: PLC0415

    if not done:
        return {}
    try:
        signed = msgspec.json.decode(done, type=SignedErasure)
        said = msgspec.json.decode(signed.body, type=Erasure)
    except GARBLED:
        return {}
    return {"erased": len(said.erased), "not_reached": len(said.not_reached)}
