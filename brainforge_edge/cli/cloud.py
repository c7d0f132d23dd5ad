"""`cloud run`: the aggregator in the foreground. Runs in: the ingest process, main thread.

`cloud restored` runs in the CLI process, not beside an aggregator.
"""

import os
from datetime import UTC, datetime
from pathlib import Path

import click

from brainforge_edge.cli.authority import ca
from brainforge_edge.cli.desired import desired
from brainforge_edge.cli.erase.cloud import erase
from brainforge_edge.cli.job import job
from brainforge_edge.cli.output import json_option, print_json
from brainforge_edge.cli.path import GivenPath
from brainforge_edge.core.errors import CloudError, SecurityError


@click.group()
def cloud() -> None:
    """Run the aggregator."""


@cloud.command()
@click.option("--root", type=GivenPath(), required=True, help="Where the store lies.")
@click.option("--broker", default="127.0.0.1:1883", show_default=True, help="HOST:PORT")
@click.option("--protocol", type=click.Choice(["5", "4"]), default="5", help="MQTT 5 or 3.1.1.")
@click.option(
    "--keys",
    metavar="FOLDER|URI",
    help="The aggregator's private key, to compare sealed chunks that overlap: a folder, pkcs11:… or tpm2:…",
)
@click.option(
    "--signer", type=GivenPath(), help="Private key (signer.key) that signs what boxes are told."
)
@click.option("--tls-ca", type=GivenPath(), help="TLS: certificate of the site's authority.")
@click.option("--tls-cert", type=GivenPath(), help="TLS: the aggregator's certificate.")
@click.option("--tls-key", type=GivenPath(), help="TLS: its key.")
def run(
    root: Path,
    broker: str,
    protocol: str,
    keys: str | None,
    signer: Path | None,
    tls_ca: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
) -> None:
    """Store what boxes send, until SIGTERM or Ctrl-C."""
    host, separator, port = broker.rpartition(":")
    if not host or not separator or not port.isdigit() or not 0 < int(port) < 65536:
        raise click.BadParameter("expected HOST:PORT", param_hint="'--broker'")

    from brainforge_edge.cloud.ingest.main import run as ingest  # noqa: PLC0415 - --help stays light
    from brainforge_edge.core import log  # noqa: PLC0415
    from brainforge_edge.security.signfiles import signer_at  # noqa: PLC0415
    from brainforge_edge.security.tls import TlsFiles  # noqa: PLC0415

    tls = None
    if tls_ca is not None and tls_cert is not None and tls_key is not None:
        tls = TlsFiles(tls_ca, tls_cert, tls_key)
        tls.own()  # what cannot ever work is said at once
    elif tls_ca or tls_cert or tls_key:
        raise click.UsageError("Give --tls-ca, --tls-cert and --tls-key together.")
    signing = None if signer is None else signer_at(signer)
    log.configure("ingest")
    ingest(
        root, host.strip("[]"), int(port),
        protocol=int(protocol), keys=keys, tls=tls, signer=signing,
    )  # fmt: skip


cloud.add_command(ca)
cloud.add_command(erase)
cloud.add_command(desired)
cloud.add_command(job)


@cloud.command("broker-config")
@click.option("--root", type=GivenPath(), required=True, help="The aggregator's folder.")
@click.option("--for", "kind", type=click.Choice(["mosquitto", "nats"]), required=True)
@click.option("--host", default="", help="Address to listen at; all if left out.")
@click.option("--port", type=click.IntRange(1, 65_535), default=8883, show_default=True)
@click.option("--at", "place", type=GivenPath(), help="Where the broker will find the files.")
@json_option
def broker_config(
    root: Path, *, kind: str, host: str, port: int, place: Path | None, as_json: bool
) -> None:
    """Write ROOT/broker: configuration, access list, who is revoked."""
    from brainforge_edge.cloud.authority.authority import Authority  # noqa: PLC0415
    from brainforge_edge.cloud.broker import config  # noqa: PLC0415
    from brainforge_edge.security.certificates import AGGREGATOR_NAME, Role  # noqa: PLC0415
    from brainforge_edge.storage.files import SystemDisk  # noqa: PLC0415

    disk, now = SystemDisk(), datetime.now(UTC)
    authority = Authority(root, disk=disk, random=os.urandom)
    folder = root / "broker"
    if "broker.pem" not in disk.names(folder):
        raise SecurityError(
            "no_broker_certificate",
            f"no configuration was written to {folder}",
            why="the broker has no certificate there",
            remedy=f"Make one: brainforge-edge cloud ca issue broker --host NAME --root {root} --out {folder}",
        )
    ledger = authority.ledger()
    if kind == "nats" and AGGREGATOR_NAME not in ledger.names(Role.AGGREGATOR, now):
        raise SecurityError(
            "no_aggregator",
            f"no configuration was written to {folder}",
            why="the aggregator has no certificate, or one was revoked that nats-server would take until it expires",
            remedy="Issue one (brainforge-edge cloud ca issue aggregator); after a theft use mosquitto, or a new authority",
        )
    at = place or folder.absolute()
    trust = config.Trust(
        ca=at / "ca.pem",
        certificate=at / "broker.pem",
        key=at / "broker.key",
        revoked=at / "revoked.pem",
        aggregator=AGGREGATOR_NAME,
        nodes=ledger.names(Role.NODE, now),
    )
    listener = config.Listener(host, port, trust=trust)
    files = {"revoked.pem": authority.revoked(now=now)}
    if kind == "mosquitto":
        files["acl"] = config.access_list(trust.aggregator).encode()
        files["mosquitto.conf"] = config.mosquitto(listener, at / "acl").encode()
    else:
        files["nats-server.conf"] = config.nats(listener, at / "jetstream").encode()
    for name, data in files.items():
        disk.atomic_write(folder / name, data)
    if as_json:
        print_json({"ok": True, "folder": str(folder), "files": sorted(files)})
    else:
        click.echo(f"{folder}: {', '.join(sorted(files))}; restart the broker with them")


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
