"""Coupling against the formulas written out in loops, and sources whose coupling is known."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import signal

from brainforge_edge.signal.connectivity import (
    FEWEST_SEGMENTS,
    MOST_PAIRS,
    Coupling,
    Segments,
    all_pairs,
    coupling,
)
from brainforge_edge.signal.grid import BANDS, grid
from brainforge_edge.signal.windows import Windows

SFREQ = 250
ALPHA = [band.name for band in BANDS].index("alpha")


def of(rows: NDArray[np.floating], pairs: list[tuple[int, int]], **segments: int) -> Coupling:
    windows = Windows(grid(SFREQ), rows.shape[1])
    kept = Segments(windows, pairs, **segments)
    for part in windows.cut(rows.astype(np.float32)):
        if windows.push(rows[part].astype(np.float32)):
            kept.take()
    return kept.coupling()


def white(seconds: int, n: int, seed: int = 2) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal((seconds * SFREQ, n))


def segments_of(x: NDArray[np.float64]) -> NDArray[np.complex128]:
    """(n_segments, n_channels, 126): seconds under Hann, mean removed."""
    seconds = x.reshape(-1, SFREQ, x.shape[1])
    seconds = seconds - seconds.mean(axis=1, keepdims=True)
    hann = signal.get_window("hann", SFREQ)[None, :, None]
    found: NDArray[np.complex128] = np.fft.rfft(seconds * hann, axis=1).transpose(0, 2, 1)
    return found


def looped(x: NDArray[np.complex128], y: NDArray[np.complex128]) -> tuple[float, float, float]:
    """Coherence, PLV and debiased wPLI² of one bin, the last by its definition over pairs of segments."""
    cross = x * y.conj()
    coherence = abs(cross.sum()) ** 2 / ((abs(x) ** 2).sum() * (abs(y) ** 2).sum())
    plv = abs(np.exp(1j * (np.angle(x) - np.angle(y))).mean())
    over = under = 0.0
    for j in range(len(cross)):
        for k in range(len(cross)):
            if j != k:
                over += cross[j].imag * cross[k].imag
                under += abs(cross[j].imag * cross[k].imag)
    return float(coherence), float(plv), over / under


def test_all_figures_are_those_of_the_formulas() -> None:
    x = white(20, 3)
    x[:, 1] += 0.8 * np.roll(x[:, 0], 3)
    pairs = [(0, 1), (2, 1)]
    found = of(x, pairs, n_segments=20)
    spectra = segments_of(x.astype(np.float32).astype(np.float64))
    assert found.n_segments.tolist() == [20, 20]
    for p, (a, b) in enumerate(pairs):
        for i, band in enumerate(BANDS):
            bins = range(int(band.low_hz), int(band.high_hz))
            each = np.array([looped(spectra[:, a, k], spectra[:, b, k]) for k in bins])
            got = (found.coherence[p, i], found.plv[p, i], found.wpli2[p, i])
            np.testing.assert_allclose(got, each.mean(axis=0), rtol=1e-7, atol=1e-10)


def test_coherence_is_that_of_scipy() -> None:
    x = white(30, 2)
    x[:, 1] += x[:, 0]
    found = of(x, [(0, 1)])
    _, wanted = signal.coherence(
        x[:, 0], x[:, 1], SFREQ, "hann", nperseg=SFREQ, noverlap=0, detrend="constant"
    )
    for i, band in enumerate(BANDS):
        inside = wanted[int(band.low_hz) : int(band.high_hz)]
        assert found.coherence[0, i] == pytest.approx(inside.mean(), rel=1e-4)


def test_one_source_seen_by_two_sensors_at_once_has_no_lag() -> None:
    """Volume conduction: coherence and PLV are high, the debiased index is about 0."""
    x = white(60, 3)
    source = x[:, 2]
    mixed = np.stack([source + 0.3 * x[:, 0], -0.7 * source + 0.3 * x[:, 1]], axis=1)
    found = of(mixed, [(0, 1)], n_segments=60)
    assert found.coherence[0].min() > 0.5
    assert found.plv[0].min() > 0.7
    assert np.abs(found.wpli2[0]).max() < 0.1


def test_the_same_signal_twice_has_exactly_no_lag() -> None:
    x = white(30, 1)
    found = of(np.concatenate([x, 0.5 * x], axis=1), [(0, 1)])
    np.testing.assert_allclose(found.coherence, 1.0)
    np.testing.assert_allclose(found.plv, 1.0)
    assert np.abs(found.wpli2).max() == 0.0


def test_a_source_that_arrives_later_at_one_sensor_has_a_lag() -> None:
    x = white(60, 3)
    late = np.roll(x[:, 0], 6)  # 24 ms: a quarter of a cycle of alpha
    found = of(np.stack([x[:, 0] + 0.3 * x[:, 1], late + 0.3 * x[:, 2]], axis=1), [(0, 1)])
    assert found.wpli2[0, ALPHA] > 0.9


def test_strangers_are_not_coupled() -> None:
    found = of(white(60, 2), [(0, 1)], n_segments=60)
    assert found.coherence.max() < 0.1
    assert found.plv.max() < 0.25
    assert np.abs(found.wpli2).max() < 0.1


def test_until_there_are_enough_segments_there_is_no_figure() -> None:
    few = of(white(FEWEST_SEGMENTS - 1, 2), [(0, 1)])
    assert few.n_segments.tolist() == [FEWEST_SEGMENTS - 1]
    for values in (few.coherence, few.plv, few.wpli2):
        assert np.isnan(values).all()
    assert np.isfinite(of(white(FEWEST_SEGMENTS, 2), [(0, 1)]).wpli2).all()


def test_a_segment_that_touches_a_trouble_is_left_out_for_its_pairs_alone() -> None:
    x = white(20, 3)
    damaged = x.copy()
    damaged[5 * SFREQ + 17, 2] = np.nan
    found, wanted = of(damaged, [(0, 1), (1, 2)]), of(x, [(0, 1), (1, 2)])
    assert found.n_segments.tolist() == [20, 19]
    assert np.array_equal(found.plv[0], wanted.plv[0])
    spectra = np.delete(segments_of(x.astype(np.float32).astype(np.float64)), 5, axis=0)
    each = [looped(spectra[:, 1, k], spectra[:, 2, k]) for k in range(8, 13)]
    got = (found.coherence[1, ALPHA], found.plv[1, ALPHA], found.wpli2[1, ALPHA])
    np.testing.assert_allclose(got, np.mean(each, axis=0), rtol=1e-6, atol=1e-9)


def test_only_the_newest_segments_count_and_the_state_is_bounded() -> None:
    x = white(40, 2)
    x[: 20 * SFREQ, 1] = x[: 20 * SFREQ, 0]
    found = of(x, [(0, 1)], n_segments=20)
    assert found.n_segments.tolist() == [20]
    assert found.coherence.max() < 0.3
    kept = Segments(Windows(grid(SFREQ), 100), [(7, 90)])
    assert kept.nbytes == 30 * 2 * 45 * 16


def test_silence_is_not_coupled_with_anything() -> None:
    found = of(np.zeros((10 * SFREQ, 2)), [(0, 1)])
    assert np.isnan(found.coherence).all()
    assert np.isnan(found.plv).all()
    assert np.isnan(found.wpli2).all()


def test_pairs_and_segments_are_bounded() -> None:
    windows = Windows(grid(SFREQ), 4)
    assert len(all_pairs(64)) == MOST_PAIRS
    with pytest.raises(ValueError, match="2080 pairs"):
        all_pairs(65)
    for pairs in ([], [(0, 1)] * (MOST_PAIRS + 1)):
        with pytest.raises(ValueError, match="pairs"):
            Segments(windows, pairs)
    for pair in ((0, 4), (-1, 2)):
        with pytest.raises(ValueError, match="not among 4"):
            Segments(windows, [pair])
    for n_segments in (FEWEST_SEGMENTS - 1, 121):
        with pytest.raises(ValueError, match="segments"):
            Segments(windows, [(0, 1)], n_segments=n_segments)


def test_per_bin_figures_are_there_as_well() -> None:
    spectra = segments_of(white(12, 2))
    is_whole = np.ones((12, 1), bool)
    found = coupling(spectra[:, [0]], spectra[:, [1]], is_whole)
    assert found.plv.shape == (1, 126)
