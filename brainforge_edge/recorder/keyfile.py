"""The `keys` file of a recording: data keys, wrapped to public keys. Runs in: acquire and agent process; tools.

It lies beside the segments and never in them, so that whoever erases it makes every copy of them
unreadable; hence what it held before a change is overwritten. One that is damaged never keeps rows
from being recorded: it is set aside as `keys.damaged-N`, and what can be read of it is used on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.garbled import GARBLED
from brainforge_edge.kernels.crc import crc32c
from brainforge_edge.recorder import keyscraps
from brainforge_edge.recorder.keyscraps import ErasedKey
from brainforge_edge.security.wrap import KeyEntry
from brainforge_edge.storage.files import Disk
from brainforge_edge.storage.wipe import replace_wiped

KEYS_FILE = "keys"
DAMAGED_KEYS_PREFIX = "keys.damaged-"
SUITE_NAME = "HPKE base: DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM"
UNKNOWN = "?"  # participant of an entry of which it cannot be read any more; no name
_CHECK = b',\n "crc": '


class KeysFile(msgspec.Struct, frozen=True):
    """JSON; binary values are base64. The last line but one, `crc`, is the CRC-32C of what stands before it."""

    log_id: bytes
    keys: tuple[KeyEntry, ...] = ()
    format: int = 1
    suite: str = SUITE_NAME
    erased: tuple[ErasedKey, ...] = ()


class Changed(NamedTuple):
    """What is to be told of a change that was made."""

    set_aside: "DamagedKeys | None"  # under its new name
    unwiped: StorageError | None  # what kept the bytes of before from being overwritten


class DamagedKeys(NamedTuple):
    """A `keys` file that is not as it was written."""

    name: str
    why: str
    n_read: int  # keys that were read in it all the same


@dataclass(frozen=True, slots=True)
class FoundKeys:
    """All that the files of a recording say."""

    file: KeysFile | None  # None where nothing was sealed
    damaged: tuple[DamagedKeys, ...]


_decoder = msgspec.json.Decoder(KeysFile)  # see core/stream.py


def read_keys(folder: Path, disk: Disk) -> KeysFile | None:
    """The keys of a recording, as far as any file has them; None where nothing was sealed."""
    return find_keys(folder, disk).file


def find_keys(folder: Path, disk: Disk) -> FoundKeys:
    """The same, and which files are damaged. StorageError only where the folder cannot be read."""
    names = disk.names(folder)
    sound: KeysFile | None = None
    damaged: list[DamagedKeys] = []
    entries: dict[str, KeyEntry] = {}
    erased: dict[str, ErasedKey] = {}
    log_id = b""
    for name in [n for n in (KEYS_FILE,) if n in names] + set_aside(names):
        data, why = _bytes_of(folder / name, disk)
        if name == KEYS_FILE:
            sound, data, why = _sound(folder / name, data, why, disk)
        if name == KEYS_FILE and sound is not None:
            entries = {entry.key_id: entry for entry in sound.keys}
            erased = {each.erased_key: each for each in sound.erased}
            continue
        found = keyscraps.scraps(data)
        erased.update({each.erased_key: each for each in keyscraps.erased_keys(data)})
        log_id = log_id or keyscraps.log_id_of(data)
        for scrap in found:
            said = KeyEntry(scrap.key_id, _whose(scrap), scrap.device, scrap.wrapped)
            entries[scrap.key_id] = _joined(entries.get(scrap.key_id), said)
        damaged.append(DamagedKeys(name, why or "it was set aside", len(found)))
    if sound is None and not damaged:
        return FoundKeys(None, ())
    kept = tuple(entry for key_id, entry in entries.items() if key_id not in erased)
    base = sound or KeysFile(log_id)
    merged = msgspec.structs.replace(base, keys=kept, erased=tuple(erased.values()))
    return FoundKeys(merged, tuple(damaged))


def add_key(folder: Path, entry: KeyEntry, log_id: bytes, disk: Disk) -> Changed:
    """On the disk when this returns; several processes record into one recording."""
    return change_keys(folder, log_id, disk, lambda keys: (*keys, entry))


def change_keys(
    folder: Path,
    log_id: bytes,
    disk: Disk,
    change: Callable[[tuple[KeyEntry, ...]], tuple[KeyEntry, ...]],
    *,
    erased: tuple[ErasedKey, ...] = (),
) -> Changed:
    """All entries at once, under the lock of the recordings root; on the disk when this returns.

    Those that are `erased`, now or before, are left out, whatever `change` says. Bytes of before that
    could not be overwritten are tried again at the next change.
    """
    disk.make_folder(folder)
    with disk.exclusive(folder.parent / ".lock"):
        found = find_keys(folder, disk)
        damaged = _set_damaged_aside(folder, found, log_id, disk)
        known = found.file or KeysFile(log_id)
        gone = {each.erased_key: each for each in (*known.erased, *erased)}
        kept = tuple(entry for entry in change(known.keys) if entry.key_id not in gone)
        text = _packed(KeysFile(log_id, kept, erased=tuple(gone.values())))
        failed = replace_wiped(folder / KEYS_FILE, text, disk)
    return Changed(damaged, failed)


def set_aside(names: list[str]) -> list[str]:
    """Those of damaged keys files."""
    return [name for name in names if name.startswith(DAMAGED_KEYS_PREFIX)]


def read_damaged(path: Path, disk: Disk) -> bytes:
    """What can be read of a damaged file: nothing where its sector cannot be."""
    return _bytes_of(path, disk)[0]


def _set_damaged_aside(
    folder: Path, found: FoundKeys, log_id: bytes, disk: Disk
) -> DamagedKeys | None:
    damaged = next((each for each in found.damaged if each.name == KEYS_FILE), None)
    if damaged is None and KEYS_FILE in disk.names(folder) and found.file is not None:
        if found.file.log_id == log_id:
            return None
        damaged = DamagedKeys(KEYS_FILE, "it belongs to another log", len(found.file.keys))
    if damaged is None:
        return None
    numbers = [name.rpartition("-")[2] for name in set_aside(disk.names(folder))]
    number = 1 + max((int(each) for each in numbers if each.isdigit()), default=0)
    name = f"{DAMAGED_KEYS_PREFIX}{number}"
    disk.rename(folder / KEYS_FILE, folder / name)
    return damaged._replace(name=name)


def _bytes_of(path: Path, disk: Disk) -> tuple[bytes, str]:
    """What is in a file, and why nothing is: a sector that cannot be read is damage like any other."""
    try:
        return disk.read_file(path), ""
    except StorageError as error:
        if error.code != "storage.io":
            raise
        return b"", error.why


def _sound(path: Path, data: bytes, why: str, disk: Disk) -> tuple[KeysFile | None, bytes, str]:
    """The file if it is whole; else its bytes, and what is wrong. One that was replaced while it was
    read, and overwritten, is read again: readers take no lock."""
    while not why:
        try:
            return _decoded(data), data, ""
        except ValueError as error:
            again, _ = _bytes_of(path, disk)
            if again == data:
                why = str(error)
            data = again
    return None, data, why


def _whose(scrap: keyscraps.Scrap) -> str:
    return UNKNOWN if scrap.participant is None else scrap.participant


def _packed(file: KeysFile) -> bytes:
    body = msgspec.json.format(msgspec.json.encode(file), indent=1)[: -len(b"\n}")]
    return body + _CHECK + b"%d\n}\n" % crc32c(body)


def _decoded(data: bytes) -> KeysFile:
    """ValueError says what is wrong. A file without `crc` is of before there was one."""
    body, mark, tail = data.rpartition(_CHECK)
    if mark and tail != b"%d\n}\n" % crc32c(body):
        raise ValueError("its bytes are not those that its CRC was made of")
    try:
        found = _decoder.decode(data)
    except GARBLED as error:
        raise ValueError(str(error)) from error
    if found.format != 1:
        raise ValueError(f"its format is {found.format}, this program reads 1")
    return found


def _joined(known: KeyEntry | None, more: KeyEntry) -> KeyEntry:
    """The entry with the recipients of both."""
    if known is None:
        return more
    new = tuple(each for each in more.wrapped if known.wrapped_to(each.to) is None)
    return msgspec.structs.replace(known, wrapped=(*known.wrapped, *new)) if new else known
