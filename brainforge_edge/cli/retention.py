"""`retention`: what is here, what may go and why the rest waits. Runs in: the CLI process; reads files, needs no daemon."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from brainforge_edge.cli.output import json_option, print_json, print_table
from brainforge_edge.cli.path import GivenPath
from brainforge_edge.cli.status import amount
from brainforge_edge.core.errors import ExitStatus

if TYPE_CHECKING:
    from brainforge_edge.core.config import EdgeConfig
    from brainforge_edge.core.errors import BrainforgeError
    from brainforge_edge.fleet.retention import Holding

_COLUMNS = ("recording", "segments", "size", "attested", "freed", "kept because")


@click.command()
@click.option(
    "--config",
    type=GivenPath(),
    default=Path("/etc/brainforge/edge.toml"),
    show_default=True,
    help="The box's configuration, with [retention].",
)
@json_option
def retention(config: Path, *, as_json: bool) -> ExitStatus:
    """Show what may be freed, and why the rest waits."""
    from brainforge_edge.core.config import load  # noqa: PLC0415 - --help stays light

    edge = load(config)
    holdings, unreadable = _holdings(edge)
    rows = [_described(*found) for found in holdings]
    if as_json:
        settings = {"enabled": edge.retention.enabled, "keep_days": edge.retention.keep_days}
        errors = [error.as_dict() for error in unreadable]
        print_json({"ok": not errors, **settings, "recordings": rows, "errors": errors})
    else:
        click.echo(_setting(edge))
        if rows:
            print_table(_COLUMNS, [_for_people(row) for row in rows])
        elif not unreadable:
            click.echo("nothing is recorded yet")
        for error in unreadable:
            click.echo(str(error), err=True)
    return unreadable[0].exit_status if unreadable else ExitStatus.OK


def _setting(edge: "EdgeConfig") -> str:
    if not edge.retention.enabled:
        return "retention is off: nothing is freed but what an operator releases"
    return (
        f"retention is on: attested segments are freed after {edge.retention.keep_days:g} days, "
        f"earlier from {edge.disk.alarm_percent:g} % of the disk on"
    )


def _holdings(
    edge: "EdgeConfig",
) -> tuple[list[tuple["Holding", list[tuple[str, int]]]], list["BrainforgeError"]]:
    """Recordings, and what could not be read."""
    from brainforge_edge.core.clock import SystemClock  # noqa: PLC0415 - --help stays light
    from brainforge_edge.core.errors import StorageError  # noqa: PLC0415
    from brainforge_edge.fleet.retention import read_holding, waits  # noqa: PLC0415
    from brainforge_edge.recorder.catalog import list_recordings  # noqa: PLC0415
    from brainforge_edge.recorder.desiredfile import now_receipt_signer  # noqa: PLC0415
    from brainforge_edge.recorder.log import read_log_id  # noqa: PLC0415
    from brainforge_edge.recorder.signers import known_signers  # noqa: PLC0415
    from brainforge_edge.storage.files import SystemDisk  # noqa: PLC0415
    from brainforge_edge.uplink.cursor import delivered_bytes  # noqa: PLC0415

    root, disk = Path(edge.node.root), SystemDisk()
    unreadable: list[BrainforgeError] = []
    recordings = list_recordings(
        root / "recordings", disk, lambda _, error: unreadable.append(error)
    )
    if not recordings:
        return [], unreadable
    log_id = read_log_id(root / "recordings", disk)
    verifier = now_receipt_signer(edge.uplink.signer, root, disk)
    verifiers = known_signers(root, disk, unreadable.append)
    if verifier is not None:
        verifiers[verifier.id] = verifier
    delivered = delivered_bytes(root / "uplink.sqlite")
    utc_ns = SystemClock().utc_ns()
    found = []
    for recording in recordings:
        try:
            holding = read_holding(
                recording, log_id=log_id, verifier=verifier, verifiers=verifiers, disk=disk
            )
        except StorageError as error:
            unreadable.append(error)
            continue
        behind = {e.segment_id for e in holding.chained if delivered.get(e.segment_id, 0) < e.size}
        undelivered = behind - holding.attested.keys() if edge.uplink.enabled else set()
        found.append((holding, waits(holding, edge.retention, utc_ns, undelivered)))
    return found, unreadable


def _described(holding: "Holding", waiting: list[tuple[str, int]]) -> dict[str, Any]:
    return {
        "recording": holding.recording.name,
        "closed": holding.recording.is_closed,
        "segments": len(holding.chained) + holding.unchained,
        "bytes": sum(holding.sizes.values()),
        "attested": len(holding.attested),
        "freed": len(holding.freed),
        "freed_bytes": sum(line.size for line in holding.freed),
        "freed_unproven": len(holding.unproven),
        "waits": [{"why": why, "segments": n} for why, n in waiting],
    }


def _for_people(row: dict[str, Any]) -> dict[str, Any]:
    waiting = row["waits"]
    is_one = len(waiting) == 1
    words = [each["why"] if is_one else f"{each['segments']} {each['why']}" for each in waiting]
    if row["freed_unproven"]:
        words.append(f"{row['freed_unproven']} were freed without evidence")
    freed = f"{row['freed']} ({amount(row['freed_bytes'])})" if row["freed"] else "0"
    return {
        **row,
        "size": amount(row["bytes"]),
        "freed": freed,
        "kept because": ", ".join(words) or "-",
    }
