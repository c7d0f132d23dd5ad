"""Wraps the data keys of recordings for recipients that came later. Runs in: agent process, thread `orders`.

With the box's own private key, recording by recording, also of one that is open: whoever records into
it waits for no longer than one small file is written. Files that have not changed since are not read.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from brainforge_edge.core import log
from brainforge_edge.core.errors import BrainforgeError, SecurityError, StorageError
from brainforge_edge.recorder.keyfile import (
    KEYS_FILE,
    KeysFile,
    change_keys,
    read_keys,
    set_aside,
)
from brainforge_edge.recorder.keyring import Keyring, in_folders
from brainforge_edge.recorder.sealing import BOX
from brainforge_edge.security.agreement import HeldKeyUnusable
from brainforge_edge.security.keystore import KeyStore
from brainforge_edge.security.seal import DataKey
from brainforge_edge.security.wrap import KeyEntry, Recipient, with_recipient
from brainforge_edge.storage.files import Disk

_Version = tuple[int, int] | None
_log = log.get()


class _Looked(NamedTuple):
    """What a look at a recording came to."""

    version: _Version  # of the keys file, when it was read
    left: int  # keys that could not be opened
    error: BrainforgeError | None


class Rewrapping:
    """`look` at all recordings, for the recipients of now."""

    def __init__(
        self,
        recordings: Path,
        disk: Disk,
        *,
        store: Callable[[], KeyStore],
        is_over: Callable[[], bool],
    ) -> None:
        """`store`: the box's private keys, asked for when there is something to open."""
        self.wrapped = 0  # data keys, since the start
        self._recordings = recordings
        self._disk = disk
        self._store = store
        self._is_over = is_over
        self._recipients: tuple[Recipient, ...] = ()
        self._looked: dict[str, _Looked] = {}  # by recording
        self._away: dict[str, HeldKeyUnusable] = {}  # key of the box → why it is not asked again
        self._is_whole = False  # every recording was looked at

    def begin(self, recipients: Sequence[Recipient]) -> None:
        """Everything is to be looked at for these."""
        self._recipients = tuple(recipients)
        self._looked.clear()
        self._away.clear()
        self._is_whole = not recipients

    def retry(self) -> None:
        """What could not be opened is tried again at the next look."""
        self._away.clear()
        for name in [name for name, looked in self._looked.items() if looked.left or looked.error]:
            del self._looked[name]

    @property
    def left(self) -> int | None:
        """Data keys that are not wrapped yet; None before the first whole look."""
        return sum(each.left for each in self._looked.values()) if self._is_whole else None

    @property
    def error(self) -> BrainforgeError | None:
        """Why, of the first."""
        return next((each.error for each in self._looked.values() if each.error), None)

    def look(self) -> None:
        """Wrap what is not wrapped yet, in files that are others than at the look before."""
        if not self._recipients:
            return
        names = [name for name in self._disk.names(self._recordings) if self._version(name)]
        for name in set(self._looked) - set(names):
            del self._looked[name]
        for name in names:
            if self._is_over():
                return
            version = self._version(name)
            if name in self._looked and self._looked[name].version == version:
                continue
            try:
                self._looked[name] = self._wrap(self._recordings / name, version)
            except (StorageError, SecurityError) as error:
                self._looked[name] = _Looked(version, 0, error)
                _log.warning("data keys not wrapped", recording=name, error=str(error))
        self._is_whole = True

    def _wrap(self, folder: Path, version: _Version) -> "_Looked":
        found = read_keys(folder, self._disk)
        lacking = [entry for entry in found.keys if self._lacks(entry)] if found else []
        if found is None or not lacking:
            return _Looked(version, 0, None)
        opened, error = self._opened(folder, found, lacking)
        if opened:
            done = change_keys(
                folder, found.log_id, self._disk,
                lambda now: tuple(self._more(entry, opened, found.log_id) for entry in now),
            )  # fmt: skip
            self.wrapped += len(opened)
            if done.unwiped is not None:
                _log.warning("old keys file not overwritten yet", error=str(done.unwiped))
            _log.info("data keys wrapped again", recording=folder.name, keys=len(opened))
        # The version of before: a file that was changed, here or by who records, is looked at again.
        return _Looked(version, len(lacking) - len(opened), error)

    def _lacks(self, entry: KeyEntry) -> bool:
        return any(entry.wrapped_to(each.id) is None for each in self._recipients)

    def _opened(
        self, folder: Path, found: KeysFile, lacking: Sequence[KeyEntry]
    ) -> tuple[dict[str, DataKey], SecurityError | None]:
        ring = Keyring(self._store(), in_folders([folder], self._disk))
        opened: dict[str, DataKey] = {}
        failed: SecurityError | None = None
        for entry in lacking:
            if self._is_over():
                break
            own = [key.to for key in entry.wrapped if key.role == BOX]
            away = next((self._away[to] for to in own if to in self._away), None)
            if away is not None:
                failed = failed or away
                continue
            try:
                opened[entry.key_id] = ring.key(found.log_id, bytes.fromhex(entry.key_id))
            except SecurityError as error:
                failed = failed or error
                if isinstance(
                    error, HeldKeyUnusable
                ):  # seconds for each key: orders wait behind it
                    self._away.update(dict.fromkeys(own, error))
        return opened, failed

    def _more(self, entry: KeyEntry, opened: dict[str, DataKey], log_id: bytes) -> KeyEntry:
        for recipient in self._recipients:
            entry = with_recipient(entry, opened.get(entry.key_id), log_id, recipient)
        return entry

    def _version(self, name: str) -> _Version:
        """None where nothing is sealed. Of the file that was set aside where none could be written after that."""
        folder = self._recordings / name
        with suppress(OSError):
            return _version_of(folder / KEYS_FILE)
        with suppress(OSError, StorageError):
            for aside in set_aside(self._disk.names(folder))[-1:]:
                return _version_of(folder / aside)
        return None


def _version_of(path: Path) -> _Version:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns
