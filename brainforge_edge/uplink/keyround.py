"""Data keys that were wrapped anew, told to an aggregator that may have all their chunks. Runs in: uplink process, pump thread.

Nobody answers to keys, so all of them are told once a link, few and seldom: what the aggregator knows
already costs it nothing, and receipts wait for none of it.
"""

from collections import deque
from collections.abc import Sequence
from pathlib import Path

from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.wire import MOST_RECIPIENTS, Keys, SealedKey
from brainforge_edge.recorder.keyfile import KEYS_FILE, read_keys
from brainforge_edge.security.wrap import KeyEntry, WrappedKey
from brainforge_edge.storage.files import Disk

MOST_AT_ONCE = 4
EVERY_S = 1.0
LOOK_S = 30.0  # for keys files that are others than they were


class KeyRound:
    """Of the keys that are wrapped for `aggregator`; "" for nobody."""

    def __init__(self, recordings: Path, disk: Disk, aggregator: str) -> None:
        self._recordings = recordings
        self._disk = disk
        self._aggregator = aggregator
        self._told: dict[str, tuple[int, int]] = {}  # recording → its keys file, as it was told
        self._files: deque[str] = deque()
        self._entries: deque[KeyEntry] = deque()  # of the file `_at`, as it was read
        self._at = ""
        self._due = self._look_due = 0.0

    def restart(self) -> None:
        """A new link: who listens there knows nothing yet."""
        self._told.clear()
        self._files.clear()
        self._entries.clear()
        self._due = self._look_due = 0.0

    def turn(self, now: float) -> Sequence[KeyEntry]:
        """What is to be told now; at most one file is read for it."""
        if not self._aggregator or now < self._due:
            return ()
        self._due = now + EVERY_S
        if self._entries and self._version(self._at) != self._told.get(self._at):
            self._entries.clear()  # what was erased since is never told; the rest is, as it is now
            self._files.append(self._at)
        if not self._entries and not self._files and now >= self._look_due:
            self._look_due = now + LOOK_S
            self._files.extend(self._changed())
        if not self._entries and self._files:
            self._read(self._files.popleft())
        return [self._entries.popleft() for _ in range(min(MOST_AT_ONCE, len(self._entries)))]

    def _changed(self) -> list[str]:
        names = self._disk.names(self._recordings)
        return [name for name in names if self._version(name) not in {None, self._told.get(name)}]

    def _read(self, name: str) -> None:
        version = self._version(name)
        try:
            found = read_keys(self._recordings / name, self._disk)
        except StorageError:
            return  # it is in the next look again
        if found is None or version is None:
            return
        self._told[name], self._at = version, name
        self._entries.extend(e for e in found.keys if e.wrapped_to(self._aggregator) is not None)

    def _version(self, name: str) -> tuple[int, int] | None:
        try:
            found = (self._recordings / name / KEYS_FILE).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns


def as_keys(log_id: bytes, entries: Sequence[KeyEntry], aggregator: str) -> Keys | None:
    """The message for them; None for none."""
    told = tuple(
        SealedKey(
            entry.key_id,
            entry.participant,
            entry.device,
            tuple((key.to, key.role, key.sealed) for key in _named(entry, aggregator)),
        )
        for entry in entries
    )
    return Keys(log_id, told) if told else None


def _named(entry: KeyEntry, aggregator: str) -> Sequence[WrappedKey]:
    """Its recipients; of more than a message may name, which years of changed keys make, the newest of each role."""
    if len(entry.wrapped) <= MOST_RECIPIENTS:
        return entry.wrapped
    newest = {key.role: key for key in entry.wrapped}
    chosen = [key for key in entry.wrapped if key.to == aggregator or key is newest[key.role]]
    return chosen[-MOST_RECIPIENTS:]
