"""Formulas of features on spectra and moments; pure functions, nothing is kept.

Spectra are power spectral densities (unit²/Hz) from bin 1 on, (n_channels, n_bins), spaced `df` Hz.
What has no value is NaN: never 0, never infinite. Runs in: pipeline worker.
"""

from functools import lru_cache
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from brainforge_edge.signal.grid import Band, Grid
from brainforge_edge.signal.moments import Moments

Floats = NDArray[np.float64]

# A denominator below this part of all bands' power is rounding, not signal.
_FLOOR = 1e-12


class Ratio(msgspec.Struct, frozen=True):
    """Power of bands over power of others; a ratio, and no state of a person."""

    name: str
    over: tuple[str, ...]
    under: tuple[str, ...]


RATIOS: Final = (
    Ratio("alpha/beta", ("alpha",), ("beta",)),
    Ratio("theta/beta", ("theta",), ("beta",)),
    Ratio("theta/alpha", ("theta",), ("alpha",)),
    Ratio("delta/alpha", ("delta",), ("alpha",)),
    Ratio("(delta+theta)/(alpha+beta)", ("delta", "theta"), ("alpha", "beta")),
)


def band_powers(density: Floats, grid: Grid, window_s: int) -> Floats:
    """Integral of the density over each band, unit²: (n_bands, n_channels).

    The sum of its bins times their distance; a sine of amplitude A gives A²/2.
    """
    sums: Floats = (density @ _selector(grid, window_s)).T
    return sums


@lru_cache(maxsize=64)
def _selector(grid: Grid, window_s: int) -> Floats:
    """(n_bins, n_bands): the bins' distance where a bin belongs to a band, else 0."""
    selector = np.zeros((grid.n_bins(window_s) - 2, len(grid.bands)))
    for i, band in enumerate(grid.bands):
        bins = grid.bins(window_s, band)
        selector[bins.start - 1 : bins.stop - 1, i] = 1 / window_s
    return selector


def _end(grid: Grid, window_s: int) -> int:
    return int(grid.bins(window_s, grid.bands[-1]).stop) - 1


def ratios(powers: Floats, bands: tuple[Band, ...]) -> dict[str, Floats]:
    """Each of `RATIOS` whose bands are there: (n_channels,); NaN over a band that is empty."""
    names, over, under = _sides(bands)
    found = _quotient(over @ powers, under @ powers, powers.sum(axis=0) * _FLOOR)
    return dict(zip(names, found, strict=True))


@lru_cache(maxsize=64)
def _sides(bands: tuple[Band, ...]) -> tuple[tuple[str, ...], Floats, Floats]:
    """Of the ratios that there are: names, and which bands lie over and under the line."""
    have = [band.name for band in bands]
    there = [ratio for ratio in RATIOS if set(ratio.over + ratio.under) <= set(have)]
    over = np.array([[name in ratio.over for name in have] for ratio in there], np.float64)
    under = np.array([[name in ratio.under for name in have] for ratio in there], np.float64)
    shape = (len(there), len(have))
    return tuple(ratio.name for ratio in there), over.reshape(shape), under.reshape(shape)


def _quotient(over: Floats, under: Floats, floor: Floats | float = 0.0) -> Floats:
    result = np.full_like(over, np.nan)
    np.divide(over, under, out=result, where=under > floor)
    return result


def relative_powers(powers: Floats) -> Floats:
    """Each band's part of all bands' power, 0 … 1: (n_bands, n_channels)."""
    return _quotient(powers, np.broadcast_to(powers.sum(axis=0), powers.shape))


def asymmetry(power: Floats, left: NDArray[np.intp], right: NDArray[np.intp]) -> Floats:
    """ln(right) - ln(left) of a band's power (n_channels,) for pairs of channels: (n_pairs,).

    Positive: more power on the right. The usual index of frontal alpha (Coan & Allen, Biol. Psychol.
    67, 2004); what it says of a person is disputed and not claimed.
    """
    quotient = _quotient(power[right], power[left])
    result = np.full_like(quotient, np.nan)
    return np.log(quotient, out=result, where=quotient > 0)


def peak_alpha(density: Floats, grid: Grid, window_s: int) -> Floats:
    """Frequency (Hz) of the highest bin of alpha, (n_channels,); between bins by a parabola through
    the logarithms of three (Smith & Serra, ICMC 1987). NaN where it is no maximum: alpha has no peak
    then, but a slope."""
    alpha = [band for band in grid.bands if band.name == "alpha"]
    if not alpha:
        return np.full(len(density), np.nan)
    bins = grid.bins(window_s, alpha[0])
    middle = bins.start - 1 + np.argmax(density[:, bins.start - 1 : bins.stop - 1], axis=1)
    rows = np.arange(len(density))
    three = density[rows[:, None], middle[:, None] + np.array([-1, 0, 1])]
    is_peak = (three[:, 1] > three[:, 0]) & (three[:, 1] > three[:, 2]) & (three.min(axis=1) > 0)
    low, top, high = np.log(np.where(is_peak[:, None], three, 1.0)).T
    curve = np.where(is_peak, low - 2 * top + high, 1.0)
    offset = 0.5 * (low - high) / curve
    return np.where(is_peak, (middle + 1 + offset) / window_s, np.nan)


def spectral_entropy(density: Floats, grid: Grid, window_s: int) -> Floats:
    """-sum p ln p / ln n over the bins of all bands, p their parts of the power: 0 for one line, 1 for
    a flat spectrum, (n_channels,) (Inouye et al., Electroenceph. Clin. Neurophysiol. 79, 1991)."""
    inside = density[:, grid.bins(window_s, grid.bands[0]).start - 1 : _end(grid, window_s)]
    total = inside.sum(axis=1)
    p = _quotient(inside, np.broadcast_to(total[:, None], inside.shape))
    log = np.zeros_like(p)
    np.log(p, out=log, where=p > 0)
    entropy: Floats = -(p * log).sum(axis=1)
    entropy /= np.log(p.shape[1])
    return entropy


class Shape(msgspec.Struct, frozen=True, eq=False):
    """Of the samples themselves, each (n_channels,)."""

    mean: Floats  # unit
    variance: Floats  # unit²; Hjorth's activity
    skewness: Floats  # third central moment over sd³
    kurtosis: Floats  # fourth over sd⁴, less 3: 0 for a Gaussian
    mobility: Floats  # Hz
    complexity: Floats  # 1 for a sine
    line_length: Floats  # unit/s


def shape(moments: Moments, sfreq: int) -> Shape:
    """Hjorth's parameters (Electroenceph. Clin. Neurophysiol. 29, 1970): mobility sqrt(var x' / var x) / 2 pi,
    for a sine its frequency (as long as that is low against sfreq); complexity, mobility of x' over that
    of x. Line length: mean |x'| (Esteller et al., Proc. IEEE EMBS 2001). x' is the difference times sfreq.
    """
    variance = moments.variance
    sd = np.sqrt(variance)
    mobility = np.sqrt(_quotient(moments.variance_d1, variance))
    return Shape(
        mean=moments.mean,
        variance=variance,
        skewness=_quotient(moments.third, variance * sd),
        kurtosis=_quotient(moments.fourth, variance * variance) - 3,
        mobility=mobility * sfreq / (2 * np.pi),
        complexity=_quotient(
            np.sqrt(_quotient(moments.variance_d2, moments.variance_d1)), mobility
        ),
        line_length=moments.line_length * sfreq,
    )
