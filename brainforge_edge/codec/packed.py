"""Rows between memory and packed little-endian bytes. Runs in: archive thread, readers of segments, cloud."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.stream import Dtype
from brainforge_edge.kernels.unpack import pack24, unpack24

MAX_CHANNELS = 65_536
MAX_PLAIN_BYTES = 8 * 1024 * 1024  # packed rows of one body; checked before anything is allocated


class CodecError(StorageError):
    """A body that is not what a codec wrote, or rows that no codec takes."""

    def __init__(self, reason: str, why: str) -> None:
        super().__init__(
            f"codec_{reason}",
            "the samples of a chunk cannot be coded or read",
            why=why,
            remedy="Run brainforge-edge verify on the recording; the other chunks can still be read",
        )


def check_shape(dtype: Dtype, n_samples: int, n_channels: int) -> int:
    """Packed bytes of such rows; raises CodecError when a body may not hold that many."""
    if n_samples < 0 or not 1 <= n_channels <= MAX_CHANNELS:
        raise CodecError("shape", f"{n_samples} samples of {n_channels} channels are no rows")
    plain = n_samples * n_channels * dtype.packed_bytes
    if plain > MAX_PLAIN_BYTES:
        raise CodecError("oversize", f"{plain} bytes are more than the {MAX_PLAIN_BYTES} of a body")
    return plain


def native_rows(rows: NDArray[Any], dtype: Dtype) -> NDArray[Any]:
    """(n_samples, n_channels) in C order and the memory type; raises CodecError for another type."""
    if rows.ndim != 2 or rows.dtype != np.dtype(dtype.memory):
        raise CodecError(
            "rows", f"{dtype.name} rows are 2-D {dtype.memory}, not {rows.ndim}-D {rows.dtype.str}"
        )
    return np.ascontiguousarray(rows)


def pack_rows(rows: NDArray[Any], dtype: Dtype) -> bytes:
    """Packed little-endian rows; I24 takes 3 bytes a value and keeps the low 24 bits."""
    rows = native_rows(rows, dtype)
    if dtype is not Dtype.I24:
        return rows.tobytes()
    out = bytearray(rows.size * 3)
    pack24(rows.reshape(-1), out)
    return bytes(out)


def unpack_rows(data: bytes | memoryview, dtype: Dtype, n_channels: int) -> NDArray[Any]:
    """(n_samples, n_channels) in the memory type; raises CodecError when `data` is not whole rows."""
    row_bytes = n_channels * dtype.packed_bytes
    if n_channels < 1 or len(data) % row_bytes:
        raise CodecError("length", f"{len(data)} bytes are not whole rows of {n_channels} channels")
    shape = (len(data) // row_bytes, n_channels)
    if dtype is not Dtype.I24:
        return np.frombuffer(data, dtype.memory).reshape(shape).copy()
    out = np.empty(shape, dtype.memory)
    unpack24(data, out.reshape(-1))
    return out
