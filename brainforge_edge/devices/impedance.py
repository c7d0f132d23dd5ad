"""Electrode impedance: from a test current's voltage to ohms, and to a word. No I/O.

Formula as OpenBCI's own software uses it for the ADS1299: Z = √2 · V_rms / 6 nA − 2200 Ω, with V_rms
of the band around 31.2 Hz alone, so that mains, drift and brain do not count.
Runs in: acquire process, a command's own thread.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

TEST_A = 6e-9
TEST_HZ = 31.2
SERIES_OHM = 2_200.0
_HALF_BAND_HZ = 2.0  # holds the main lobe of a window of a second
GOOD_OHM = 10_000.0
FAIR_OHM = 50_000.0
POOR_OHM = 500_000.0


def word(ohm: float) -> str:
    """For people: what to do about an electrode hangs on this."""
    for limit, said in ((GOOD_OHM, "good"), (FAIR_OHM, "fair"), (POOR_OHM, "poor")):
        if ohm <= limit:
            return said
    return "open"


def band_rms(volts: NDArray[Any], sfreq: float) -> NDArray[Any]:
    """RMS (n_channels,) of the band around `TEST_HZ` in (n_samples, n_channels), of the quieter seconds.

    Hann windows of a second, a quarter apart; their lower quartile, since steps, rails and muscle only
    ever add: what happens in one place of three seconds does not matter.
    """
    n = round(sfreq)
    window = np.hanning(n + 1)[:-1]
    near = np.abs(np.fft.rfftfreq(n, 1 / sfreq) - TEST_HZ) <= _HALF_BAND_HZ
    powers = []
    for first in range(0, len(volts) - n + 1, n // 4):
        part = volts[first : first + n]
        spectrum = np.fft.rfft((part - part.mean(axis=0)) * window[:, None], axis=0)[near]
        powers.append(2 * np.sum(np.abs(spectrum) ** 2, axis=0) / (n * np.sum(window**2)))
    return np.asarray(np.sqrt(np.quantile(powers, 0.25, axis=0, method="lower")))


def ohms(volts: NDArray[Any], sfreq: float, *, left: float = 1.0) -> NDArray[Any]:
    """Impedances (n_channels,); `left`: the part of the amplitude that averaging on the board leaves."""
    drop = math.sqrt(2) * band_rms(volts, sfreq) / left / TEST_A
    return np.asarray(np.maximum(drop - SERIES_OHM, 0.0))
