"""Lossless bodies (codec 1, docs/codec.md). Runs in: archive thread, readers of segments, cloud.

A body is one byte of form and what it says: 0, packed rows as they are (nothing was gained); 1, the
predictor's code. Floats are coded as integers of the same order, 64-bit ones as two halves.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.codec.packed import CodecError, unpack_rows
from brainforge_edge.core.stream import Dtype
from brainforge_edge.kernels import predict

FORM_PACKED = 0
FORM_PREDICTED = 1

_BITS = {Dtype.I16: 16, Dtype.I24: 24, Dtype.I32: 32, Dtype.F32: 32, Dtype.F64: 32}
_LEAST_OUT = 64  # bytes; below it the kernel does not start


def encode(rows: NDArray[Any], plain: bytes, dtype: Dtype) -> bytes:
    """Coded `rows` (n_samples, n_channels), native type, C order; `plain` are the same rows packed."""
    if rows.size:
        bits = _BITS[dtype]
        columns = _as_int32(rows, dtype)
        out = bytearray(max(len(plain), _LEAST_OUT))
        size = predict.encode(columns, bits, out)
        if 0 < size < len(plain):
            return bytes([FORM_PREDICTED]) + out[:size]
    return bytes([FORM_PACKED]) + plain


def decode(coded: memoryview, dtype: Dtype, n_samples: int, n_channels: int) -> NDArray[Any]:
    """Rows of a body; raises CodecError. The caller has bounded the shape and checks the CRC."""
    if len(coded) == 0:
        raise CodecError("length", "the body is empty")
    form, rest = coded[0], coded[1:]
    if form == FORM_PACKED:
        if len(rest) != n_samples * n_channels * dtype.packed_bytes:
            raise CodecError("length", f"{len(rest)} bytes are not {n_samples} packed rows")
        return unpack_rows(rest, dtype, n_channels)
    if form != FORM_PREDICTED:
        raise CodecError("form", f"form {form} is not known")
    if n_samples == 0:
        raise CodecError("shape", "predicted rows cannot be empty")
    columns = np.empty((n_samples, n_channels * (2 if dtype is Dtype.F64 else 1)), np.int32)
    if not predict.decode(rest, _BITS[dtype], columns):
        raise CodecError("damaged", "its code does not describe these rows")
    return _from_int32(columns, dtype)


def _as_int32(rows: NDArray[Any], dtype: Dtype) -> NDArray[np.int32]:
    if dtype is Dtype.F32:
        return _ordered(rows.view("<i4"))
    if dtype is Dtype.F64:
        ordered = _ordered(rows.view("<i8"))
        high = (ordered >> 32).astype(np.int32)
        low = (ordered & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
        return np.concatenate((high, low), axis=1)
    return np.ascontiguousarray(rows, np.int32)


def _from_int32(columns: NDArray[np.int32], dtype: Dtype) -> NDArray[Any]:
    if dtype is Dtype.F32:
        return _ordered(columns).astype("<i4").view("<f4")
    if dtype is Dtype.F64:
        n = columns.shape[1] // 2
        high = columns[:, :n].astype(np.int64) << 32
        low = np.ascontiguousarray(columns[:, n:]).view(np.uint32).astype(np.int64)
        return _ordered(high | low).astype("<i8").view("<f8")
    return columns.astype(dtype.memory, copy=False)


def _ordered(bits: NDArray[Any]) -> NDArray[Any]:
    """Bit patterns of floats as integers of the same order (−0.0 apart from 0.0); its own inverse."""
    top = np.array(1, bits.dtype) << (bits.dtype.itemsize * 8 - 1)
    return np.where(bits < 0, bits ^ ~top, bits)
