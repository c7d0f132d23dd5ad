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
    if certificate := reply.get("certificate"):
        click.echo(certificate_sentence(certificate))
    click.echo(disk_sentence(reply.get("disk") or {}))
    if freed := (reply.get("keeper") or {}).get("freed"):
        size = amount(int(reply["keeper"]["freed_bytes"]))
        click.echo(f"retention: {freed} segments ({size}) that lie at the aggregator were freed")


_HELD_BACK = {
    "no_aggregator_key": "the box knows no key of the aggregator; name one under [seal]",
    "not_for_aggregator": "sealed before the aggregator's key was known; see `keys rewrap`",
    "not_sealed": "recorded in the clear, and the box seals; see `export`",
    "no_keys": "their key is in no keys file",
    "erased": "their key was erased",
}


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
    why = f" ({uplink['why']})" if uplink.get("why") else ""
    link = f"connected to {where}"
    if not uplink.get("connected"):
        link = f"no broker{why}, tries again by itself"
    elif why:
        link += f", but {uplink['why']}"
    said = [f"uplink: {link}", waiting]
    if refused:
        said.append(f"{refused} chunks were refused")
    for reason, n in (uplink.get("held_back") or {}).items():
        said.append(f"{n} chunks are kept here: {_HELD_BACK.get(reason, reason)}")
    if uplink.get("forged"):
        said.append(f"{uplink['forged']} messages were not the aggregator's and were ignored")
    if denied := sum((uplink.get("denied") or {}).values()):
        said.append(f"{denied} closed segments are not in the aggregator's store as they are here")
    return "; ".join(said)


_RENEWAL = {
    "not_yet": "to be renewed later",
    "due": "to be renewed now",
    "expired": "expired",
    "unknown": "when it is to be renewed cannot be told",
}


def certificate_sentence(certificate: dict[str, Any]) -> str:
    """How this box's name at the broker stands."""
    until = certificate.get("until")
    said = ["certificate: none that could be used"]
    if until:
        by = "by itself" if certificate.get("by_itself") else "by brainforge-edge enrol"
        said = [f"certificate: until {str(until)[:16].replace('T', ' ')} UTC"]
        said.append(f"{_RENEWAL.get(str(certificate.get('renewal')), '?')}, {by}")
    if error := certificate.get("error"):
        said.append(str(from_dict(error)))
    return "; ".join(said)


_PRESSURE = {
    "alarm": "free space soon",
    "no_derived": "derived products are not made any more",
    "no_recording": "no new recording begins",
    "full": "a recording that is open is closed",
}


def disk_sentence(disk: dict[str, Any]) -> str:
    """How much fits still."""
    free = amount(int(disk.get("free_bytes") or 0))
    hours = disk.get("hours_left")
    said = _PRESSURE.get(str(disk.get("pressure")), "")
    return (
        f"disk: {free} free"
        + (f", {hours:g} hours of recording at least" if hours else "")
        + (f"; {disk.get('used_percent')} % full: {said}" if said else "")
    )


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
