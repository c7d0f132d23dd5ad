"""Reading the store, also while ingest writes it. Runs in: demo, export, mapping; any process.

`digest` is SHA-256 over the packed little-endian rows of one incarnation in the order of seq.
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from numpy.typing import NDArray

from brainforge_edge.cloud.store.keys import KeyShelf
from brainforge_edge.core.errors import CloudError
from brainforge_edge.core.ranges import Intervals
from brainforge_edge.core.stream import Codec, Dtype, StreamInfo
from brainforge_edge.core.wire import Range
from brainforge_edge.recorder.chunk import Chunk, unpack, unsealed
from brainforge_edge.recorder.keyring import Keyring
from brainforge_edge.security.keystore import KeyStore
from brainforge_edge.storage.sqlite import Database

Decode = Callable[[Codec, bytes, Dtype, int, int], NDArray[Any]]
Pack = Callable[[NDArray[Any], Dtype], bytes]


class StoredStream(NamedTuple):
    """One stream of one log; `info` is None until its descriptor came."""

    log_id: bytes
    node: str
    product: int
    stream_id: str
    number: int
    info: StreamInfo | None


class StoreReader:
    """A read-only look at `root`. `decode` and `pack` are codec.registry's; `private` opens what is sealed."""

    def __init__(
        self, root: Path, *, decode: Decode, pack: Pack, private: KeyStore | None = None
    ) -> None:
        path = root / "catalogue.sqlite"
        if not path.exists():
            raise CloudError(
                "no_store",
                f"there is no store in {root}",
                why="catalogue.sqlite is missing",
                remedy="Give the folder that `cloud run --root` uses",
            )
        self._folder = root / "store"
        self._catalogue = Database(path, read_only=True)
        self._decode = decode
        self._pack = pack
        self._opened = unsealed if private is None else Keyring(private, KeyShelf(root).find).opened

    def close(self) -> None:
        self._catalogue.close()

    def streams(self) -> list[StoredStream]:
        rows = self._catalogue.query(
            "SELECT log_id, node, product, stream_id, number, info FROM stream"
            " JOIN log USING (log_id) ORDER BY node, log_id, product, stream_id"
        )
        return [
            StoredStream(
                log_id,
                node,
                product,
                stream_id,
                number,
                msgspec.json.decode(info, type=StreamInfo) if info else None,
            )
            for log_id, node, product, stream_id, number, info in rows
        ]

    def ranges(self, log_id: bytes, stream_id: str, *, product: int = 0) -> list[Range]:
        """Merged ranges of samples, by incarnation and seq."""
        held: dict[int, Intervals] = {}
        for incarnation, first, end, *_ in self._pieces(log_id, stream_id, product):
            held.setdefault(incarnation, Intervals()).add(first, end)
        return [Range(inc, first, end) for inc in sorted(held) for first, end in held[inc]]

    def iter_chunks(
        self, log_id: bytes, stream_id: str, *, product: int = 0
    ) -> Iterator[tuple[Range, Chunk]]:
        """Stored chunks in order, opened, each with the part of it that counts.

        Raises ChunkDamaged; SecurityError where one is sealed and cannot be opened.
        """
        for incarnation, first, end, path, offset, length in self._pieces(
            log_id, stream_id, product
        ):
            with (self._folder / path).open("rb") as handle:
                handle.seek(offset)
                yield Range(incarnation, first, end), self._opened(unpack(handle.read(length)))

    def iter_rows(
        self, log_id: bytes, stream_id: str, *, product: int = 0
    ) -> Iterator[tuple[Range, NDArray[Any]]]:
        """Rows (n_samples, n_channels) in the native memory type, in order; raises CodecError."""
        for part, chunk in self.iter_chunks(log_id, stream_id, product=product):
            rows = self._decode(
                chunk.codec, chunk.body, Dtype(chunk.dtype), chunk.n_samples, chunk.n_channels
            )
            yield part, rows[part.first - chunk.seq : part.end - chunk.seq]

    def digest(self, log_id: bytes, stream_id: str, *, product: int = 0) -> dict[int, str]:
        """SHA-256 (hex) of the packed rows, per incarnation."""
        hashes: dict[int, Any] = {}
        for part, chunk in self.iter_chunks(log_id, stream_id, product=product):
            dtype = Dtype(chunk.dtype)
            rows = self._decode(chunk.codec, chunk.body, dtype, chunk.n_samples, chunk.n_channels)
            mine = rows[part.first - chunk.seq : part.end - chunk.seq]
            hashes.setdefault(part.incarnation, hashlib.sha256()).update(self._pack(mine, dtype))
        return {incarnation: sha.hexdigest() for incarnation, sha in hashes.items()}

    def _pieces(
        self, log_id: bytes, stream_id: str, product: int
    ) -> list[tuple[int, int, int, str, int, int]]:
        return [
            (row[0], row[1], row[2], row[3], row[4], row[5])
            for row in self._catalogue.query(
                'SELECT incarnation, first, "end", path, "offset", piece.length FROM piece'
                " JOIN stream ON stream.id = piece.stream JOIN pack ON pack.id = piece.pack"
                " WHERE log_id = ? AND stream_id = ? AND product = ?"
                " ORDER BY incarnation, first",
                (log_id, stream_id, product),
            )
        ]
