"""Damaged bodies: an error that names the cause, never a crash, never wrong rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainforge_edge.codec.registry import CodecError, decode, encode
from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.stream import Codec, Dtype
from brainforge_edge.kernels import predict
from tests.unit.test_codec import KINDS, make

SHAPE = (150, 6)
BODIES = {
    (dtype, kind): encode(Codec.LOSSLESS, make(kind, dtype, *SHAPE, 11), dtype)
    for dtype in Dtype
    for kind in KINDS
}


def refused_or_equal(body: bytes, dtype: Dtype, whole: bytes) -> None:
    """The last byte of a code may have room to spare: then it is another way to say the same rows."""
    try:
        rows = decode(Codec.LOSSLESS, body, dtype, *SHAPE)
    except CodecError:
        return
    assert rows.tobytes() == decode(Codec.LOSSLESS, whole, dtype, *SHAPE).tobytes()


def refused(body: bytes, dtype: Dtype, n_samples: int, n_channels: int) -> None:
    with pytest.raises(CodecError) as caught:
        decode(Codec.LOSSLESS, body, dtype, n_samples, n_channels)
    assert isinstance(caught.value, StorageError)
    assert caught.value.code.startswith("storage.codec_")


@settings(max_examples=300, deadline=None)
@given(
    dtype=st.sampled_from(Dtype),
    kind=st.sampled_from(KINDS),
    where=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
)
def test_no_flipped_bit_gives_other_rows(dtype: Dtype, kind: str, where: float, bit: int) -> None:
    body = bytearray(BODIES[dtype, kind])
    body[int(where * len(body))] ^= 1 << bit
    refused_or_equal(bytes(body), dtype, BODIES[dtype, kind])


@settings(max_examples=150, deadline=None)
@given(
    dtype=st.sampled_from(Dtype),
    kind=st.sampled_from(KINDS),
    kept=st.floats(0, 1, exclude_max=True),
    more=st.binary(max_size=12),
)
def test_a_cut_or_lengthened_body_is_noticed(
    dtype: Dtype, kind: str, kept: float, more: bytes
) -> None:
    whole = BODIES[dtype, kind]
    cut = whole[: int(kept * len(whole))] + more
    if cut != whole:
        refused_or_equal(cut, dtype, whole)
    if more:
        refused(whole + more, dtype, *SHAPE)


@settings(max_examples=300, deadline=None)
@given(
    body=st.binary(min_size=1, max_size=600),
    bits=st.sampled_from([16, 24, 32]),
    n_samples=st.integers(1, 300),
    n_channels=st.integers(1, 12),
)
def test_any_bytes_are_either_rows_or_refused(
    body: bytes, bits: int, n_samples: int, n_channels: int
) -> None:
    """Without the CRC in front: the kernel itself must stand it, and stay within its bits."""
    out = np.zeros((n_samples, n_channels), np.int32)
    if predict.decode(body, bits, out):
        assert out.max() < 2 ** (bits - 1)
        assert out.min() >= -(2 ** (bits - 1))


@settings(max_examples=200, deadline=None)
@given(
    dtype=st.sampled_from([Dtype.I16, Dtype.I24, Dtype.I32]),
    kind=st.sampled_from(KINDS),
    where=st.integers(0, 40),
    value=st.integers(0, 255),
    shape=st.tuples(st.integers(1, 400), st.integers(1, 12)),
)
def test_a_damaged_header_or_another_shape_does_not_harm_the_kernel(
    dtype: Dtype, kind: str, where: int, value: int, shape: tuple[int, int]
) -> None:
    body = bytearray(BODIES[dtype, kind][1:-4])
    body[where % len(body)] = value
    predict.decode(
        body, {Dtype.I16: 16, Dtype.I24: 24, Dtype.I32: 32}[dtype], np.zeros(shape, np.int32)
    )


def test_another_shape_than_the_one_written_is_noticed() -> None:
    body = BODIES[Dtype.I24, "walk"]
    for shape in ((149, 6), (151, 6), (150, 5), (150, 7), (6, 150), (0, 6)):
        refused(body, Dtype.I24, *shape)


def test_an_empty_body_is_noticed() -> None:
    for body in (b"", b"\0", b"\0\0\0\0", b"\x01\0\0\0\0", b"\x02\0\0\0\0\0"):
        refused(body, Dtype.I24, 3, 3)
        with pytest.raises(CodecError):
            decode(Codec.PACKED, body, Dtype.I24, 3, 3)


def test_the_kernel_refuses_shapes_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="bits"):
        predict.decode(b"abc", 33, np.zeros((1, 1), np.int32))
    with pytest.raises(ValueError, match="values"):
        predict.decode(b"abc", 24, np.zeros((0, 1), np.int32))
    with pytest.raises(ValueError, match="64 bytes"):
        predict.encode(np.zeros((1, 1), np.int32), 24, bytearray(8))
    assert predict.encode(np.zeros((1, 0 + 1), np.int32), 24, bytearray(64)) > 0
