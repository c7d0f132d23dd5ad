"""`status`: what the daemon does, once. Runs in: the CLI process."""

from pathlib import Path
from typing import Any

import click

from brainforge_edge.cli.client import request
from brainforge_edge.cli.output import json_option, print_json, print_table
from brainforge_edge.cli.target import daemon_options, daemon_socket
from brainforge_edge.core.errors import from_dict

_STREAM_COLUMNS = (
    "stream_id",
    "state",
    "reason",
    "sfreq",
    "n_channels",
    "head",
    "written",
    "durable",
    "durable_age_ms",
    "recorded",
    "gaps",
    "gap_samples",
    "log_bytes",
)


@click.command()
@daemon_options
@json_option
def status(config: Path | None, run_folder: Path | None, *, as_json: bool) -> None:
    """Show what the daemon does."""
    reply = request(daemon_socket(config, run_folder), "status")
    if as_json:
        print_json(reply)
        return
    click.echo(f"node {reply.get('node')}   recording {reply.get('recording') or 'none'}")
    print_table(("name", "state", "pid", "restarts"), reply.get("workers", []))
    for sentence in _troubles(reply.get("workers", [])):
        click.echo(sentence)
    print_table(_STREAM_COLUMNS, reply.get("streams", []))
    click.echo(uplink_sentence(reply.get("uplink") or {}))
    click.echo(disk_sentence(reply.get("disk") or {}))


def uplink_sentence(uplink: dict[str, Any]) -> str:
    """How delivery stands."""
    if not uplink:
        return "uplink: off"
    if "lag_chunks" not in uplink:
        return "uplink: starts"
    lag = int(uplink.get("lag_chunks") or 0)
    waiting = (
        f"{lag} chunks ({amount(int(uplink.get('lag_bytes') or 0))}) wait, "
        f"the oldest for {uplink.get('lag_s') or 0:g} s"
        if lag
        else "everything that was archived is delivered"
    )
    refused = int(uplink.get("quarantined") or 0)
    where = f"{uplink.get('broker')} (MQTT {'5' if uplink.get('protocol') == 5 else '3.1.1'})"
    link = (
        f"connected to {where}" if uplink.get("connected") else "no broker, tries again by itself"
    )
    return f"uplink: {link}; {waiting}" + (f"; {refused} chunks were refused" if refused else "")


def disk_sentence(disk: dict[str, Any]) -> str:
    """How much fits still."""
    free = amount(int(disk.get("free_bytes") or 0))
    hours = disk.get("hours_left")
    return f"disk: {free} free" + (f", {hours:g} hours of recording at least" if hours else "")


def amount(n: int) -> str:
    """Bytes as a person reads them, in powers of 1000."""
    size = float(n)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _troubles(workers: list[dict[str, Any]]) -> list[str]:
    """One sentence for each error that stands; that of a worker's last end only until it runs."""
    found = []
    for worker in workers:
        recording = worker.get("recording") or {}
        ended = None if worker.get("state") == "running" else worker.get("fault")
        errors = (worker.get("error"), recording.get("error"), recording.get("fault"), ended)
        found += [f"{worker['name']}: {from_dict(error)}" for error in errors if error]
    return list(dict.fromkeys(found))
