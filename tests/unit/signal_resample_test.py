"""Resampling against scipy's upfirdn, its delay, its stop-band, and rows cut anyhow."""

import numpy as np
import pytest
from scipy import signal

from brainforge_edge.signal.resample import MOST_FACTOR, PASSED, Resampler, factor, prototype
from tests.unit.signal_material import noise, sine

RATES = [(1000.0, 250.0), (1000.0, 256.0), (250.0, 1000.0), (256.0, 250.0), (52.0, 250.0)]


@pytest.mark.parametrize(("sfreq", "wanted"), RATES)
def test_rows_are_those_of_scipys_upfirdn(sfreq: float, wanted: float) -> None:
    resampler = Resampler(sfreq, wanted, 3)
    x = noise(3, round(sfreq), 3).astype(np.float64)
    x -= x[0]  # at rest before
    taps, _ = prototype(resampler.up, resampler.down)
    wanted_rows = signal.upfirdn(taps, x, resampler.up, resampler.down, axis=0)
    found = resampler.push(x)
    assert len(found) == -(-len(x) * resampler.up // resampler.down)
    np.testing.assert_allclose(found, wanted_rows[: len(found)], atol=1e-9)


@pytest.mark.parametrize(("sfreq", "wanted"), RATES)
def test_a_slow_sine_comes_out_late_by_the_delay_and_by_no_more(
    sfreq: float, wanted: float
) -> None:
    resampler = Resampler(sfreq, wanted, 1)
    found = resampler.push(sine(5.0, 6, round(sfreq))[:, None])[:, 0]
    t = np.arange(len(found)) / resampler.sfreq - resampler.delay_s
    late = t > 2 * resampler.delay_s
    np.testing.assert_allclose(found[late], np.sin(2 * np.pi * 5 * t + 0.3)[late], atol=1e-3)
    assert resampler.delay_s == resampler.delay / sfreq


@pytest.mark.parametrize(("sfreq", "wanted"), RATES)
def test_the_stop_band_is_80_db_down_from_the_lower_nyquist_on_and_the_pass_band_flat(
    sfreq: float, wanted: float
) -> None:
    ratio = factor(sfreq, wanted)
    taps, _ = prototype(ratio.numerator, ratio.denominator)
    nyquist = min(sfreq, wanted) / 2
    hz, response = signal.freqz(taps / ratio.numerator, worN=2**16, fs=sfreq * ratio.numerator)
    level = 20 * np.log10(np.maximum(np.abs(response), 1e-12))
    assert level[hz >= nyquist].max() < -79
    assert np.abs(level[hz <= PASSED * nyquist]).max() < 0.01


def test_what_lies_above_the_new_nyquist_is_not_folded_back() -> None:
    found = Resampler(1000, 250, 1).push(sine(160.0, 4, 1000)[:, None])
    assert np.abs(found[200:]).max() < 2e-4


@pytest.mark.parametrize(("sfreq", "wanted"), RATES)
def test_chunks_change_no_bit(sfreq: float, wanted: float) -> None:
    x = noise(2, round(sfreq), 5)
    whole = Resampler(sfreq, wanted, 5).push(x)
    assert whole.dtype == np.float32
    rng = np.random.default_rng(3)
    for most in (2, 30, 400):
        resampler = Resampler(sfreq, wanted, 5)
        parts, start = [], 0
        while start < len(x):
            n = int(rng.integers(0, most))
            parts.append(resampler.push(x[start : start + n]))
            start += n
        assert np.array_equal(np.concatenate(parts), whole)


def test_a_constant_makes_no_step_at_the_start_nor_after_a_gap() -> None:
    resampler = Resampler(1000, 256, 1)
    np.testing.assert_allclose(resampler.push(np.full((500, 1), 3.0)), 3.0)
    resampler.gap()
    found = resampler.push(np.full((500, 1), -7.0))
    np.testing.assert_allclose(found, -7.0)
    assert len(found) == 128


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
def test_bad_values_are_held_and_poison_nothing(bad: float) -> None:
    x = noise(2, 1000, 3).astype(np.float64)
    held = x.copy()
    x[0, 0] = bad
    held[0, 0] = 0
    x[700:720, 1] = bad
    held[700:720, 1] = held[699, 1]
    resampler = Resampler(1000, 250, 3)
    found = np.concatenate([resampler.push(x[:710]), resampler.push(x[710:])])
    wanted = Resampler(1000, 250, 3).push(held)
    np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_rates_that_are_none_or_too_fine_are_refused() -> None:
    with pytest.raises(ValueError, match="rates are above 0"):
        factor(0, 250)
    with pytest.raises(ValueError, match=f"above {MOST_FACTOR}"):
        factor(1000, 249.99)
    with pytest.raises(ValueError, match="channels"):
        Resampler(1000, 250, 0)
    with pytest.raises(ValueError, match="rows of shape"):
        Resampler(1000, 250, 2).push(np.zeros((5, 3)))
