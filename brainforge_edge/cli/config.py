"""`config check`: refuse a wrong configuration before the daemon does. Runs in: the CLI process."""

from pathlib import Path

import click

from brainforge_edge.cli.output import json_option, print_json
from brainforge_edge.cli.path import GivenPath
from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.config import EdgeConfig, load
from brainforge_edge.core.errors import SecurityError


@click.group()
def config() -> None:
    """Check a configuration."""


@config.command()
@click.argument("file", type=GivenPath())
@click.option(
    "--start",
    is_flag=True,
    help="As the daemon does: without the box's private key, and files of others, who may come later or be spoilt.",
)
@json_option
def check(file: Path, *, start: bool, as_json: bool) -> None:
    """Check every key of a configuration, the drivers' own included."""
    edge = load(file)
    _check_devices(edge)
    notes = [*_check_keys(edge, own_alone=start), *stream_notes(edge)]
    if not start:
        _check_signer(edge)
        _check_orders(edge)
        _check_certificate(edge)
        _check_own_key(edge)
    if as_json:
        devices = [d.name for d in edge.device]
        print_json({"ok": True, "node": edge.node.id, "devices": devices, "notes": notes})
    else:
        names = ", ".join(device.name for device in edge.device) or "no device"
        click.echo(f"{file}: in order ({edge.node.id}: {names})")
        for note in notes:
            click.echo(f"note: {note}")


def _check_keys(edge: EdgeConfig, *, own_alone: bool) -> list[str]:
    """What is in order, and perhaps not what was meant."""
    sends = edge.uplink.enabled
    if not edge.seal.enabled:
        return ["rows are recorded in the clear" + (", and sent so" if sends else "")]
    from brainforge_edge.recorder.sealing import configured  # noqa: PLC0415 - --help stays light

    configured(edge.seal, own_alone=own_alone)
    notes = []
    if sends and not edge.seal.aggregator:
        notes.append("the box seals for itself alone and sends nothing: name seal.aggregator")
    if edge.seal.token and not edge.seal.recovery:
        notes.append(
            "what the aggregator does not have is lost with the key in the token or TPM, "
            "of which there is no copy: name seal.recovery"
        )
    return notes


def stream_notes(edge: EdgeConfig) -> list[str]:
    """Of tables for streams that no device of this box can have: an id begins with its device's name."""
    devices = tuple(f"{device.name}-" for device in edge.device)
    named = [(f"pipeline.stream[{i}].id", t.id) for i, t in enumerate(edge.pipeline.stream)]
    named += [
        (f"pipeline.stream[{i}].motion", t.motion)
        for i, t in enumerate(edge.pipeline.stream)
        if t.motion
    ]
    return [
        f"{path} is {stream_id!r}, and no device here has such a stream"
        for path, stream_id in named
        if not stream_id.startswith(devices)
    ]


def _check_own_key(edge: EdgeConfig) -> None:
    if not edge.seal.enabled:
        return
    from brainforge_edge.recorder.sealing import prove_own  # noqa: PLC0415 - --help stays light

    prove_own(edge.seal)


def _check_signer(edge: EdgeConfig) -> None:
    if not edge.uplink.signer:
        return
    from brainforge_edge.security.signfiles import verifier_at  # noqa: PLC0415 - --help stays light

    verifier_at(Path(edge.uplink.signer))


def _check_orders(edge: EdgeConfig) -> None:
    """Not before a start: whoever is to sign orders, a box records without any."""
    from brainforge_edge.fleet.orders import configured_signers  # noqa: PLC0415 - --help stays light
    from brainforge_edge.security.signfiles import signer_at  # noqa: PLC0415

    if edge.orders.signers:
        configured_signers(edge.orders)
    if edge.orders.list_signer:
        signer_at(Path(edge.orders.list_signer))


def _check_certificate(edge: EdgeConfig) -> None:
    """Dates are not looked at: they are the broker's to judge, and a box may have no clock yet.

    Not before a start: it is the uplink's alone, and after a power cut in a renewal it does not fit its key
    until the agent has run.
    """
    from brainforge_edge.security.certificates import common_name  # noqa: PLC0415 - --help stays light
    from brainforge_edge.security.tls import TlsFiles  # noqa: PLC0415

    files = TlsFiles.of(edge.uplink.tls)
    if files is None:
        return
    name = common_name(files.own())
    files.check_revocations()
    if name != edge.node.id:
        raise SecurityError(
            "certificate_name",
            f"the certificate {files.certificate} cannot be used",
            why=f"it is of {name!r}, and this box is {edge.node.id!r}: the broker would drop all that it sends",
            remedy="Correct node.id, or enrol the box under its name",
        )


def _check_devices(edge: EdgeConfig) -> None:
    if not edge.device:
        return
    from brainforge_edge.devices import registry  # noqa: PLC0415 - --help stays light

    for device in edge.device:
        registry.make_driver(device, clock=SystemClock())  # touches no port before `open`
