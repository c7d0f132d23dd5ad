"""Features against formulas written out a second time, and signals whose features are known."""

import numpy as np
import pytest
from scipy import signal, stats

from brainforge_edge.signal import features
from brainforge_edge.signal.featureset import WindowFeatures, window_features
from brainforge_edge.signal.grid import BANDS, WINDOWS_S, grid
from brainforge_edge.signal.windows import Trouble, Windows
from tests.unit.signal_material import filled, noise, sine

MIDDLES = {"delta": 2.5, "theta": 6.0, "alpha": 10.0, "beta": 21.0, "gamma": 38.0}


def of(rows: np.ndarray, sfreq: int, window_s: int = 4) -> WindowFeatures:
    return window_features(filled(rows, sfreq), window_s)


@pytest.mark.parametrize("window_s", WINDOWS_S)
@pytest.mark.parametrize("sfreq", [250, 256, 1000])
def test_band_powers_are_the_integral_of_the_periodogram(sfreq: int, window_s: int) -> None:
    rows = noise(4.0, sfreq, 4)
    found = of(rows, sfreq, window_s)
    x = rows[-window_s * sfreq :].astype(np.float64)
    hz, density = signal.periodogram(x, sfreq, "hann", detrend="constant", axis=0)
    powers = {
        band.name: density[(hz >= band.low_hz) & (hz < band.high_hz)].sum(axis=0) / window_s
        for band in BANDS
    }
    whole = sum(powers.values())
    for name, power in powers.items():
        np.testing.assert_allclose(found.powers[name], power, rtol=1e-9)
        np.testing.assert_allclose(found.relative[name], power / whole, rtol=1e-9)
    np.testing.assert_allclose(
        found.ratios["(delta+theta)/(alpha+beta)"],
        (powers["delta"] + powers["theta"]) / (powers["alpha"] + powers["beta"]),
        rtol=1e-9,
    )
    np.testing.assert_allclose(
        found.ratios["alpha/beta"], powers["alpha"] / powers["beta"], rtol=1e-9
    )


@pytest.mark.parametrize("window_s", WINDOWS_S)
@pytest.mark.parametrize("band", list(MIDDLES))
def test_a_sine_has_its_whole_power_in_its_band(band: str, window_s: int) -> None:
    rows = sine(MIDDLES[band], 4.0, 256, amplitude=20e-6)[:, None]
    found = of(rows, 256, window_s)
    assert found.relative[band][0] >= 0.95
    assert sum(power[0] for power in found.powers.values()) == pytest.approx(2e-10, rel=0.02)


@pytest.mark.parametrize("window_s", [2, 4])
@pytest.mark.parametrize("hz", [8.9, 9.62, 10.0, 10.37, 11.5])
def test_the_peak_of_alpha_lies_between_bins(hz: float, window_s: int) -> None:
    rows = sine(hz, 4.0, 250)[:, None] + 0.01 * noise(4.0, 250, 1)
    assert of(rows, 250, window_s).peak_alpha_hz[0] == pytest.approx(hz, abs=0.06 / window_s)


def test_a_slope_has_no_peak_of_alpha() -> None:
    slope = np.tile(np.linspace(5, 1, 182), (2, 1))
    assert np.isnan(features.peak_alpha(slope, grid(250), 4)).all()
    assert np.isnan(features.peak_alpha(np.zeros((1, 182)), grid(250), 4)).all()


def test_entropy_is_one_for_a_flat_spectrum_and_low_for_a_line() -> None:
    flat = np.ones((1, 182))
    assert features.spectral_entropy(flat, grid(250), 4)[0] == pytest.approx(1.0)
    line = np.zeros((1, 182))
    line[0, 40] = 3.0
    assert features.spectral_entropy(line, grid(250), 4)[0] == 0.0
    rows = noise(4.0, 250, 3)
    hz, density = signal.periodogram(
        rows.astype(np.float64), 250, "hann", detrend="constant", axis=0
    )
    inside = density[(hz >= 1) & (hz < 45)]
    wanted = stats.entropy(inside, axis=0) / np.log(len(inside))
    np.testing.assert_allclose(of(rows, 250).entropy, wanted, rtol=1e-9)


