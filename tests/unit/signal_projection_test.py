"""FastICA on mixtures that are known, and the projection by its matrix."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import signal

from brainforge_edge.signal import projection as module
from brainforge_edge.signal.projection import FEWEST_ROWS, Components, fit
from tests.unit.signal_material import sine

Floats = NDArray[np.float64]
SFREQ = 250
SECONDS = 40


def mixed(seed: int, n_channels: int = 8) -> tuple[Floats, Floats, Floats]:
    """Rows, sources and their maps: blinks, a square wave, a rhythm, bursts, and uniform noise."""
    rng = np.random.default_rng(seed)
    n = SECONDS * SFREQ
    blinks = np.zeros(n)
    blinks[rng.integers(0, n, 25)] = 1
    blinks = signal.convolve(blinks, signal.windows.gaussian(75, 15), mode="same")
    sources = np.stack(
        [
            blinks,
            signal.square(2 * np.pi * 0.7 * np.arange(n) / SFREQ),
            sine(10.0, SECONDS, SFREQ),
            rng.laplace(size=n),
            rng.uniform(-1, 1, n),
        ],
        axis=1,
    )
    sources = (sources - sources.mean(axis=0)) / sources.std(axis=0)
    maps = rng.standard_normal((5, n_channels)) * np.array([[5], [1], [1], [1], [1]])
    return sources @ maps, sources, maps


def fitted(rows: Floats, seed: int = 0, n: int | None = None) -> Components:
    return fit(rows, np.random.default_rng(seed), n_components=n)


@pytest.mark.parametrize("seed", range(6))
def test_sources_of_a_known_mixture_are_found_with_their_maps(seed: int) -> None:
    rows, sources, maps = mixed(seed)
    components = fitted(rows, seed)
    assert components.unmixing.shape == (5, 8)  # the rank, not the channels
    likeness = components.likeness(rows, sources)
    assert likeness.max(axis=0).min() > 0.98
    assert sorted(likeness.argmax(axis=0).tolist()) == [0, 1, 2, 3, 4]
    blink = int(likeness[:, 0].argmax())
    found = components.mixing[:, blink]
    cosine = abs(found @ maps[0]) / np.linalg.norm(found) / np.linalg.norm(maps[0])
    assert cosine > 0.99


@pytest.mark.parametrize("seed", range(6))
def test_blinks_fall_by_20_db_in_rows_that_were_not_fitted_on(seed: int) -> None:
    rows, sources, maps = mixed(seed)
    half = len(rows) // 2
    components = fitted(rows[:half])
    blink = int(components.likeness(rows[:half], sources[:half])[:, 0].argmax())
    found = components.without((blink,)).apply(rows[half:])
    was = np.outer(sources[half:, 0], maps[0])
    left = found - (rows[half:] - was)
    assert 10 * np.log10((was**2).mean() / (left**2).mean()) > 20


def test_mixing_undoes_unmixing_and_sources_are_white() -> None:
    rows, _, _ = mixed(1)
    components = fitted(rows)
    np.testing.assert_allclose(components.unmixing @ components.mixing, np.eye(5), atol=1e-9)
    sources = components.sources(rows)
    np.testing.assert_allclose(sources.T @ sources / len(rows), np.eye(5), atol=1e-6)
    power = (components.mixing**2).sum(axis=0)
    assert (np.diff(power) <= 0).all()
    assert (components.mixing.max(axis=0) >= -components.mixing.min(axis=0)).all()


def test_the_same_seed_gives_the_same_components() -> None:
    rows, _, _ = mixed(2)
    assert np.array_equal(fitted(rows).unmixing, fitted(rows).unmixing)


def test_applied_rows_are_those_of_the_matrix_which_is_a_projection() -> None:
    rows, _, _ = mixed(3)
    projection = fitted(rows).without((0, 2))
    np.testing.assert_allclose(projection.apply(rows), rows @ projection.matrix.T, atol=1e-9)
    np.testing.assert_allclose(projection.matrix @ projection.matrix, projection.matrix, atol=1e-9)
    assert np.linalg.matrix_rank(projection.matrix) == 6
    assert np.array_equal(fitted(rows).without(()).apply(rows), rows)


def test_what_principal_components_leave_out_is_never_removed() -> None:
    rows, _, _ = mixed(4)
    rng = np.random.default_rng(5)
    rows = rows + 0.1 * rng.standard_normal(rows.shape)
    components = fitted(rows, n=3)
    assert components.mixing.shape == (8, 3)
    outside = np.linalg.svd(components.mixing)[0][:, 3:]
    cleaned = components.without((0, 1, 2)).apply(rows)
    np.testing.assert_allclose(cleaned @ outside, rows @ outside, atol=1e-9)


def test_chunks_change_no_bit_and_what_is_given_stays() -> None:
    rows = mixed(1)[0].astype(np.float32)
    projection = fitted(rows.astype(np.float64)).without((1, 3))
    before = rows.copy()
    whole = projection.apply(rows)
    assert whole.dtype == np.float32
    for size in (1, 7, 3331):
        parts = [projection.apply(rows[i : i + size]) for i in range(0, len(rows), size)]
        assert np.array_equal(np.concatenate(parts), whole)
    assert np.array_equal(rows, before)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
def test_a_bad_value_stays_and_reaches_no_other_channel_as_one(bad: float) -> None:
    rows, _, _ = mixed(1)
    projection = fitted(rows).without((0,))
    hurt, still = rows.copy(), rows.copy()
    hurt[50:60, 2], still[50:60, 2] = bad, 0
    others = [0, 1, 3, 4, 5, 6, 7]
    found = projection.apply(hurt)
    assert np.array_equal(found[:, others], projection.apply(still)[:, others])
    assert np.array_equal(found[50:60, 2], hurt[50:60, 2], equal_nan=True)


def test_bad_rows_of_the_calibration_are_left_out() -> None:
    rows, _, _ = mixed(1)
    hurt = np.insert(rows, 500, np.nan, axis=0)
    assert np.array_equal(fitted(hurt).unmixing, fitted(rows).unmixing)


def test_what_has_no_components_is_refused_with_the_reason() -> None:
    rows, _, _ = mixed(1)
    with pytest.raises(ValueError, match="are needed"):
        fitted(rows[: FEWEST_ROWS - 1])
    with pytest.raises(ValueError, match="rank 0"):
        fitted(np.zeros((FEWEST_ROWS, 4)))
    with pytest.raises(ValueError, match="components of"):
        fitted(rows, n=0)
    with pytest.raises(ValueError, match="their square"):
        fitted(np.random.default_rng(1).uniform(size=(1100, 40)))
    with pytest.raises(ValueError, match="can be removed"):
        fitted(rows).without((5,))
    with pytest.raises(ValueError, match="rows of shape"):
        fitted(rows).without((0,)).apply(rows[:, :3])


def test_what_does_not_settle_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_ROUNDS", 1)
    with pytest.raises(ValueError, match="no convergence in 1 rounds"):
        fitted(mixed(1)[0])


def test_a_source_that_does_not_move_is_like_nothing() -> None:
    rows, _, _ = mixed(1)
    assert np.isnan(fitted(rows).likeness(rows, np.ones((len(rows), 1)))).all()
