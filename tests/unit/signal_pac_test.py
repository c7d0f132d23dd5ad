"""Tort's modulation index against its formula on scipy's analytic signal, and on known couplings."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import signal

from brainforge_edge.signal.grid import Band
from brainforge_edge.signal.pac import N_PHASES, analytic, modulation_index
from tests.unit.signal_material import noise, sine

THETA = Band("theta", 4.0, 8.0)
GAMMA = Band("gamma", 30.0, 45.0)
SFREQ = 250


def coupled(depth: float, seconds: float = 8.0) -> np.ndarray:
    """37 Hz whose amplitude follows 6 Hz, with some noise."""
    slow = sine(6.0, seconds, SFREQ)
    fast = sine(37.0, seconds, SFREQ) * (1 + depth * slow)
    rows = slow + 0.3 * fast
    return np.stack([rows, rows[::-1]], axis=1) + 0.02 * noise(seconds, SFREQ, 2)


def test_the_analytic_signal_is_scipys_of_the_same_band() -> None:
    x = coupled(0.5)
    spectrum = np.fft.rfft(x, axis=0)
    hz = np.fft.rfftfreq(len(x), 1 / SFREQ)
    spectrum[(hz < 4) | (hz >= 8)] = 0
    wanted = signal.hilbert(np.fft.irfft(spectrum, len(x), axis=0), axis=0)
    np.testing.assert_allclose(analytic(x, SFREQ, THETA), wanted, atol=1e-10)


def test_the_index_is_that_of_the_formula() -> None:
    x = coupled(0.8)
    inner = slice(len(x) // 10, len(x) - len(x) // 10)
    x = x - x.mean(axis=0)
    for c, found in enumerate(modulation_index(coupled(0.8), SFREQ, THETA, GAMMA)):
        phase = np.angle(analytic(x, SFREQ, THETA))[inner, c]
        amplitude = np.abs(analytic(x, SFREQ, GAMMA))[inner, c]
        edges = np.linspace(-np.pi, np.pi, N_PHASES + 1)
        mean = [amplitude[(phase >= a) & (phase < b)].mean() for a, b in pairwise(edges)]
        p = np.array(mean) / np.sum(mean)
        divergence = np.sum(p * np.log(p * N_PHASES))  # Kullback-Leibler, from the uniform one
        assert found == pytest.approx(divergence / np.log(N_PHASES), rel=1e-6)


def test_the_index_grows_with_the_depth_of_the_coupling() -> None:
    found = [modulation_index(coupled(depth), SFREQ, THETA, GAMMA)[0] for depth in (0, 0.3, 0.9)]
    assert found[0] < 0.002
    assert found[0] < found[1] / 3 < found[2] / 9
    assert found[2] > 0.03


def test_silence_has_no_index() -> None:
    assert np.isnan(modulation_index(np.zeros((1000, 2)), SFREQ, THETA, GAMMA)).all()


@pytest.mark.parametrize(
    ("n", "slow", "fast", "why"),
    [
        (600, THETA, GAMMA, "cycles"),
        (2000, THETA, Band("", 7.0, 30.0), "no bands"),
        (2000, THETA, Band("", 100.0, 130.0), "no bands"),
        (2000, THETA, Band("", 30.0, 36.0), "side bands"),
    ],
)
def test_what_cannot_give_an_index_is_refused(n: int, slow: Band, fast: Band, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        modulation_index(np.zeros((n, 1)), SFREQ, slow, fast)
