"""`cloud ca`: the site's certificate authority. Runs in: the CLI process."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from brainforge_edge.cli.authorityserver import publish, root_option, serve
from brainforge_edge.cli.output import json_option, print_json, print_table
from brainforge_edge.cli.path import GivenPath
from brainforge_edge.core.errors import StorageError

if TYPE_CHECKING:
    from brainforge_edge.cloud.authority.authority import Authority


@click.group()
def ca() -> None:
    """The site's certificates: make the authority, invite boxes, sign, revoke."""


ca.add_command(serve)
ca.add_command(publish)


@ca.command()
@root_option
@click.option("--site", default="brainforge site", show_default=True, help="Name of the authority.")
@click.option("--days", type=click.FloatRange(1, 36_500), default=3650.0, show_default=True)
@json_option
def init(root: Path, *, site: str, days: float, as_json: bool) -> None:
    """Make the authority: its key never leaves ROOT/ca."""
    from brainforge_edge.cloud.authority.authority import Authority  # noqa: PLC0415
    from brainforge_edge.storage.files import SystemDisk  # noqa: PLC0415

    made = Authority.create(root, site, now=_now(), days=days, disk=SystemDisk(), random=os.urandom)
    if as_json:
        print_json({"ok": True, "folder": str(made.folder)})
    else:
        click.echo(f"{made.folder / 'ca.key'} is secret: keep a copy of the folder offline")


@ca.command()
@click.argument("node")
@root_option
@click.option("--minutes", type=click.FloatRange(1, 1440), default=15.0, show_default=True)
@json_option
def token(node: str, *, root: Path, minutes: float, as_json: bool) -> None:
    """Print a token with which the box NODE can enrol once."""
    made = _authority(root).invite(node, now=_now(), minutes=minutes)
    if as_json:
        print_json({"ok": True, "node": node, "token": made.text})
    else:
        click.echo(made.text)


@ca.command()
@click.argument("request", type=GivenPath())
@root_option
@click.option("--out", type=GivenPath(), required=True, help="The answer, for `enrol install`.")
@click.option("--days", type=click.FloatRange(0.01, 3650), default=7.0, show_default=True)
@json_option
def sign(request: Path, *, root: Path, out: Path, days: float, as_json: bool) -> None:
    """Sign the request of a box that has a token, or a certificate that still holds."""
    from brainforge_edge.security.certificates import day  # noqa: PLC0415 - --help stays light
    from brainforge_edge.storage.files import SystemDisk  # noqa: PLC0415

    disk = SystemDisk()
    if out.exists():  # else the token would be used up for nothing
        raise StorageError(
            "exists",
            f"nothing was signed into {out}",
            why="it is there already",
            remedy="Name another file with --out",
        )
    answer, issued = _authority(root).sign(disk.read_file(request), now=_now(), days=days)
    disk.write_new(out, answer, 0o644)
    if as_json:
        print_json({"ok": True, "node": issued.name, "serial": issued.serial})
    else:
        click.echo(f"{out}: {issued.name} until {day(issued.until)}, serial {issued.serial}")


@ca.command()
@click.argument("role", type=click.Choice(["aggregator", "broker"]))
@root_option
@click.option(
    "--host", "hosts", multiple=True, help="Name or address under which a broker is reached."
)
@click.option(
    "--out", type=GivenPath(), required=True, help="Folder for key, certificate and ca.pem."
)
@click.option("--days", type=click.FloatRange(0.01, 3650), default=90.0, show_default=True)
@json_option
def issue(
    role: str, *, root: Path, hosts: tuple[str, ...], out: Path, days: float, as_json: bool
) -> None:
    """Make key and certificate of the aggregator or a broker, in place of those in the folder."""
    from brainforge_edge.cloud.authority.ledger import replace  # noqa: PLC0415
    from brainforge_edge.security.certificates import Role, day, key_pem, pem  # noqa: PLC0415
    from brainforge_edge.storage.files import SystemDisk  # noqa: PLC0415

    if (role == "broker") != bool(hosts):
        raise click.UsageError("Give --host for a broker, as boxes call it, and for nothing else.")
    authority, disk = _authority(root), SystemDisk()
    key, made = authority.issue(Role(role), now=_now(), days=days, hosts=hosts)
    disk.make_folder(out)
    replace(out / f"{role}.key", key_pem(key), 0o600, disk)
    replace(out / f"{role}.pem", pem(made), 0o644, disk)
    replace(out / "ca.pem", pem(authority.certificate), 0o644, disk)
    if as_json:
        print_json({"ok": True, "folder": str(out), "until": made.not_valid_after_utc.isoformat()})
    else:
        click.echo(f"{out / role}.key and .pem: until {day(made.not_valid_after_utc)}")


@ca.command()
@click.argument("name_or_serial")
@root_option
@json_option
def revoke(name_or_serial: str, *, root: Path, as_json: bool) -> None:
    """Take back all certificates of a box, or the one with a serial number."""
    found = _authority(root).revoke(name_or_serial, now=_now())
    if as_json:
        print_json({"ok": True, "revoked": [each.serial for each in found]})
        return
    for each in found:
        click.echo(f"{each.name}: {each.serial} revoked")
    click.echo("brokers know it after brainforge-edge cloud broker-config and a restart")


@ca.command("list")
@root_option
@json_option
def list_(root: Path, *, as_json: bool) -> None:
    """Show every certificate that was issued."""
    now = _now()
    rows = [
        {
            "name": each.name,
            "role": each.role.value,
            "serial": each.serial,
            "until": each.until.isoformat(timespec="minutes"),
            "state": "revoked"
            if each.revoked
            else "valid"
            if each.is_valid_at(now)
            else "not valid now",
        }
        for each in _authority(root).ledger().issued
    ]
    if as_json:
        print_json({"ok": True, "certificates": rows})
    else:
        print_table(("name", "role", "serial", "until", "state"), rows)


def _authority(root: Path) -> "Authority":
    from brainforge_edge.cloud.authority.authority import Authority  # noqa: PLC0415
    from brainforge_edge.storage.files import SystemDisk  # noqa: PLC0415

    return Authority(root, disk=SystemDisk(), random=os.urandom)


def _now() -> datetime:
    return datetime.now(UTC)
