"""Opens what is sealed, with the keys files at hand and a store of private keys. Runs in: recovery, tools, aggregator."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

from brainforge_edge.core.errors import SecurityError
from brainforge_edge.recorder.chunk import Chunk
from brainforge_edge.recorder.keyfile import read_keys
from brainforge_edge.recorder.keyscraps import ErasedKey
from brainforge_edge.security.keystore import KeyStore
from brainforge_edge.security.seal import SEGMENT, DataKey, FileSeal
from brainforge_edge.security.wrap import KeyEntry
from brainforge_edge.storage.files import Disk

# log id, key id in hex → its entry, that it was erased, or nothing
Find = Callable[[bytes, str], KeyEntry | ErasedKey | None]


class Keyring:
    """Data keys by id, unwrapped once each; a file's own key is kept for the chunk after."""

    def __init__(self, store: KeyStore, find: Find) -> None:
        self._store = store
        self._find = find
        self._keys: dict[tuple[bytes, bytes], DataKey] = {}
        self._last: tuple[bytes, bytes, FileSeal] | None = None

    def key(self, log_id: bytes, key_id: bytes) -> DataKey:
        """SecurityError `no_key` if its wrapped form or every private key for it is missing, `erased`
        if nobody can ever open it."""
        known = self._keys.get((log_id, key_id))
        if known is not None:
            return known
        entry = self._find(log_id, key_id.hex())
        if isinstance(entry, ErasedKey):
            raise _erased(entry)
        opened = None if entry is None else self._store.opened(entry, log_id)
        if opened is None:
            raise _no_key(key_id, entry)
        self._keys[(log_id, key_id)] = opened
        return opened

    def opened(self, chunk: Chunk) -> Chunk:
        """The chunk with its body in the clear, or itself if it is not sealed; SecurityError."""
        if not chunk.is_sealed:
            return chunk
        last = self._last
        if last is None or last[:2] != (chunk.key_id, chunk.segment_id):
            key = self.key(chunk.log_id, chunk.key_id)
            last = (chunk.key_id, chunk.segment_id, key.file(chunk.segment_id, SEGMENT))
            self._last = last
        return chunk.opened(last[2])


def in_folders(folders: Iterable[Path], disk: Disk) -> Find:
    """Entries of the `keys` files of these recordings, each read when first needed."""
    waiting = list(folders)
    entries: dict[str, KeyEntry | ErasedKey] = {}

    def find(_: bytes, key_id: str) -> KeyEntry | ErasedKey | None:
        # Not by the log id, too: it may be what is damaged, and no key opens for another log.
        while key_id not in entries and waiting:
            found = read_keys(waiting.pop(), disk)
            if found is not None:
                entries.update({entry.key_id: entry for entry in found.keys})
                entries.update({each.erased_key: each for each in found.erased})
        return entries.get(key_id)

    return find


def _erased(key: ErasedKey) -> SecurityError:
    when = ""
    if key.utc_ns is not None:
        when = f" on {datetime.fromtimestamp(key.utc_ns // 10**9, UTC).date().isoformat()}"
    return SecurityError(
        "erased",
        "what is sealed was not opened",
        why=f"data key {key.erased_key} was erased{when} by order {key.order or '(unknown)'}",
        remedy="Nothing can open it any more",
    )


def _no_key(key_id: bytes, entry: KeyEntry | None) -> SecurityError:
    if entry is None:
        why = f"data key {key_id.hex()} is in no keys file here"
        remedy = "Put the recording's `keys` file beside its segments"
    else:
        roles = ", ".join(wrapped.role for wrapped in entry.wrapped) or "nobody"
        why = f"data key {key_id.hex()} is wrapped for {roles}, and no such private key is here"
        remedy = "Name the folder of one of those keys with --keys"
    return SecurityError("no_key", "what is sealed was not opened", why=why, remedy=remedy)
