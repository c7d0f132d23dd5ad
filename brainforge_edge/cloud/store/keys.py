"""Wrapped data keys of every log, one small file each, so that each can be erased. Runs in: ingest, writer thread; readers.

They lie beside the store and not in its catalogue: what SQLite deletes stays in its files for a while.
Where one was erased lies `<key id>.erased`: a box that sends it again is not heard. `erase` runs in
the CLI process, also beside an ingest.
"""

from pathlib import Path

import msgspec

from brainforge_edge.core import log
from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.garbled import GARBLED
from brainforge_edge.core.wire import MOST_RECIPIENTS, SealedKey
from brainforge_edge.recorder.keyscraps import ErasedKey
from brainforge_edge.security.seal import KEY_ID_BYTES, is_key_id
from brainforge_edge.security.wrap import KeyEntry, WrappedKey
from brainforge_edge.storage.files import Disk, SystemDisk
from brainforge_edge.storage.wipe import finish_wiping, replace_wiped, wipe

MOST_WRAPPED = 1024  # bytes of one
MOST_NAME = 64
MOST_KEPT = 4 * MOST_RECIPIENTS  # recipients of one key: those of decades, a few of every change
MOST_KEYS = (
    1 << 18
)  # of one log, erased ones, too: 1 GiB of small files; a box makes some dozen a day

ENTRY_SUFFIX = ".json"
ERASED_SUFFIX = ".erased"
_SUFFIXES = (ENTRY_SUFFIX, ERASED_SUFFIX)

_log = log.get()
_decoder = msgspec.json.Decoder(KeyEntry)  # see core/stream.py
_erased_decoder = msgspec.json.Decoder(ErasedKey)


