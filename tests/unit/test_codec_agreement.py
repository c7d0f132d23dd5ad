"""Kernel and page agree on any bytes: on what is refused, and on every value of what is not.

Random bytes alone get no further than a few columns of noise, so heads are written on purpose:
right ones, and ones just beyond every limit of the page; what follows them is random.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from brainforge_edge.codec.registry import encode
from brainforge_edge.core.stream import Codec, Dtype
from brainforge_edge.kernels import predict
from tests.unit import codec_oracle
from tests.unit.codec_oracle import Decoder, Refused
from tests.unit.test_codec import KINDS, make


class Writer:
    """Range coder of docs/codec.md, with unbounded integers."""

    def __init__(self) -> None:
        self.low, self.range, self.bytes = 0, 2**64 - 1, 8

    def put(self, cum: int, freq: int, total: int) -> None:
        r = self.range >> total
        self.low += r * cum
        self.range = r * freq
        while self.range < 2**32:
            self.low, self.range, self.bytes = self.low << 32, self.range << 32, self.bytes + 4

    def bits(self, v: int, n: int) -> None:
        if n > 16:
            self.bits(v >> 16, n - 16)
            self.bits(v & 65535, 16)
        elif n:
            self.put(v, 1, n)

    def golomb(self, v: int, k: int) -> None:
        w = v + 2**k
        m = w.bit_length() - 1
        for _ in range(m - k):
            self.bits(1, 1)
        self.bits(0, 1)
        if m > 32:
            self.bits((w >> 32) % 2 ** (m - 32), m - 32)
        self.bits(w % 2 ** min(m, 32), min(m, 32))

    def ended(self, where: float) -> bytes:
        """Any code that begins with what was put."""
        value = self.low + min(self.range - 1, int(self.range * where))
        return value.to_bytes(self.bytes, "big")


def zigzag(v: int) -> int:
    return 2 * v if v >= 0 else -2 * v - 1


NEAR_ZERO = st.integers(-3, 3)
FIRST = st.one_of(
    st.integers(-300, 300), st.integers(-(2**32), 2**32), st.integers(-(2**42), 2**42)
)


@st.composite
def heads(draw: st.DrawFn, n: int, channels: int, bits: int) -> bytes:
    """Columns without prediction, then the head of a predicted one, then noise."""
    w = Writer()
    length = 0
    flat = draw(st.integers(0, channels - 1))
    for _ in range(flat):
        if draw(st.booleans()):
            w.put(14, 1, 4)
            for _ in range(n):
                w.bits(draw(st.integers(0, 2**bits - 1)), bits)
        else:
            w.put(13, 1, 4)
            z = zigzag(draw(FIRST))
            w.golomb(z, max(0, length - 3))
            length = z.bit_length()
    mode = draw(st.sampled_from(("OLS", "OLS", "OLS", "PALETTE", "noise")))
    if mode == "OLS":
        w.put(0, 13, 4)
        w.golomb(zigzag(draw(FIRST)), max(0, length - 3))
        w.golomb(draw(st.sampled_from((0, 0, 1, 2, 6, 7, 7, 8, 100))), 0)
        shift = draw(st.sampled_from((-13, -12, -5, 0, 3, 7, 12, 20, 24, 25)))
        w.golomb(zigzag(shift), 0)
        w.golomb(zigzag(draw(st.one_of(NEAR_ZERO, st.integers(-12 - shift, 24 - shift)))), 0)
        w.bits(draw(st.integers(0, 6)), 3)
        w.bits(draw(st.integers(0, 3)), 2)
        n_near = draw(st.integers(0, min(7, flat + 1)))
        w.bits(n_near, 3)
    elif mode == "PALETTE":
        w.put(15, 1, 4)
        size = draw(st.sampled_from((1, 2, 3, 5, 64)))
        w.bits(size - 1, 6)
        w.golomb(zigzag(draw(FIRST)), 12)
        for _ in range(size - 1):
            w.golomb(draw(st.sampled_from((0, 1, 1000, 2**20, 2**32))), 6)
    return w.ended(draw(st.floats(0, 1, exclude_max=True)))


def kernel(body: bytes, bits: int, n: int, channels: int) -> list[list[int]] | None:
    out = np.zeros((n, channels), np.int32)
    return out.T.tolist() if predict.decode(body, bits, out) else None


def page(body: bytes, bits: int, n: int, channels: int) -> list[list[int]] | None:
    try:
        return codec_oracle.decode(body, bits, n, channels)
    except Refused:
        return None


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_kernel_and_page_agree_on_any_bytes(data: st.DataObject) -> None:
    bits = data.draw(st.sampled_from((16, 24, 32)))
    n = data.draw(st.sampled_from((1, 2, 15, 17, 18, 34, 70)))
    channels = data.draw(st.integers(1, 9))
    head = data.draw(heads(n, channels, bits))
    noise = np.random.default_rng(data.draw(st.integers(0, 2**32))).bytes(4 * n * channels + 64)
    d = Decoder(head + noise)
    try:
        columns = codec_oracle.columns_of(d, bits, n, channels)
    except Refused:
        whole = head + noise
        assert kernel(whole, bits, n, channels) is None
        return
    whole = (head + noise)[: d.at].ljust(d.at, b"\0")  # what is not there was read as zero
    assert page(whole, bits, n, channels) == columns
    assert kernel(whole, bits, n, channels) == columns
    for longer_or_cut in (whole + b"\0", whole[:-1], whole[:-4], whole[:-7], whole[:-8]):
        if longer_or_cut:
            expected = page(longer_or_cut, bits, n, channels)
            assert kernel(longer_or_cut, bits, n, channels) == expected


@settings(max_examples=120, deadline=None)
@given(
    dtype=st.sampled_from((Dtype.I16, Dtype.I24, Dtype.I32)),
    kind=st.sampled_from(KINDS),
    where=st.floats(0, 1, exclude_max=True),
    value=st.integers(0, 255),
    kept=st.sampled_from((1.0, 1.0, 1.0, 0.9, 0.5)),
)
def test_kernel_and_page_agree_on_damaged_bodies(
    dtype: Dtype, kind: str, where: float, value: int, kept: float
) -> None:
    shape = (60, 4)
    code = bytearray(encode(Codec.LOSSLESS, make(kind, dtype, *shape, 5), dtype)[1:-4])
    code = code[: max(1, int(kept * len(code)))]
    code[int(where * len(code))] = value
    bits = 8 * dtype.packed_bytes
    assert kernel(bytes(code), bits, *shape) == page(bytes(code), bits, *shape)


def absurd(name: str) -> NDArray[np.int32]:
    """Columns whose Gram matrix has next to no rank, or is of very unlike sizes."""
    t, column = np.arange(400)[:, None], np.arange(9)
    random = np.random.default_rng(4)
    if name == "copies":
        x = np.repeat(random.normal(0, 4000, (400, 1)).cumsum(axis=0), 9, axis=1)
    elif name == "alternating":
        x = np.where(t % 2, 1.0, -1.0) * (2**31 - 1 - t * column)
    elif name == "ramps":
        x = t * (column + 1) * 1000.0
    elif name == "steps of all sizes":
        x = (random.random((400, 9)) < 0.1).cumsum(axis=0) * 10.0**column % 2**31
    else:
        x = 2.0**30 * np.sin(t / (column + 2))
    rows: NDArray[np.int32] = np.rint(x).astype(np.int32)
    return rows


@pytest.mark.parametrize("name", ["copies", "alternating", "ramps", "steps of all sizes", "sines"])
def test_kernel_and_page_agree_where_the_solver_has_little_to_hold(name: str) -> None:
    rows = absurd(name)
    out = bytearray(rows.size * 5 + 64)
    size = predict.encode(rows, 32, out)
    assert codec_oracle.decode(bytes(out[:size]), 32, *rows.shape) == rows.T.tolist()


def test_a_code_that_ends_in_a_long_stay_of_a_palette_is_refused_all_the_same() -> None:
    w = Writer()
    w.put(15, 1, 4)
    w.bits(1, 6)  # two values, 0 and 1
    w.golomb(0, 12)
    w.golomb(0, 6)
    code = w.ended(0.0)  # its lower end, and zeros after it: stays
    assert page(code, 16, 20, 1) == kernel(code, 16, 20, 1) == [[1] * 20]
    assert page(code, 16, 60_000, 1) is None
    assert kernel(code, 16, 60_000, 1) is None


@pytest.mark.parametrize("beyond", [0, 2, 2**36, 2**39, 2**40])
def test_an_error_so_large_that_it_would_wrap_is_refused(beyond: int) -> None:
    w = Writer()
    w.put(0, 13, 4)
    w.golomb(0, 0)  # x[0]
    w.golomb(0, 0)  # donor: the blank one, scale 2^21
    w.golomb(zigzag(24), 0)
    w.golomb(0, 0)
    w.bits(0, 3 + 2 + 3)
    drop, limit, edge = codec_oracle.cells(codec_oracle.SHAPES[0], 2**41, 0)
    if beyond:
        w.put(edge(limit + 1), 2**20 - edge(limit + 1), 20)
        w.golomb(beyond - limit - 1 if beyond > limit else beyond, 6)
    else:
        w.put(edge(0), edge(1) - edge(0), 20)
    w.bits(0, drop)
    code = w.ended(0.0)
    d = Decoder(code)
    try:
        codec_oracle.columns_of(d, 32, 2, 1)
        code = code[: d.at]
    except Refused:
        pass
    expected = None if beyond else [[0, 0]]
    assert page(code, 32, 2, 1) == expected
    assert kernel(code, 32, 2, 1) == expected


def test_the_page_has_the_program_s_tables() -> None:
    text = (codec_oracle.PAGES.parents[1] / "ext" / "shapes.h").read_text(encoding="utf-8")
    tables = text.split("{ /*")[1:]
    numbers = [
        [int(v) for v in table.split("*/")[1].split("}")[0].split(",")[:-1]] for table in tables
    ]
    assert [table[:161] for table in numbers] == codec_oracle.SHAPES
    assert len(numbers) == 6
