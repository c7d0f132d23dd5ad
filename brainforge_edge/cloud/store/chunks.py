"""ChunkStore: `put` returns when a batch is durable; every sample is kept once. Runs in: ingest, writer thread.

The key is (log_id, product, stream, incarnation, sample range). Bytes go to pack files first and
are synced, the catalogue commits second: what it lists exists.
"""

import os
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import cbor2
import msgspec

from brainforge_edge.cloud.store.agreement import Decode, agrees
from brainforge_edge.cloud.store.keys import KeyShelf
from brainforge_edge.cloud.store.lock import locked
from brainforge_edge.cloud.store.packs import PACK_BYTES, PackFiles, Place
from brainforge_edge.cloud.store.readback import MISSING, objection
from brainforge_edge.cloud.store.schema import MIGRATIONS
from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.garbled import GARBLED
from brainforge_edge.core.ranges import Intervals
from brainforge_edge.core.stream import Codec, Dtype, StreamInfo
from brainforge_edge.core.wire import ClosedSegment, Range, StreamInventory
from brainforge_edge.recorder.chunk import Chunk, ChunkDamaged, read_head, unpack, unsealed
from brainforge_edge.recorder.keyring import Keyring
from brainforge_edge.security.keystore import KeyStore
from brainforge_edge.storage.sqlite import Database

MAX_RANGE = 2**62  # SQLite integers are signed


class Outcome(StrEnum):
    STORED = "stored"
    PARTLY = "partly"  # overlap with equal samples: the new part was stored
    DUPLICATE = "duplicate"
    REFUSED = "refused"


class Incoming(NamedTuple):
    """A chunk as it came: who sent it, under which stream."""

    node: str
    stream_id: str
    data: bytes


class Placed(NamedTuple):
    """What became of it. `chunk` is None when not even its header could be read."""

    outcome: Outcome
    reason: str  # of a refusal, as in wire.Refusal
    chunk: Chunk | None
    rows: int  # newly stored


class StreamKey(NamedTuple):
    log_id: bytes
    product: int
    stream_id: str


class _Stream:
    def __init__(self, row: int, number: int, info: StreamInfo | None) -> None:
        self.row = row
        self.number = number
        self.info = info
        self.held: dict[int, Intervals] = {}  # incarnation → samples


