"""`--keys`, and how a command opens what is sealed. Runs in: the CLI process."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from brainforge_edge.recorder.chunk import Opener
    from brainforge_edge.recorder.keyring import Keyring
    from brainforge_edge.security.keystore import KeyStore

keys_option = click.option(
    "--keys",
    metavar="FOLDER|URI",
    help="Private keys for what is sealed: a folder of *.key, pkcs11:… or tpm2:…; else the box's own.",
)


def opener(recording: Path, keys: str | None) -> "Opener":
    """Opens chunks of a recording with its `keys` file and the private keys at hand."""
    return keyring(recording, keys).opened


def keyring(recording: Path, keys: str | None) -> "Keyring":
    from brainforge_edge.recorder.keyring import Keyring, in_folders  # noqa: PLC0415 - --help stays light
    from brainforge_edge.storage.files import SystemDisk  # noqa: PLC0415

    return Keyring(key_store(recording, keys), in_folders([recording], SystemDisk()))


def key_store(recording: Path, keys: str | None) -> "KeyStore":
    """The one that is named; else the box's own, and what systemd hands to this process."""
    from brainforge_edge.recorder.sealing import KEYS_FOLDER  # noqa: PLC0415
    from brainforge_edge.security.keystore import box_store, store_at  # noqa: PLC0415

    if keys is not None:
        return store_at(keys)
    return box_store(recording.absolute().parent.parent / KEYS_FOLDER)
