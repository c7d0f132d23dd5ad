"""Phase-amplitude coupling: whether a fast band is strong at one phase of a slow one.

Pure. Runs in: pipeline worker, not more often than once a window.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.signal.grid import Band

Floats = NDArray[np.float64]

N_PHASES: Final = 18
_FEWEST_CYCLES = 10  # of the slow band in the samples: fewer give what chance gives


def analytic(rows: Floats, sfreq: float, band: Band) -> NDArray[np.complex128]:
    """The analytic signal of a band, (n, n_channels): the DFT's bins from low to high, twice, and no
    others (Marple, IEEE Trans. Signal Process. 47, 1999, for the doubling)."""
    spectrum = np.fft.fft(rows, axis=0)
    hz = np.fft.fftfreq(len(rows), 1 / sfreq)
    spectrum[(hz < band.low_hz) | (hz >= band.high_hz)] = 0
    result: NDArray[np.complex128] = np.fft.ifft(2 * spectrum, axis=0)
    return result


def modulation_index(rows: NDArray[np.floating], sfreq: float, slow: Band, fast: Band) -> Floats:
    """Tort's index, 0 … 1, of each channel of rows (n, n_channels): (n_channels,).

    (ln N - H(P)) / ln N with P the fast band's mean amplitude in each of N = 18 phases of the slow one
    and H the entropy (Tort et al., J. Neurophysiol. 104, 2010). 0: the amplitude is the same at all
    phases. NaN: a phase did not occur, or nothing is there. Short stretches give values above 0 by
    chance, so the figure is to be compared with that of other times, not with 0; a tenth of the
    samples at either end is left out, since there the band's filter sees the other end.
    ValueError: too few samples for ten cycles of the slow band, bands that overlap, or a fast one
    too narrow to carry the slow one's modulation.
    """
    if len(rows) / sfreq * slow.low_hz < _FEWEST_CYCLES:
        msg = f"{len(rows)} samples hold fewer than {_FEWEST_CYCLES} cycles of {slow.low_hz:g} Hz"
        raise ValueError(msg)
    if slow.high_hz > fast.low_hz or fast.high_hz > sfreq / 2:
        msg = f"no bands for phase and amplitude: {slow} and {fast} at {sfreq:g} Hz"
        raise ValueError(msg)
    if fast.high_hz - fast.low_hz < 2 * slow.low_hz:
        msg = f"{fast} is narrower than the side bands of {slow}"
        raise ValueError(msg)
    x = rows.astype(np.float64)
    edge = len(x) // 10
    inner = slice(edge, len(x) - edge)
    phase = np.angle(analytic(x, sfreq, slow)[inner])
    amplitude = np.abs(analytic(x, sfreq, fast)[inner])
    place = np.minimum(((phase + np.pi) * (N_PHASES / (2 * np.pi))).astype(np.intp), N_PHASES - 1)
    n_channels = x.shape[1]
    cell = (place * n_channels + np.arange(n_channels)).ravel()
    size = N_PHASES * n_channels
    n = np.bincount(cell, minlength=size).reshape(N_PHASES, n_channels)
    total = np.bincount(cell, weights=amplitude.ravel(), minlength=size).reshape(n.shape)
    mean = np.divide(total, n, out=np.full(n.shape, np.nan), where=n > 0)
    whole = mean.sum(axis=0)
    p = np.divide(mean, whole, out=np.full(n.shape, np.nan), where=whole > 0)
    log = np.zeros_like(p)
    np.log(p, out=log, where=p > 0)
    index: Floats = (p * log).sum(axis=0) / np.log(N_PHASES)
    index += 1
    return index
