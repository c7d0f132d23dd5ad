"""An order to erase a participant, carried out at the aggregator. Runs in: the CLI process, also beside an ingest.

Chunks stay where they are: as ciphertext that nobody can open, so that what is stored of which range
stays exact. May be killed anywhere and run again.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from brainforge_edge.cloud.store.keys import KeyShelf
from brainforge_edge.core.errors import CloudError, StorageError
from brainforge_edge.core.stream import Codec
from brainforge_edge.recorder.chunk import ChunkDamaged, unpack
from brainforge_edge.recorder.identity import Identity
from brainforge_edge.recorder.keyscraps import ErasedKey
from brainforge_edge.recorder.segment import read_descriptor
from brainforge_edge.security.erasure import NOBODY, Erased, NotReached
from brainforge_edge.security.order import EraseOrder
from brainforge_edge.security.seal import is_key_id
from brainforge_edge.storage.files import Disk
from brainforge_edge.storage.sqlite import Database


def check_store(root: Path) -> None:
    """CloudError or StorageError unless there is one; nothing is made."""
    if not (root / "catalogue.sqlite").is_file():
        raise CloudError(
            "no_store",
            f"there is no store in {root}",
            why="catalogue.sqlite is missing",
            remedy="Give the folder that `cloud run --root` uses",
        )
    catalogue = Database(root / "catalogue.sqlite", read_only=True)
    try:
        list(catalogue.query("SELECT log_id FROM log LIMIT 1"))
    finally:
        catalogue.close()


class _Described(NamedTuple):
    """A stored segment, by its descriptor."""

    log_id: bytes
    stream_id: str
    segment_id: bytes
    identity: Identity


class StoreErasure:
    """One run of an order on a store."""

    def __init__(
        self, root: Path, order: EraseOrder, *, order_id: str, utc_ns: int | None, disk: Disk
    ) -> None:
        check_store(root)
        self._root = root
        self._order = order
        self._order_id = order_id
        self._utc_ns = utc_ns
        self._shelf = KeyShelf(root, disk=disk)
        self._catalogue = Database(root / "catalogue.sqlite", read_only=True)
        self._is_known = False  # whether anything here is of the participant
        self.erased: list[Erased] = []
        self.not_reached: list[NotReached] = []

    def run(self) -> None:
        try:
            described = list(self._described())
            for log_id in self._logs():
                self._log(log_id, [each for each in described if each.log_id == log_id])
            if self._order.participant and not self._is_known and not self.erased:
                self._left("participant", "", self._order.participant, NOBODY)
        finally:
            self._catalogue.close()

    def _logs(self) -> list[bytes]:
        """Logs of the boxes that the order names, or those of them that it names itself."""
        order = self._order
        known: dict[bytes, str] = dict(self._catalogue.query("SELECT log_id, node FROM log"))
        logs = [
            log_id
            for log_id, node in known.items()
            if (log_id.hex() in order.log_ids if order.log_ids else node in order.nodes)
        ]
        for name in sorted(set(order.log_ids) - {log_id.hex() for log_id in logs}):
            self._left("box", "", f"log {name}", "nothing of it is stored here")
        return logs

    def _log(self, log_id: bytes, described: list[_Described]) -> None:
        ids: set[str] = set()
        owners: dict[str, set[str]] = {}  # data key → participants
        recordings: dict[str, str] = {}  # data key → recording
        for each in described:
            said = each.identity
            recordings[said.key_id] = said.recording
            owners.setdefault(said.key_id, set()).add(said.participant)
            if said.participant != self._order.participant or not self._is_named(said.recording):
                continue
            self._is_known = True
            if is_key_id(said.key_id):
                ids.add(said.key_id)
            elif said.key_id:  # as no recorder writes it
                why = "their descriptor names a key that no key can be called"
                self._left("unclear", said.recording, f"chunks of {each.stream_id}", why)
            else:
                why = "they came in the clear: remove the stream's packs, if no other rows are in them"
                self._left("plain", said.recording, f"chunks of {each.stream_id}", why)
        self._quarantine(log_id, {each.segment_id: each.identity for each in described})
        for key_id in self._shelf.ids(log_id):
            if self._is_meant(log_id, key_id, recordings):
                ids.add(key_id)
        for key_id in sorted(ids):
            # Believed before the key's own file, which has no CRC: a flipped bit makes one of another.
            if owners.get(key_id, {self._order.participant}) != {self._order.participant}:
                ids.remove(key_id)
                why = "a descriptor says that it is somebody else's"
                self._left("unclear", recordings[key_id], f"key {key_id}", why)
        for name in self._shelf.strays(log_id):
            why = "it lies among the keys, and is none of them"
            self._left("unclear", "", f"keys/{log_id.hex()}/{name}", why)
        for key_id in sorted(ids):
            self._shelf.erase(log_id, ErasedKey(key_id, self._utc_ns, self._order_id))
            self.erased.append(Erased("key", recordings.get(key_id, ""), key_id))

    def _is_meant(self, log_id: bytes, key_id: str, recordings: Mapping[str, str]) -> bool:
        """Whether a key is one to erase, by what its own file says."""
        try:
            entry = self._shelf.find(log_id, key_id)
        except StorageError as error:
            if error.code != "storage.keys_damaged":
                raise
            if key_id not in recordings:
                self._left("unclear", "", f"key {key_id}", "its file is damaged")
            return False
        if isinstance(entry, ErasedKey):
            return entry.order == self._order_id  # by an earlier run
        if entry is None or entry.participant != self._order.participant:
            return False
        if key_id not in recordings and self._order.recordings:
            why = "no descriptor came that says of which recording it is"
            self._left("unclear", "", f"key {key_id}", why)
        return self._is_named(recordings.get(key_id, ""))

    def _quarantine(self, log_id: bytes, described: Mapping[bytes, Identity]) -> None:
        """What contradicted the store lies there as it came, perhaps in the clear."""
        for path in sorted((self._root / "store" / log_id.hex() / "quarantine").glob("*.chunk")):
            try:
                chunk = unpack(path.read_bytes())
            except ChunkDamaged:
                continue  # it was whole when it came; `store` keeps no damaged one
            said = described.get(chunk.segment_id)
            if chunk.is_sealed or said is None or said.participant != self._order.participant:
                continue
            if self._is_named(said.recording):
                why = "it came in the clear, and contradicted the store: remove it"
                self._left("plain", said.recording, f"quarantine/{path.name}", why)

    def _is_named(self, recording: str) -> bool:
        return not self._order.recordings or recording in self._order.recordings

    def _described(self) -> Iterator[_Described]:
        for log_id, stream_id, path, offset, length in self._catalogue.query(
            'SELECT log_id, stream_id, path, "offset", other.length FROM other'
            " JOIN stream ON stream.id = other.stream JOIN pack ON pack.id = other.pack"
        ):
            try:
                with (self._root / "store" / path).open("rb") as handle:
                    handle.seek(offset)
                    data = handle.read(length)
            except OSError as error:
                why = f"whose chunks are in it is not known: {str(error.strerror).lower()}"
                self._left("unclear", "", path, why)
                continue
            try:
                chunk = unpack(data)
                if chunk.codec is Codec.DESCRIPTOR:
                    identity = read_descriptor(chunk.body).identity
                    yield _Described(log_id, stream_id, chunk.segment_id, identity)
            except ChunkDamaged as error:
                self._left(
                    "unclear", "", f"{path}, byte {offset}", f"a damaged descriptor: {error.why}"
                )

    def _left(self, kind: str, recording: str, what: str, why: str) -> None:
        found = NotReached(kind, recording, what, why)
        if found not in self.not_reached:
            self.not_reached.append(found)
