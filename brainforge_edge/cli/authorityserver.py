"""`cloud ca serve` and `cloud ca publish`: what boxes get without a stick. Runs in: `serve` in a process of its own, `publish` in the CLI process."""

import os
from pathlib import Path

import click

from brainforge_edge.cli.number import Number
from brainforge_edge.cli.output import json_option, print_json, print_table
from brainforge_edge.cli.path import GivenPath

root_option = click.option(
    "--root", type=GivenPath(), required=True, help="The aggregator's folder."
)


@click.command()
@root_option
@click.option("--listen", default="127.0.0.1:8480", show_default=True, help="HOST:PORT")
@click.option(
    "--days",
    type=Number(least=0.0001, most=3650),
    default=7.0,
    show_default=True,
    help="How long a box's certificate lives.",
)
@click.option("--tls-cert", type=GivenPath(), help="TLS: a certificate for servers.")
@click.option("--tls-key", type=GivenPath(), help="TLS: its key.")
def serve(
    root: Path, *, listen: str, days: float, tls_cert: Path | None, tls_key: Path | None
) -> None:
    """Sign what boxes send to POST /enrol, until SIGTERM or Ctrl-C."""
    host, separator, port = listen.rpartition(":")
    if not host or not separator or not port.isdigit() or int(port) > 65535:
        raise click.BadParameter("expected HOST:PORT", param_hint="'--listen'")
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("Give --tls-cert and --tls-key together.")

    from brainforge_edge.cloud.authority import server  # noqa: PLC0415 - --help stays light
    from brainforge_edge.cloud.authority.authority import Authority  # noqa: PLC0415
    from brainforge_edge.core import log  # noqa: PLC0415
    from brainforge_edge.storage.files import SystemDisk  # noqa: PLC0415

    authority = Authority(root, disk=SystemDisk(), random=os.urandom)
    authority.ledger()  # what cannot ever work is said at once
    authority.published()
    log.configure("authority")
    listening = server.listen(host.strip("[]"), int(port))
    tls = None if tls_cert is None or tls_key is None else (tls_cert, tls_key)
    server.serve(authority, listening, days=days, tls=tls)


@click.command()
@root_option
@click.option("--aggregator", type=GivenPath(), help="Public key (.pem) for which boxes seal.")
@click.option("--recovery", type=GivenPath(), help="… the one whose other half is kept offline.")
@click.option("--signer", type=GivenPath(), help="… of the aggregator's signatures.")
@json_option
def publish(
    root: Path,
    *,
    aggregator: Path | None,
    recovery: Path | None,
    signer: Path | None,
    as_json: bool,
) -> None:
    """Name the site's public keys that every answer brings along; show them."""
    from brainforge_edge.cloud.authority.authority import Authority  # noqa: PLC0415
    from brainforge_edge.security.sitekeys import key_id  # noqa: PLC0415
    from brainforge_edge.storage.files import SystemDisk  # noqa: PLC0415

    disk = SystemDisk()
    named = {"aggregator": aggregator, "recovery": recovery, "signer": signer}
    pems = {role: disk.read_file(path) for role, path in named.items() if path is not None}
    given = Authority(root, disk=disk, random=os.urandom).publish(pems).given()
    rows = [{"role": role, "id": key_id(role, pem)} for role, pem in given.items()]
    if as_json:
        print_json({"ok": True, "published": rows})
    else:
        print_table(("role", "id"), rows)
