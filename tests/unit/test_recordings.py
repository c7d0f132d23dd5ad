"""The recordings that other tests replay: integers, the same at every load."""

import numpy as np
import pytest

from brainforge_edge.core.stream import Dtype
from tests import recordings


def test_the_synthetic_recording_is_the_same_for_a_seed_and_holds_rails_and_steps() -> None:
    one, two = (recordings.synthetic(seed=5, n_samples=600, n_channels=40) for _ in range(2))
    assert np.array_equal(one.data, two.data)
    assert one.data.max() == 2**23 - 1
    assert np.abs(np.diff(one.data[:, 37].astype(np.int64))).max() > 2**17
    assert not np.array_equal(
        one.data, recordings.synthetic(seed=6, n_samples=600, n_channels=40).data
    )


def test_a_grid_is_found_below_the_values_that_lie_on_it() -> None:
    random = np.random.default_rng(1)
    x = 0.4882 * random.integers(-4000, 4000, 2000) + 7.25
    assert recordings.grid_step(x) == pytest.approx(0.4882, rel=1e-6)


@pytest.mark.parametrize("name", recordings.names())
def test_every_recording_fits_its_type_and_is_cut_on_the_grid(name: str) -> None:
    recording = recordings.load(name)
    limit = 1 << (8 * recording.dtype.packed_bytes - 1)
    assert recording.data.dtype == np.int32
    assert recording.data.min() >= -limit
    assert recording.data.max() < limit
    assert recording.data.shape[1] == len(recording.ch_names) == recording.info().n_channels
    assert np.array_equal(np.concatenate(recording.chunks()), recording.data)
    assert recording.dtype in {Dtype.I16, Dtype.I24}