class KeyShelf:
    """`root`/keys/<log id>/<key id>.json."""

    def __init__(self, root: Path, *, disk: Disk | None = None, most_keys: int = MOST_KEYS) -> None:
        self._folder = root / "keys"
        self._disk = disk or SystemDisk()
        self._known: dict[tuple[bytes, str], KeyEntry | ErasedKey] = {}
        self._most_keys = most_keys  # of one log
        self._n: dict[bytes, int] = {}  # keys of a log, once counted

    def find(self, log_id: bytes, key_id: str) -> KeyEntry | ErasedKey | None:
        """The entry of a key, or that it was erased; StorageError if its file is damaged."""
        known = self._known.get((log_id, key_id))
        if known is None:
            known = self._erased(log_id, key_id) or self._read(log_id, key_id)
            if known is not None:
                self._known[(log_id, key_id)] = known
        return known

    def ids(self, log_id: bytes) -> list[str]:
        """Of every key of a log, erased ones, too."""
        names = [Path(name) for name in self._disk.names(self._folder / log_id.hex())]
        return sorted({name.stem for name in names if _is_of_key(name)})

    def strays(self, log_id: bytes) -> list[str]:
        """Names beside those of keys that `add` and `erase` do not give: a copy made by hand, perhaps."""
        return [
            name
            for name in self._disk.names(self._folder / log_id.hex())
            if not name.startswith(".") and not _is_of_key(Path(name))
        ]

    def add(self, log_id: bytes, entry: KeyEntry) -> str:
        """On the disk when this returns ""; else why it is not taken: `erased_key`, `too_many_recipients`,
        `too_many_keys`. One that is known is replaced only by one with more recipients."""
        path = self._path(log_id, entry.key_id)
        self._disk.make_folder(path.parent)
        with self._disk.exclusive(self._folder / ".lock"):
            gone = self._erased(log_id, entry.key_id)  # perhaps by another process, a moment ago
            if gone is not None:
                self._known[(log_id, entry.key_id)] = gone
                return "erased_key"
            known = self.find(log_id, entry.key_id)
            if isinstance(known, KeyEntry):
                more = {wrapped.to for wrapped in entry.wrapped} - {w.to for w in known.wrapped}
                if not more:
                    return ""
                new = tuple(wrapped for wrapped in entry.wrapped if wrapped.to in more)
                if len(known.wrapped) + len(new) > MOST_KEPT:
                    return "too_many_recipients"
                entry = msgspec.structs.replace(known, wrapped=known.wrapped + new)
            elif self._counted(log_id) >= self._most_keys:
                return "too_many_keys"
            else:
                self._n[log_id] += 1
            failed = replace_wiped(path, msgspec.json.encode(entry), self._disk)
        if (
            failed is not None
        ):  # the next one that is added for this key, or its erasure, tries again
            _log.warning("old key not overwritten yet", key_id=entry.key_id, error=str(failed))
        self._known[(log_id, entry.key_id)] = entry
        return ""

    def erase(self, log_id: bytes, gone: ErasedKey) -> None:
        """The entry is overwritten and removed, after it is on the disk that it must not come back."""
        path = self._path(log_id, gone.erased_key)
        self._disk.make_folder(path.parent)
        with self._disk.exclusive(self._folder / ".lock"):
            if self._erased(log_id, gone.erased_key) is None:
                mark = path.with_suffix(ERASED_SUFFIX)
                self._disk.atomic_write(mark, msgspec.json.encode(gone))
            finish_wiping(path, self._disk)
            if path.name in self._disk.names(path.parent):
                wipe(path, self._disk)
        self._known[(log_id, gone.erased_key)] = gone

    def _counted(self, log_id: bytes) -> int:
        if log_id not in self._n:
            self._n[log_id] = len(self.ids(log_id))
        return self._n[log_id]

    def _read(self, log_id: bytes, key_id: str) -> KeyEntry | ErasedKey | None:
        try:
            return self._entry(log_id, key_id)
        except StorageError:
            gone = self._erased(log_id, key_id)  # while it was read
            if gone is None:
                raise
            return gone

    def _entry(self, log_id: bytes, key_id: str) -> KeyEntry | None:
        path = self._path(log_id, key_id)
        if path.name not in self._disk.names(path.parent):
            return None
        try:
            return _decoder.decode(self._disk.read_file(path))
        except GARBLED as error:
            raise StorageError(
                "keys_damaged",
                f"{path} cannot be used",
                why=str(error),
                remedy="Remove it: the box sends it again with its next chunk",
            ) from error

    def _erased(self, log_id: bytes, key_id: str) -> ErasedKey | None:
        path = self._path(log_id, key_id).with_suffix(ERASED_SUFFIX)
        if path.name not in self._disk.names(path.parent):
            return None
        try:
            return _erased_decoder.decode(self._disk.read_file(path))
        except GARBLED:
            return ErasedKey(key_id, None, "")  # that it is there says enough

    def _path(self, log_id: bytes, key_id: str) -> Path:
        if not is_key_id(
            key_id
        ):  # a box may have written anything: never a way out of its own folder
            raise StorageError(
                "key_id",
                "a data key was not looked for",
                why=f"{key_id!r} is no id of one: those are {KEY_ID_BYTES} bytes in hex",
                remedy="Look at the box that sent it",
            )
        return self._folder / log_id.hex() / f"{key_id}{ENTRY_SUFFIX}"


def _is_of_key(name: Path) -> bool:
    return name.suffix in _SUFFIXES and is_key_id(name.stem)


def entry_of(key: SealedKey) -> KeyEntry:
    """What a box sent, within bounds; ValueError if it is none."""
    if not is_key_id(key.key_id):
        raise ValueError(f"its id is not {KEY_ID_BYTES} bytes in hex")
    if not 0 < len(key.wrapped) <= MOST_RECIPIENTS:
        raise ValueError(f"it is wrapped for {len(key.wrapped)} recipients")
    names = (
        key.participant,
        key.device,
        *(w[0] for w in key.wrapped),
        *(w[1] for w in key.wrapped),
    )
    if any(len(name) > MOST_NAME for name in names):
        raise ValueError("one of its names is too long")
    if any(len(sealed) > MOST_WRAPPED for _, _, sealed in key.wrapped):
        raise ValueError("it is too long")
    wrapped = tuple(WrappedKey(to, role, sealed) for to, role, sealed in key.wrapped)
    return KeyEntry(key.key_id, key.participant, key.device, wrapped)
