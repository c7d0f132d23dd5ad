"""Which chunks may leave the box, and the wrapped keys that must go before them. Runs in: uplink process, pump thread.

The uplink never holds a key: it reads the `keys` files, in which all is wrapped. Where the box seals,
nothing leaves it in the clear but descriptors, and nothing that the aggregator could not open.
"""

from pathlib import Path

from brainforge_edge.core.stream import Codec
from brainforge_edge.core.wire import Keys
from brainforge_edge.recorder.chunk import ChunkFlag, Head
from brainforge_edge.recorder.keyfile import KEYS_FILE, read_keys
from brainforge_edge.security.wrap import KeyEntry
from brainforge_edge.storage.files import Disk
from brainforge_edge.uplink.keyround import KeyRound, as_keys

PLAIN = "not_sealed"  # the box seals, this chunk is of before
NO_KEYS = "no_keys"  # its key is in no keys file
ERASED = "erased"  # its key is gone for good
NO_AGGREGATOR = "no_aggregator_key"  # the box knows no public key of the aggregator
NOT_FOR_IT = "not_for_aggregator"  # sealed before the aggregator's key was known: `keys rewrap`

_Version = tuple[int, int] | None


class KeyDesk:
    """Asked before each chunk. `aggregator` is the id of its public key, "" if the box has none."""

    def __init__(
        self,
        recordings: Path,
        disk: Disk,
        *,
        seals: bool,
        aggregator: str,
        tells_all: bool = False,
    ) -> None:
        """`tells_all`: keys may have been wrapped anew of which the aggregator has all chunks."""
        self._recordings = recordings
        self._disk = disk
        self._seals = seals
        self._aggregator = aggregator
        # recording → which file it was, its entries; None for an erased one
        self._files: dict[str, tuple[_Version, dict[str, KeyEntry | None]]] = {}
        self._is_other = False  # a file was read anew since `has_changed` was asked
        self._sent: set[bytes] = set()
        self._round = KeyRound(recordings, disk, aggregator if tells_all else "")

    def restart(self) -> None:
        """A new link: who listens there knows nothing yet."""
        self._sent.clear()
        self._round.restart()

    def has_changed(self) -> bool:
        """Whether a `keys` file that was read is another now, since this was asked."""
        changed = [name for name in self._files if self._version(name) != self._files[name][0]]
        for name in changed:
            del self._files[name]
        is_other, self._is_other = self._is_other or bool(changed), False
        return is_other

    def objection(self, recording: str, head: Head) -> str:
        """Why a chunk must not be sent, or ""."""
        if head.codec == Codec.DESCRIPTOR:
            return ""
        if not head.flags & ChunkFlag.SEALED:
            return PLAIN if self._seals else ""
        if not self._aggregator:
            return NO_AGGREGATOR
        entries = self._entries(recording)
        if head.key_id.hex() not in entries:
            return NO_KEYS
        entry = entries[head.key_id.hex()]
        if entry is None:
            return ERASED
        return "" if entry.wrapped_to(self._aggregator) is not None else NOT_FOR_IT

    def to_send(self, recording: str, log_id: bytes, head: Head) -> Keys | None:
        """What has to go before this chunk; None if nothing, or if it went already."""
        if not head.flags & ChunkFlag.SEALED or head.key_id in self._sent:
            return None
        entry = self._entry(recording, head)
        if entry is None:
            return None
        return as_keys(log_id, [entry], self._aggregator)

    def to_tell(self, log_id: bytes, now: float) -> Keys | None:
        """A few keys of the log that may be wrapped for more recipients than the aggregator knows of."""
        return as_keys(log_id, self._round.turn(now), self._aggregator)

    def sent(self, head: Head) -> None:
        self._sent.add(head.key_id)

    def refused(self, head: Head) -> None:
        """The aggregator does not have it: it goes again with the chunk."""
        self._sent.discard(head.key_id)

    def _entry(self, recording: str, head: Head) -> KeyEntry | None:
        return self._entries(recording).get(head.key_id.hex())

    def _entries(self, recording: str) -> dict[str, KeyEntry | None]:
        """As the file says now: it grows with each process that records, and what is erased in it is
        not sent a moment later."""
        version = self._version(recording)
        known = self._files.get(recording)
        if known is not None and known[0] == version:
            return known[1]
        self._is_other |= known is not None
        found = read_keys(self._recordings / recording, self._disk)
        entries: dict[str, KeyEntry | None] = {}
        if found is not None:
            entries.update({entry.key_id: entry for entry in found.keys})
            entries.update({each.erased_key: None for each in found.erased})
        self._files[recording] = (version, entries)
        return entries

    def _version(self, recording: str) -> _Version:
        """Each change makes a new file."""
        try:
            found = (self._recordings / recording / KEYS_FILE).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns
