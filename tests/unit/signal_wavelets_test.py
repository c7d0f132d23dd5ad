"""Powers of octaves against PyWavelets and against what makes a wavelet one."""

import numpy as np
import pytest
import pywt

from brainforge_edge.signal.featureset import window_features
from brainforge_edge.signal.grid import grid
from brainforge_edge.signal.wavelets import LOWPASS, HopWavelets
from brainforge_edge.signal.windows import Windows
from tests.unit.signal_material import Rows, noise, sine


def fed(rows: Rows, sfreq: int) -> HopWavelets:
    found = grid(sfreq)
    wavelets = HopWavelets(found, rows.shape[1])
    for at in range(0, len(rows) - found.hop + 1, found.hop):
        wavelets.take(rows[at : at + found.hop])
    return wavelets


def test_the_filter_is_orthogonal_and_has_four_vanishing_moments() -> None:
    for shift in range(4):
        product = LOWPASS[2 * shift :] @ LOWPASS[: len(LOWPASS) - 2 * shift]
        assert product == pytest.approx(1.0 if shift == 0 else 0.0, abs=1e-12)
    alternating = LOWPASS[::-1] * np.resize([1.0, -1.0], 8)
    for power in range(4):
        assert alternating @ np.arange(8.0) ** power == pytest.approx(0.0, abs=1e-9)
    np.testing.assert_allclose(np.sort(LOWPASS), np.sort(pywt.Wavelet("db4").dec_lo), atol=1e-11)


@pytest.mark.parametrize("sfreq", [125, 256, 1000])
def test_the_squares_of_each_level_are_those_of_pywavelets(sfreq: int) -> None:
    """Over all samples there are, where the other one's edges are cut off."""
    rows = noise(4.0, sfreq, 2)
    wavelets = fed(rows, sfreq)
    found = wavelets.powers(grid(sfreq).n_hops) * len(rows)
    x: np.ndarray = rows.astype(np.float64)
    for level in range(wavelets.n_levels):
        # Correlation with the reversed filter is the convolution that pywt computes.
        low = np.stack([np.convolve(x[:, c], LOWPASS[::-1], "valid")[::2] for c in (0, 1)], axis=1)
        _, detail = pywt.dwt(x, "db4", mode="zero", axis=0)
        n = len(low)
        inner = [part for part in (detail[3 : 3 + n], detail[4 : 4 + n]) if len(part) == n]
        squares = [(part**2).sum(axis=0) for part in inner]
        assert any(np.allclose(found[level], s, rtol=1e-9) for s in squares)
        x = low


def test_all_levels_together_are_the_mean_square_of_the_samples() -> None:
    rows = noise(60.0, 250, 3)
    wavelets = fed(rows, 250)
    found = wavelets.powers(40).sum(axis=0)
    late = round(wavelets.delay_s * 250)
    x = rows[-1000 - late : -late].astype(np.float64)
    np.testing.assert_allclose(found, (x**2).mean(axis=0), rtol=0.3)


@pytest.mark.parametrize(("hz", "level"), [(95.0, 0), (45.0, 1), (23.0, 2), (11.0, 3)])
def test_a_sine_lies_mostly_in_its_octave(hz: float, level: int) -> None:
    wavelets = fed(sine(hz, 8.0, 256)[:, None].astype(np.float32), 256)
    powers = wavelets.powers(32)[:, 0]
    high, low = wavelets.edges_hz[level], wavelets.edges_hz[level + 1]
    assert low < hz < high
    assert powers[level] / powers.sum() > 0.8
    assert powers.sum() == pytest.approx(0.5, rel=0.05)


def test_the_lowest_level_reaches_below_four_hertz_or_to_it() -> None:
    for sfreq in (125, 256, 1000):
        edges = fed(noise(1.0, sfreq, 1), sfreq).edges_hz
        assert edges[-1] <= 4.0 < edges[-2]


def test_cleared_nothing_of_the_past_is_left() -> None:
    rows = noise(3.0, 250, 2)
    wavelets = fed(rows * 1000, 250)
    wavelets.clear()
    fresh = HopWavelets(grid(250), 2)
    for at in range(0, 750, 25):
        wavelets.take(rows[at : at + 25])
        fresh.take(rows[at : at + 25])
    assert np.array_equal(wavelets.powers(40), fresh.powers(40))


def test_octaves_are_told_when_the_longest_filter_saw_no_trouble() -> None:
    windows = Windows(grid(250), 2, has_wavelets=True)
    assert windows.wavelets is not None
    rows = noise(9.0, 250, 2)
    rows[300, 1] = np.inf
    told: list[list[bool]] = []
    for part in windows.cut(rows):
        windows.push(rows[part])
        octaves = window_features(windows, 1).octaves
        assert octaves is not None
        told.append([bool(np.isfinite(octaves[:, c]).all()) for c in (0, 1)])
    before = windows.wavelets.n_before
    assert [is_told for is_told, _ in told] == [i + 1 >= 10 + before for i in range(90)]
    assert [is_told for _, is_told in told] == [i - 12 >= 10 + before for i in range(90)]
    assert windows.nbytes > Windows(grid(250), 2).nbytes
    windows.gap()
    octaves = window_features(windows, 1).octaves
    assert octaves is not None
    assert np.isnan(octaves).all()
    assert window_features(Windows(grid(250), 2), 1).octaves is None