@pytest.mark.parametrize("offset", [0.0, 3000.0])
@pytest.mark.parametrize("window_s", WINDOWS_S)
def test_moments_and_hjorth_are_those_of_the_samples(window_s: int, offset: float) -> None:
    sfreq = 250
    rows = noise(6.0, sfreq, 3) + np.float32(offset)
    found = of(rows, sfreq, window_s).shape
    n = window_s * sfreq
    x = rows.astype(np.float64)
    d1, d2 = np.diff(x, axis=0)[-n:] * sfreq, np.diff(x, n=2, axis=0)[-n:] * sfreq**2
    x = x[-n:]
    np.testing.assert_allclose(found.mean, x.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.variance, x.var(axis=0), rtol=1e-9)
    np.testing.assert_allclose(found.skewness, stats.skew(x), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(found.kurtosis, stats.kurtosis(x), rtol=1e-7, atol=1e-9)
    mobility = np.sqrt(d1.var(axis=0) / x.var(axis=0))
    np.testing.assert_allclose(found.mobility, mobility / (2 * np.pi), rtol=1e-9)
    complexity = np.sqrt(d2.var(axis=0) / d1.var(axis=0)) / mobility
    np.testing.assert_allclose(found.complexity, complexity, rtol=1e-9)
    np.testing.assert_allclose(found.line_length, np.abs(d1).mean(axis=0), rtol=1e-9)


def test_the_mobility_of_a_slow_sine_is_its_frequency_and_its_complexity_is_one() -> None:
    found = of(sine(5.0, 5.0, 1000)[:, None], 1000).shape
    assert found.mobility[0] == pytest.approx(5.0, rel=1e-3)
    assert found.complexity[0] == pytest.approx(1.0, rel=1e-3)
    assert found.variance[0] == pytest.approx(0.5, rel=1e-6)


def test_a_straight_line_before_the_first_sample_makes_no_step() -> None:
    """The first second after the start: the same differences as if the line had gone on."""
    rows = (np.arange(250) * 2.0)[:, None]
    found = of(rows, 250, 1).shape
    assert found.line_length[0] == pytest.approx(500.0)
    assert found.mobility[0] == pytest.approx(0.0, abs=1e-9)


def test_a_trouble_leaves_no_step_in_the_differences_after_it() -> None:
    rows = noise(4.0, 250, 2)
    damaged = rows.copy()
    damaged[240, 0] = np.nan
    windows = filled(damaged[:500], 250)
    assert (windows.trouble(1) == Trouble.NONE).all()
    line = window_features(windows, 1).shape.line_length
    x = rows[250:500, 0].astype(np.float64)
    first = abs(x[1] - x[0])
    assert line[0] == pytest.approx((np.abs(np.diff(x)).sum() + first), rel=1e-9)


def test_asymmetry_is_the_logarithm_of_right_over_left() -> None:
    power = np.array([1.0, np.e, 4.0, 0.0])
    found = features.asymmetry(power, np.array([0, 1, 2, 3]), np.array([1, 0, 2, 0]))
    np.testing.assert_allclose(found[:3], [1.0, -1.0, 0.0], atol=1e-12)
    assert np.isnan(found[3])
    assert np.isnan(features.asymmetry(power, np.array([0]), np.array([3]))).all()


def test_a_channel_that_does_not_move_has_no_ratios_but_no_error() -> None:
    rows = np.full((1000, 2), 0.1, np.float32)
    rows[:, 1] = noise(4.0, 250, 1)[:, 0]
    found = of(rows, 250)
    for values in (found.ratios["alpha/beta"], found.shape.kurtosis, found.shape.complexity):
        assert np.isnan(values).tolist() == [True, False]
    assert found.shape.variance[0] == 0.0


def test_no_constant_is_taken_for_a_signal_by_its_rounding() -> None:
    level = np.random.default_rng(3).standard_normal(200) * 10.0 ** np.arange(-15, 5, 0.1)
    found = of(np.tile(level, (1000, 1)), 250)
    assert (found.shape.variance == 0).all()
    assert (found.powers["beta"] == 0).all()
    least = np.tile(level.astype(np.float32), (1000, 1))
    least[600] = np.nextafter(least[600], np.float32(np.inf))
    assert (of(least, 250).shape.variance > 0).all()


def test_a_slow_stream_has_only_the_ratios_of_its_bands() -> None:
    found = of(noise(4.0, 52, 2), 52)
    assert set(found.powers) == {"delta", "theta", "alpha"}
    assert set(found.ratios) == {"theta/alpha", "delta/alpha"}
    assert np.isfinite(found.entropy).all()
    assert np.isnan(of(noise(4.0, 20, 1), 20).peak_alpha_hz).all()


def test_no_ratio_is_named_for_a_state_of_a_person() -> None:
    bands = {band.name for band in BANDS}
    for ratio in features.RATIOS:
        assert set(ratio.name.translate(str.maketrans("()+/", "    ")).split()) <= bands


def test_tiny_units_are_no_trouble() -> None:
    """Femtotesla in tesla: their fourth powers lie far below what float32 holds."""
    rows = noise(4.0, 250, 2)
    found, wanted = of(rows * np.float32(1e-15), 250), of(rows, 250)
    np.testing.assert_allclose(found.shape.kurtosis, wanted.shape.kurtosis, rtol=1e-4)
    np.testing.assert_allclose(found.ratios["alpha/beta"], wanted.ratios["alpha/beta"], rtol=1e-4)


def test_features_are_those_of_the_newest_whole_hop() -> None:
    rows = noise(4.5, 250, 2)
    windows = Windows(grid(250), 2)
    windows.push(rows[:1000])
    before = window_features(windows, 4)
    windows.push(rows[1000:1024])
    after = window_features(windows, 4)
    assert (before.hops, after.hops) == (40, 40)
    assert windows.pending == 24
    assert np.array_equal(before.density, after.density)