class ChunkStore:
    """The durable store under `root`; one writer."""

    def __init__(
        self,
        root: Path,
        *,
        decode: Decode,
        private: KeyStore | None = None,
        pack_bytes: int = PACK_BYTES,
    ) -> None:
        """`private` opens what is sealed, to compare overlaps: without it two copies agree only if
        they are the same bytes."""
        self.folder = root / "store"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = locked(root / "store.lock")
        except OSError as error:
            raise StorageError(
                "store",
                f"the store {root} cannot be opened",
                why=f"{error.filename}: {str(error.strerror).lower()}",
                remedy="Give --root a folder that this user may write to, and that is a store or empty",
            ) from error
        self._decode = decode
        self.keys = KeyShelf(root)
        self._opened = unsealed if private is None else Keyring(private, self.keys.find).opened
        try:
            self._catalogue = Database(root / "catalogue.sqlite", migrations=MIGRATIONS)
        except StorageError:
            os.close(self._lock)
            raise
        self._packs = PackFiles(self.folder, self._catalogue, pack_bytes=pack_bytes)
        self._nodes: dict[bytes, str] = {}
        self._streams: dict[StreamKey, _Stream] = {}
        try:
            self.cut_bytes = self._packs.cut_tails()
            self._load()
        except StorageError:
            self.close()
            raise

    @property
    def generation(self) -> int:
        row = self._catalogue.one("SELECT value FROM meta WHERE key = 'generation'")
        assert row is not None
        return int(row[0])

    def raise_generation(self) -> int:
        """After a restore from backup: every box moves its cursors back and sends what is missing."""
        with self._catalogue.transaction():
            self._catalogue.execute(
                "UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE key = 'generation'"
            )
        return self.generation

    def close(self) -> None:
        self._packs.close()
        self._catalogue.close()
        os.close(self._lock)

    # ---- what is known ---------------------------------------------------------------------

    def nodes(self) -> dict[bytes, str]:
        """log_id → node that last said hello for it."""
        return dict(self._nodes)

    def register(self, node: str, log_id: bytes, streams: Sequence[StreamInventory]) -> int:
        """Remember a log and its streams (from a hello); returns how many contradict what is known."""
        numbers = {
            known.number: key.stream_id
            for key, known in self._streams.items()
            if key[:2] == (log_id, 0)
        }
        new: list[StreamInventory] = []
        contradictions = 0
        for stream in streams:
            known = self._streams.get(StreamKey(log_id, 0, stream.stream_id))
            if numbers.setdefault(stream.number, stream.stream_id) != stream.stream_id or (
                known is not None and known.number != stream.number
            ):
                contradictions += 1
            elif known is None:
                new.append(stream)
        if self._nodes.get(log_id) == node and not new:
            return contradictions
        try:
            with self._catalogue.transaction():
                self._catalogue.execute(
                    "INSERT INTO log VALUES (?, ?) ON CONFLICT DO UPDATE SET node = excluded.node",
                    (log_id, node),
                )
                for stream in new:
                    self._add_stream(StreamKey(log_id, 0, stream.stream_id), stream.number)
        finally:
            self._load()
        return contradictions

    def inventory(self, log_id: bytes) -> tuple[tuple[int, StreamInventory], ...]:
        """(product, ranges) of every stream of a log."""
        return tuple(
            (key.product, StreamInventory(key.stream_id, stream.number, self.ranges(key)))
            for key, stream in self._streams.items()
            if key.log_id == log_id
        )

    def others(self, log_id: bytes) -> tuple[tuple[bytes, int], ...]:
        """Stored chunks without samples: segment id and number."""
        rows = self._catalogue.query(
            "SELECT segment_id, other.number FROM other JOIN stream ON stream.id = other.stream"
            " WHERE log_id = ?",
            (log_id,),
        )
        return tuple((segment, number) for segment, number in rows)

    def ranges(self, key: StreamKey, incarnations: set[int] | None = None) -> tuple[Range, ...]:
        """Merged ranges of samples, of all incarnations or of those that are named."""
        stream = self._streams.get(key)
        if stream is None:
            return ()
        return tuple(
            Range(incarnation, first, end)
            for incarnation, held in sorted(stream.held.items())
            if incarnations is None or incarnation in incarnations
            for first, end in held
        )

    def objection(self, log_id: bytes, segment: ClosedSegment) -> str:
        """Why the store cannot vouch for a segment byte for byte, or ""; it is read back for this."""
        stream = self._streams.get(StreamKey(log_id, segment.product, segment.stream_id))
        if stream is None:
            return MISSING
        return objection(self._catalogue, self._packs, stream.row, segment)

    # ---- storing ---------------------------------------------------------------------------

    def put(self, batch: Sequence[Incoming]) -> list[Placed]:
        """Store a batch; everything that is reported as stored is durable on return.

        Raises StorageError when the disk fails: then nothing of the batch counts.
        """
        durable = False
        try:
            with self._catalogue.transaction():
                placed = [self._put(incoming) for incoming in batch]
                self._packs.sync()
            durable = True
        finally:
            if not durable:
                # Never again through these descriptors; memory goes back to what the catalogue says.
                self._packs.close()
                self._load()
        return placed

    def _put(self, incoming: Incoming) -> Placed:
        try:
            chunk = unpack(incoming.data)
        except ChunkDamaged as error:
            reason = "crc" if error.reason.endswith("crc") else "malformed"
            return Placed(Outcome.REFUSED, reason, None, 0)
        reason = self._objection(incoming, chunk)
        if reason:
            return Placed(Outcome.REFUSED, reason, chunk, 0)
        key = StreamKey(chunk.log_id, chunk.product, incoming.stream_id)
        stream = self._streams[key]
        if chunk.n_samples == 0:
            return self._put_other(key, stream, chunk, incoming.data)
        held = stream.held.setdefault(chunk.incarnation, Intervals())
        new = held.missing(chunk.seq, chunk.end)
        if new != [(chunk.seq, chunk.end)] and not agrees(
            chunk, self._stored_within(stream, chunk), self._decode, self._opened
        ):
            self._quarantine(key, chunk, incoming.data)
            return Placed(Outcome.REFUSED, "conflict", chunk, 0)
        if not new:
            return Placed(Outcome.DUPLICATE, "", chunk, 0)
        place = self._packs.append(stream.row, _folder(key), incoming.data)
        crc = int.from_bytes(incoming.data[-4:], "little")
        for first, end in new:
            self._catalogue.execute(
                "INSERT INTO piece VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (stream.row, chunk.incarnation, first, end, *place, crc),
            )
            held.add(first, end)
        whole = new == [(chunk.seq, chunk.end)]
        rows = sum(end - first for first, end in new)
        return Placed(Outcome.STORED if whole else Outcome.PARTLY, "", chunk, rows)

    def _objection(self, incoming: Incoming, chunk: Chunk) -> str:
        """Why a whole chunk cannot be taken, or ''."""
        if self._nodes.get(chunk.log_id) != incoming.node:
            return "unknown_stream"
        if len(incoming.data) != read_head(incoming.data).total_bytes or chunk.end > MAX_RANGE:
            return "malformed"
        key = StreamKey(chunk.log_id, chunk.product, incoming.stream_id)
        stream = self._streams.get(key)
        if chunk.codec is Codec.DESCRIPTOR:
            return self._describe(key, stream, chunk)
        if stream is None:
            return "unknown_stream"
        if stream.number != chunk.stream_number:
            return "wrong_stream"
        if chunk.is_sealed and self.keys.find(chunk.log_id, chunk.key_id.hex()) is None:
            return "unknown_key"
        if chunk.codec is Codec.MARKERS:
            return ""
        info = stream.info
        try:
            dtype = Dtype(chunk.dtype)
        except ValueError:
            return "malformed"
        if chunk.n_samples < 1 or chunk.n_channels < 1:
            return "malformed"
        if info is not None and (dtype, chunk.n_channels) != (info.dtype, info.n_channels):
            return "malformed"
        return ""

    def _describe(self, key: StreamKey, stream: _Stream | None, chunk: Chunk) -> str:
        """Take the StreamInfo out of a descriptor; the first one makes its stream known."""
        try:
            info = msgspec.convert(cbor2.loads(chunk.body)["stream"], StreamInfo)
        except (cbor2.CBORDecodeError, *GARBLED, KeyError, TypeError):
            return "malformed"
        text = msgspec.json.encode(info)
        try:
            again = msgspec.json.decode(text, type=StreamInfo)
        except GARBLED:  # no number, say: the catalogue could not be read again
            return "malformed"
        if again != info or not info.is_sound:
            return "malformed"
        if chunk.n_samples or info.stream_id != key.stream_id:
            return "wrong_stream"
        if stream is None:
            if any(
                known.number == chunk.stream_number
                for other, known in self._streams.items()
                if other[:2] == key[:2]
            ):
                return "wrong_stream"
            stream = self._add_stream(key, chunk.stream_number)
        if stream.number != chunk.stream_number:
            return "wrong_stream"
        if stream.info != info:
            self._catalogue.execute(
                "UPDATE stream SET info = ? WHERE id = ?",
                (text.decode(), stream.row),
            )
            stream.info = info
        return ""

    def _put_other(self, key: StreamKey, stream: _Stream, chunk: Chunk, data: bytes) -> Placed:
        where = (stream.row, chunk.segment_id, chunk.number)
        known = self._catalogue.one(
            'SELECT pack, "offset", length FROM other'
            " WHERE stream = ? AND segment_id = ? AND number = ?",
            where,
        )
        if known is not None:
            if self._packs.read(Place(*known)) == data:
                return Placed(Outcome.DUPLICATE, "", chunk, 0)
            self._quarantine(key, chunk, data)
            return Placed(Outcome.REFUSED, "conflict", chunk, 0)
        place = self._packs.append(stream.row, _folder(key), data)
        crc = int.from_bytes(data[-4:], "little")
        self._catalogue.execute(
            "INSERT INTO other VALUES (?, ?, ?, ?, ?, ?, ?)", (*where, *place, crc)
        )
        return Placed(Outcome.STORED, "", chunk, 0)

    def _stored_within(
        self, stream: _Stream, chunk: Chunk
    ) -> Iterator[tuple[tuple[int, int], Chunk]]:
        """Stored pieces within the range of a chunk: the part that counts, and its chunk."""
        for first, end, *place in self._catalogue.query(
            'SELECT first, "end", pack, "offset", length FROM piece'
            ' WHERE stream = ? AND incarnation = ? AND first < ? AND "end" > ?',
            (stream.row, chunk.incarnation, chunk.end, chunk.seq),
        ):
            yield (first, end), unpack(self._packs.read(Place(*place)))

    def _quarantine(self, key: StreamKey, chunk: Chunk, data: bytes) -> None:
        """Keep what contradicts the store, for a person to judge."""
        folder = self.folder / key.log_id.hex() / "quarantine"
        crc = int.from_bytes(data[-4:], "little")
        name = f"{key.stream_id}.{key.product}-{chunk.incarnation}-{chunk.seq}-{crc:08x}.chunk"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        except OSError as error:
            raise StorageError(
                "store_write",
                f"the store cannot write {folder / name}",
                why=(error.strerror or str(error)).lower(),
                remedy="Free space or repair the disk",
                transient=True,
            ) from error

    # ---- catalogue -------------------------------------------------------------------------

    def _add_stream(self, key: StreamKey, number: int) -> _Stream:
        row = self._catalogue.execute(
            "INSERT INTO stream (log_id, product, stream_id, number) VALUES (?, ?, ?, ?)",
            (*key, number),
        )
        stream = self._streams[key] = _Stream(row, number, None)
        return stream

    def _load(self) -> None:
        self._nodes = dict(self._catalogue.query("SELECT log_id, node FROM log"))
        self._streams = {}
        by_row: dict[int, _Stream] = {}
        for row, log_id, product, stream_id, number, info in self._catalogue.query(
            "SELECT id, log_id, product, stream_id, number, info FROM stream"
        ):
            parsed = msgspec.json.decode(info, type=StreamInfo) if info else None
            by_row[row] = _Stream(row, number, parsed)
            self._streams[StreamKey(log_id, product, stream_id)] = by_row[row]
        for row, incarnation, first, end in self._catalogue.query(
            'SELECT stream, incarnation, first, "end" FROM piece ORDER BY 1, 2, 3'
        ):
            by_row[row].held.setdefault(incarnation, Intervals()).add(first, end)


def _folder(key: StreamKey) -> str:
    name = key.stream_id if key.product == 0 else f"{key.stream_id}.{key.product}"
    return f"{key.log_id.hex()}/{name}"
