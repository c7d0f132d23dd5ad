"""Whether an overlapping chunk says the same as what is stored. Runs in: ingest, writer thread. No I/O."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.errors import SecurityError, StorageError
from brainforge_edge.core.stream import Codec, Dtype
from brainforge_edge.recorder.chunk import Chunk, Opener

Decode = Callable[[Codec, bytes, Dtype, int, int], NDArray[Any]]


def agrees(
    chunk: Chunk,
    stored: Iterable[tuple[tuple[int, int], Chunk]],
    decode: Decode,
    opened: Opener,
) -> bool:
    """Compare by decoded samples, bit for bit, within each stored part (first, end).

    What cannot be decoded (markers, sealed without a key here) agrees only if range and body are the same.
    """
    rows: NDArray[Any] | None = None
    for (first, end), known in stored:
        if _is_copy(chunk, known):
            continue
        if chunk.codec is Codec.MARKERS:
            return False
        try:
            rows = _decoded(opened(chunk), decode) if rows is None else rows
            theirs = _decoded(opened(known), decode)
        except (StorageError, SecurityError):
            return False
        low, high = max(first, chunk.seq), min(end, chunk.end)
        a = rows[low - chunk.seq : high - chunk.seq]
        b = theirs[low - known.seq : high - known.seq]
        if a.dtype != b.dtype or a.shape != b.shape:
            return False
        if not np.array_equal(a.view(np.uint8), b.view(np.uint8)):  # as bytes: NaN equals NaN
            return False
    return True


def _is_copy(chunk: Chunk, known: Chunk) -> bool:
    return (known.seq, known.end, known.codec, known.dtype, known.body) == (
        chunk.seq,
        chunk.end,
        chunk.codec,
        chunk.dtype,
        chunk.body,
    )


def _decoded(chunk: Chunk, decode: Decode) -> NDArray[Any]:
    dtype = Dtype(chunk.dtype)
    return np.ascontiguousarray(
        decode(chunk.codec, chunk.body, dtype, chunk.n_samples, chunk.n_channels)
    )
