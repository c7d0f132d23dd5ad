"""`keys`: pairs of keys, who can open a recording, and for whom it is wrapped. Runs in: the CLI process."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from brainforge_edge.cli.keyring import keyring, keys_option
from brainforge_edge.cli.output import json_option, print_json, print_table
from brainforge_edge.cli.path import GivenPath
from brainforge_edge.cli.verify import recording_folders

if TYPE_CHECKING:
    from brainforge_edge.recorder.keyfile import DamagedKeys, FoundKeys
    from brainforge_edge.recorder.keyscraps import ErasedKey
    from brainforge_edge.security.wrap import KeyEntry

ROLES = ("aggregator", "recovery", "box")
SIGNER = "signer"  # the pair with which the aggregator signs: it opens nothing


@click.group()
def keys() -> None:
    """Make keys, show and change who can open recordings."""


@keys.command()
@click.argument("folder", type=GivenPath())
@click.option(
    "--role", type=click.Choice((*ROLES, SIGNER)), required=True, help="Whose pair it is."
)
@click.option("--tpm", "is_in_tpm", is_flag=True, help="Inside this machine's TPM 2.")
@click.option("--tcti", help="Where the TPM is.  [default: device:/dev/tpmrm0]")
@click.option(
    "--pcr",
    "pcrs",
    type=click.IntRange(0, 23),
    multiple=True,
    help="Bind it to what this PCR holds now; may be repeated.",
)
@json_option
def make(
    folder: Path,
    *,
    role: str,
    is_in_tpm: bool,
    tcti: str | None,
    pcrs: tuple[int, ...],
    as_json: bool,
) -> None:
    """Make a pair: ROLE.key (in a TPM: ROLE.tpm) stays where it is used, ROLE.pem goes to the boxes."""
    if (pcrs or tcti) and not is_in_tpm:
        raise click.UsageError("--tcti and --pcr are for a key in a TPM: give --tpm, too.")
    if is_in_tpm and role == SIGNER:
        raise click.UsageError("A signer's key (Ed25519) cannot be in a TPM.")
    from brainforge_edge.cli.pair import made_pair  # noqa: PLC0415 - --help stays light

    made = made_pair(folder, role, tpm=(tcti, pcrs) if is_in_tpm else None)
    if as_json:
        print_json({"ok": True, "id": made, "role": role, "folder": str(folder)})
    elif is_in_tpm:
        click.echo(
            f"{folder / role}.tpm is of use to this TPM alone, {folder / role}.pem ({made}) to all"
        )
    else:
        click.echo(f"{folder / role}.key is secret; {folder / role}.pem ({made}) is not")


@keys.command()
@click.argument("uri")
@click.option("--role", type=click.Choice(ROLES), required=True, help="Whose key it is.")
@click.argument("folder", type=GivenPath())
@json_option
def public(uri: str, folder: Path, *, role: str, as_json: bool) -> None:
    """Write the public half of a key in a token or TPM: ROLE.pem in FOLDER, for the boxes."""
    from brainforge_edge.security.keystore import held_at  # noqa: PLC0415 - --help stays light
    from brainforge_edge.security.wrap import Recipient  # noqa: PLC0415
    from brainforge_edge.storage.files import SystemDisk  # noqa: PLC0415

    held = held_at(uri)
    if held is None:
        raise click.BadParameter("expected pkcs11:… or tpm2:…", param_hint="'URI'")
    recipient = Recipient(role, held.public_pem())
    disk = SystemDisk()
    disk.make_folder(folder)
    disk.write_new(folder / f"{role}.pem", recipient.pem, 0o644)
    if as_json:
        print_json({"ok": True, "id": recipient.id, "role": role, "folder": str(folder)})
    else:
        click.echo(f"{folder / role}.pem ({recipient.id})")


@keys.command("list")
@click.argument("folder", type=GivenPath())
@json_option
def list_(folder: Path, *, as_json: bool) -> None:
    """Show the data keys of recordings and for whom each is wrapped."""
    rows: list[dict[str, str]] = []
    damaged: list[tuple[str, DamagedKeys]] = []
    for recording, said in _found(folder):
        if said.file is not None:
            rows += [_kept(recording, entry) for entry in said.file.keys]
            rows += [_erased(recording, gone) for gone in said.file.erased]
        damaged += [(recording.name, each) for each in said.damaged]
    if as_json:
        named = [{"recording": name, **each._asdict()} for name, each in damaged]
        print_json({"ok": True, "keys": rows, "damaged": named})
        return
    print_table(("recording", "key", "device", "participant", "wrapped_for"), rows)
    for name, each in damaged:
        click.echo(_named(name, each), err=True)


def _named(recording: str, file: "DamagedKeys") -> str:
    return f"{recording}/{file.name} is damaged ({file.why}); {file.n_read} keys were read in it"


def _kept(recording: Path, entry: "KeyEntry") -> dict[str, str]:
    return {
        "recording": recording.name,
        "key": entry.key_id,
        "device": entry.device,
        "participant": entry.participant,
        "wrapped_for": " ".join(f"{wrapped.role}:{wrapped.to}" for wrapped in entry.wrapped),
    }


def _erased(recording: Path, key: "ErasedKey") -> dict[str, str]:
    return {
        "recording": recording.name,
        "key": key.erased_key,
        "wrapped_for": f"nobody: erased by order {key.order}",
    }


@keys.command()
@click.argument("folder", type=GivenPath())
@click.option(
    "--for", "pem", type=GivenPath(), required=True, help="Public key (.pem) of who is added."
)
@click.option("--role", type=click.Choice(ROLES), default="aggregator", show_default=True)
@keys_option
@json_option
def rewrap(folder: Path, *, pem: Path, role: str, keys: str | None, as_json: bool) -> None:
    """Let one more recipient open recordings: of a box that was enrolled later, or after a new key."""
    from brainforge_edge.recorder.keyfile import change_keys  # noqa: PLC0415 - --help stays light
    from brainforge_edge.recorder.sealing import public_key  # noqa: PLC0415
    from brainforge_edge.security.wrap import with_recipient  # noqa: PLC0415
    from brainforge_edge.storage.files import SystemDisk  # noqa: PLC0415

    recipient = public_key(pem, role)
    counts: dict[str, int] = {}
    for recording, said in _found(folder):
        found = said.file
        if found is None:
            continue
        ring = keyring(recording, keys)
        opened = {
            entry.key_id: ring.key(found.log_id, bytes.fromhex(entry.key_id))
            for entry in found.keys
            if entry.wrapped_to(recipient.id) is None
        }
        done = change_keys(
            recording,
            found.log_id,
            SystemDisk(),
            lambda now, log_id=found.log_id, opened=opened: tuple(  # type: ignore[misc]
                with_recipient(entry, opened.get(entry.key_id), log_id, recipient) for entry in now
            ),
        )
        counts[recording.name] = len(opened)
        if done.set_aside is not None:
            click.echo(_named(recording.name, done.set_aside), err=True)
    if as_json:
        print_json({"ok": True, "recipient": recipient.id, "wrapped": counts})
        return
    for name, n in counts.items():
        click.echo(f"{name}: {n} keys wrapped for {role} {recipient.id}")


def _found(folder: Path) -> Iterator[tuple[Path, "FoundKeys"]]:
    """Recordings, with what their keys files say."""
    from brainforge_edge.recorder.keyfile import find_keys  # noqa: PLC0415 - --help stays light
    from brainforge_edge.storage.files import SystemDisk  # noqa: PLC0415

    for recording in recording_folders(folder):
        yield recording, find_keys(recording, SystemDisk())
