"""Encode and decode chunk bodies by codec number (docs/codec.md). Runs in: archive thread, readers, cloud.

Every body ends with the CRC-32C (u32, little-endian) of the plain packed rows, so that a decoder
that goes wrong is seen, whatever the codec.
"""

from typing import Any

from numpy.typing import NDArray

from brainforge_edge.codec import lossless
from brainforge_edge.codec.packed import (
    CodecError,
    check_shape,
    native_rows,
    pack_rows,
    unpack_rows,
)
from brainforge_edge.core.stream import Codec, Dtype, StreamInfo
from brainforge_edge.kernels.crc import crc32c

__all__ = [
    "CodecError",
    "as_packed",
    "decode",
    "encode",
    "encode_packed",
    "pack_rows",
    "unpack_rows",
]

CRC_BYTES = 4


def encode(codec: Codec, rows: NDArray[Any], dtype: Dtype) -> bytes:
    """Body of `rows` (n_samples, n_channels) in the memory type; raises CodecError for rows it cannot take."""
    rows = native_rows(rows, dtype)
    check_shape(dtype, rows.shape[0], rows.shape[1])
    if dtype is Dtype.I24 and rows.size and not -(2**23) <= rows.min() <= rows.max() < 2**23:
        raise CodecError("range", "a value does not fit 24 bits")
    plain = pack_rows(rows, dtype)
    if codec is Codec.PACKED:
        return as_packed(plain)
    if codec is Codec.LOSSLESS:
        crc = crc32c(plain).to_bytes(CRC_BYTES, "little")
        return lossless.encode(rows, plain, dtype) + crc
    raise _not_samples(codec)


def encode_packed(packed: bytes, info: StreamInfo) -> tuple[Codec, bytes]:
    """Codec and body of packed rows (`recorder.cut.Encode`); raises CodecError."""
    rows = unpack_rows(packed, info.dtype, info.n_channels)
    return Codec.LOSSLESS, encode(Codec.LOSSLESS, rows, info.dtype)


def as_packed(packed: bytes) -> bytes:
    """PACKED body of packed rows."""
    return packed + crc32c(packed).to_bytes(CRC_BYTES, "little")


def decode(
    codec: Codec, body: bytes | memoryview, dtype: Dtype, n_samples: int, n_channels: int
) -> NDArray[Any]:
    """Rows (n_samples, n_channels) of a body; raises CodecError on any damage."""
    plain_bytes = check_shape(dtype, n_samples, n_channels)
    if len(body) < CRC_BYTES:
        raise CodecError("length", f"a body of {len(body)} bytes is too short")
    coded = memoryview(body)[:-CRC_BYTES]
    expected = int.from_bytes(body[-CRC_BYTES:], "little")
    if codec is Codec.PACKED:
        if len(coded) != plain_bytes:
            raise CodecError("length", f"{len(coded)} bytes are not the {plain_bytes} of its rows")
        rows = unpack_rows(coded, dtype, n_channels)
        crc = crc32c(coded)
    elif codec is Codec.LOSSLESS:
        rows = lossless.decode(coded, dtype, n_samples, n_channels)
        crc = crc32c(pack_rows(rows, dtype))
    else:
        raise _not_samples(codec)
    if crc != expected:
        raise CodecError("crc", "the CRC-32C of its samples does not match")
    return rows


def _not_samples(codec: Codec) -> CodecError:
    return CodecError("kind", f"codec {codec.name} does not hold samples")
