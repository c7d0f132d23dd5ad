"""`enrol`: a box's certificate, from request to renewal. Runs in: the CLI process."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from brainforge_edge.cli.output import escaped, json_option, print_json
from brainforge_edge.cli.path import GivenPath
from brainforge_edge.core.config import load

if TYPE_CHECKING:
    from brainforge_edge.core.httpaddress import HttpAddress
    from brainforge_edge.fleet.enrol import Enrolment, Installed
    from brainforge_edge.security.enrolment import Token

config_option = click.option(
    "--config",
    type=GivenPath(),
    default=Path("/etc/brainforge/edge.toml"),
    show_default=True,
    help="The box's configuration, with [uplink.tls].",
)
_PLACED = {
    "same": "lies there already",
    "written": "written; restart the daemon for it",
    "replaced": "replaced the key that lay there; restart the daemon for it",
    "differs": "NOT written: another key lies there, and only an enrolment with a token replaces it",
    "not_named": "left out: the configuration names no file for it",
}
token_option = click.option(
    "--token-file", type=GivenPath(), help="File with the token of `cloud ca token`."
)


@click.group()
def enrol() -> None:
    """Get this box a certificate of its site, and renew it."""


@enrol.command()
@config_option
@token_option
@click.option("--renew", is_flag=True, help="Vouched for by the present certificate, not a token.")
@click.option("--out", type=GivenPath(), required=True, help="The request, for `cloud ca sign`.")
@json_option
def request(
    config: Path, *, token_file: Path | None, renew: bool, out: Path, as_json: bool
) -> None:
    """Make a new key, which stays here, and a request for its certificate."""
    if renew == (token_file is not None):
        raise click.UsageError("Give either --token-file or --renew.")
    made = _enrolment(config).request(_token(token_file))
    _write(out, made)
    if as_json:
        print_json({"ok": True, "request": str(out)})
    else:
        click.echo(
            f"{out}: have it signed (brainforge-edge cloud ca sign), then install the answer"
        )


@enrol.command()
@click.argument("answer", type=GivenPath())
@config_option
@token_option
@json_option
def install(answer: Path, *, config: Path, token_file: Path | None, as_json: bool) -> None:
    """Put the signed certificate in place; the next connection uses it."""
    from brainforge_edge.storage.files import SystemDisk  # noqa: PLC0415 - --help stays light

    data = SystemDisk().read_file(answer)
    _tell(_enrolment(config).install(data, _token(token_file)), as_json=as_json)


@enrol.command()
@config_option
@token_option
@click.option("--renew", is_flag=True, help="Vouched for by the present certificate, not a token.")
@click.option("--at", metavar="URL", help="http(s)://HOST:PORT, if not that of [uplink.tls] enrol.")
@click.option(
    "--ca",
    "trusted",
    type=GivenPath(),
    help="For https before there is a certificate: the site's ca.pem.",
)
@json_option
def now(
    config: Path,
    *,
    token_file: Path | None,
    renew: bool,
    at: str | None,
    trusted: Path | None,
    as_json: bool,
) -> None:
    """Make a key, have it signed by the site's authority and install the answer; again after a failure."""
    from brainforge_edge.fleet.authority import exchange  # noqa: PLC0415 - --help stays light

    if renew == (token_file is not None):
        raise click.UsageError("Give either --token-file or --renew.")
    made = _enrolment(config)
    address, ca = _address(config, at), trusted or made.ca
    done = made.now(_token(token_file), lambda request: exchange(address, request, ca=ca))
    _tell(done, as_json=as_json)


@enrol.command()
@config_option
@json_option
def status(config: Path, *, as_json: bool) -> None:
    """Show the certificate, and whether it is to be renewed."""
    from brainforge_edge.security.certificates import common_name, day  # noqa: PLC0415
    from brainforge_edge.security.renewal import renewal, renewal_time  # noqa: PLC0415

    own = _enrolment(config).certificate()
    said = renewal(own, datetime.now(UTC))
    if as_json:
        print_json(
            {
                "ok": True,
                "name": common_name(own),
                "serial": f"{own.serial_number:x}",
                "until": own.not_valid_after_utc.isoformat(),
                "renew_at": renewal_time(own).isoformat(),
                "renewal": said.value,
            }
        )
    else:
        until, then = day(own.not_valid_after_utc), day(renewal_time(own))
        click.echo(
            f"{common_name(own)}: valid until {until}, to be renewed from {then}: {said.value}"
        )


def _tell(done: "Installed", *, as_json: bool) -> None:
    from brainforge_edge.security.certificates import day  # noqa: PLC0415 - --help stays light

    until = done.certificate.not_valid_after_utc
    if as_json:
        error = None if done.error is None else done.error.as_dict()
        print_json({"ok": True, "until": until.isoformat(), "keys": done.keys, "error": error})
        return
    click.echo(f"enrolled until {day(until)}")
    for role, placed in done.keys.items():
        click.echo(f"{role}: {_PLACED[placed.value]}")
    if done.error is not None:
        click.echo(escaped(str(done.error)), err=True)


def _address(config: Path, at: str | None) -> "HttpAddress":
    from brainforge_edge.core.httpaddress import http_address  # noqa: PLC0415 - --help stays light

    given = at if at is not None else load(config).uplink.tls.enrol
    if not given:
        raise click.UsageError("Give --at, or the address in [uplink.tls] enrol.")
    address = http_address(given)
    if address is None:
        raise click.BadParameter("expected http(s)://HOST:PORT", param_hint="'--at'")
    return address


def _enrolment(config: Path) -> "Enrolment":
    from brainforge_edge.fleet.enrol import Enrolment  # noqa: PLC0415 - --help stays light
    from brainforge_edge.storage.files import SystemDisk  # noqa: PLC0415

    return Enrolment(load(config), SystemDisk())


def _token(path: Path | None) -> "Token | None":
    from brainforge_edge.security.enrolment import read_token  # noqa: PLC0415 - --help stays light
    from brainforge_edge.storage.files import SystemDisk  # noqa: PLC0415

    if path is None:
        return None
    return read_token(SystemDisk().read_file(path).decode("ascii", "replace"))


def _write(path: Path, data: bytes) -> None:
    from brainforge_edge.storage.files import SystemDisk  # noqa: PLC0415 - --help stays light

    SystemDisk().write_new(path, data, 0o644)
