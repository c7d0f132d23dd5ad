"""Sample entropy against its definition, and on signals whose entropy is known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from brainforge_edge.kernels.entropy import MOST_SAMPLES, count_alike
from brainforge_edge.signal.entropy import sample_entropy
from tests.unit.signal_material import noise, sine


def plain(x: NDArray[np.float32], tolerance: np.float32, m: int) -> tuple[int, int]:
    """Pairs alike over m and over m + 1, of the first n - m stretches."""
    n = len(x) - m
    counts = []
    for length in (m, m + 1):
        parts = np.stack([x[i : i + n] for i in range(length)], axis=1)
        far = np.abs(parts[:, None] - parts[None]).max(axis=2)
        counts.append((int((far <= tolerance).sum()) - n) // 2)
    return counts[0], counts[1]


@pytest.mark.parametrize("m", [1, 2, 3])
@pytest.mark.parametrize("n", [5, 33, 128, 250])
def test_counts_are_those_of_the_definition(n: int, m: int) -> None:
    x = noise(n / 100, 100, 4)
    tolerances = np.array([0.1, 0.3, 1.0, 0.0], np.float32)
    out = np.empty((4, 2), np.int64)
    count_alike(x, tolerances, m, out)
    assert [tuple(row) for row in out.tolist()] == [
        plain(x[:, j], tolerances[j], m) for j in range(4)
    ]


@pytest.mark.parametrize("unit", [1e-15, 1e-6, 1.0, 1e7])
def test_it_is_minus_the_logarithm_whatever_the_unit(unit: float) -> None:
    x = noise(4, 100, 3).astype(np.float64)
    found = sample_entropy(x * unit + 3 * unit)
    for j in range(3):
        z = ((x[:, j] - x[:, j].mean()) / x[:, j].std()).astype(np.float32)
        b, a = plain(z, np.float32(0.2), 2)
        assert found[j] == pytest.approx(-np.log(a / b), abs=0.02)  # a pair at the edge of r


def test_white_noise_has_the_entropy_of_its_distribution() -> None:
    """For independent Gaussian samples A / B is the chance that two lie within r: erf(r / 2)."""
    x = np.random.default_rng(1).standard_normal((MOST_SAMPLES, 6))
    assert sample_entropy(x).mean() == pytest.approx(2.19, abs=0.06)  # -ln erf(0.1)


def test_a_rhythm_has_less_than_noise_and_noise_added_raises_it() -> None:
    rows = np.stack([sine(10, 4, 125), sine(10, 4, 125), sine(10, 4, 125)], axis=1)
    rng = np.random.default_rng(1)
    rows += rng.standard_normal(rows.shape) * [0.001, 0.3, 3.0]
    found = sample_entropy(rows)
    assert found[0] < 0.5 < found[1] < found[2]


def test_what_has_no_figure_is_nan_and_reaches_no_other_channel() -> None:
    x = noise(2, 125, 5).astype(np.float64)
    alone = sample_entropy(x)
    x[:, 1] = 0.1
    x[7, 2], x[7, 3] = np.nan, np.inf
    found = sample_entropy(x)
    assert np.isnan(found[1:4]).all()
    assert np.array_equal(found[[0, 4]], alone[[0, 4]])
    assert np.isnan(sample_entropy(x, r=1e-9)).all()


def test_windows_that_are_too_short_or_too_long_are_refused() -> None:
    for n in (0, 99, MOST_SAMPLES + 1):
        with pytest.raises(ValueError, match="rows of shape"):
            sample_entropy(np.zeros((n, 2)))
    for m, r in ((0, 0.2), (9, 0.2), (2, 0.0), (2, np.nan), (2, np.inf)):
        with pytest.raises(ValueError, match="are possible"):
            sample_entropy(np.zeros((200, 2)), m=m, r=r)
    with pytest.raises(ValueError, match="tolerances"):
        count_alike(
            np.zeros((9, 2), np.float32), np.zeros(1, np.float32), 2, np.zeros((2, 2), np.int64)
        )
