"""Vectors of any width give the same bytes and the same rows: a box writes what every other reads."""

import numpy as np
import pytest
from numpy.typing import NDArray

from brainforge_edge.core.stream import Dtype
from brainforge_edge.kernels import predict
from tests.recordings import synthetic
from tests.unit.test_codec import KINDS, make
from tests.unit.test_codec_agreement import absurd

ABSURD = ("copies", "alternating", "ramps", "steps of all sizes", "sines")


def coded(rows: NDArray[np.int32], bits: int, lanes: int) -> bytes:
    out = bytearray(rows.size * 5 + 64)
    return bytes(out[: predict.encode(rows, bits, out, lanes=lanes)])


def rows_of(name: str) -> NDArray[np.int32]:
    if name in ABSURD:
        return absurd(name)
    if name == "helmet":
        return np.ascontiguousarray(synthetic(seed=3, n_samples=700, n_channels=40).data)
    return np.ascontiguousarray(make(name, Dtype.I24, 333, 9, 6), np.int32)


@pytest.mark.parametrize("name", [*KINDS, *ABSURD, "helmet"])
def test_the_width_of_the_vectors_changes_neither_bytes_nor_rows(name: str) -> None:
    rows = rows_of(name)
    bodies = {coded(rows, 32, lanes) for lanes in (1, 4, 8)}
    assert len(bodies) == 1
    body = bodies.pop()
    for lanes in (1, 4, 8):
        back = np.empty_like(rows)
        assert predict.decode(body, 32, back, lanes=lanes)
        assert np.array_equal(back, rows)
