"""The kernel against a reader written from the page: the page is the format."""

import numpy as np
import pytest

from brainforge_edge.core.stream import Dtype
from brainforge_edge.kernels import predict
from tests.recordings import synthetic
from tests.unit import codec_oracle
from tests.unit.test_codec import KINDS, make


@pytest.mark.parametrize("dtype", [Dtype.I16, Dtype.I24, Dtype.I32])
@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_written_from_the_page_reads_every_kind(dtype: Dtype, kind: str) -> None:
    _compare(make(kind, dtype, 90, 5, 21).astype("<i4"), dtype.packed_bytes * 8)


def test_a_reader_written_from_the_page_reads_neighbours_and_long_columns() -> None:
    _compare(np.ascontiguousarray(synthetic(seed=2, n_samples=300, n_channels=10).data), 24)
    _compare(np.ascontiguousarray(synthetic(seed=3, n_samples=700, n_channels=3).data), 24)


def _compare(rows: np.ndarray[tuple[int, int], np.dtype[np.int32]], bits: int) -> None:
    out = bytearray(rows.size * 5 + 64)
    size = predict.encode(rows, bits, out)
    assert size > 0
    columns = codec_oracle.decode(bytes(out[:size]), bits, *rows.shape)
    assert np.array_equal(np.array(columns).T, rows)
