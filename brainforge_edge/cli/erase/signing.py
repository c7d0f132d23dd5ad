"""A signature under an order in a file. Runs in: the CLI process."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from brainforge_edge.cli.erase.shown import encoded
from brainforge_edge.cli.output import print_json

if TYPE_CHECKING:
    from brainforge_edge.security.order import OrderFile


def sign_order(
    path: Path, file: "OrderFile", said: Iterable[str], key: Path, *, most: int, as_json: bool
) -> None:
    """Say what is signed, then sign; `most` signatures are needed."""
    from brainforge_edge.security.order import signed_by  # noqa: PLC0415 - --help stays light
    from brainforge_edge.security.signfiles import signer_at  # noqa: PLC0415
    from brainforge_edge.storage.files import SystemDisk  # noqa: PLC0415

    for line in said:
        click.echo(line, err=as_json)
    signer = signer_at(key)
    signed = signed_by(file, signer)
    SystemDisk().atomic_write(path, encoded(signed).encode())
    if as_json:
        ids = [each.signer for each in signed.signatures]
        print_json({"ok": True, "order": file.id, "signer": signer.id, "signers": ids})
        return
    n = len(signed.signatures)
    click.echo(f"signed by {signer.id}, {n} of {most} signature{'s' if most > 1 else ''}")
