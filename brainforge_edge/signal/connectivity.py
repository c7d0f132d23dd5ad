"""How signals of pairs of channels hang together, over segments of the windows' own DFT grid.

A segment is one window's complex spectrum under Hann; segments follow each other without overlap,
because the estimators (the debiased one above all) take them for independent. All figures are per
band, from sums over segments, and NaN until there are enough of them.
Runs in: pipeline worker, one thread per stream.
"""

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from brainforge_edge.signal.windows import Trouble, Windows

Floats = NDArray[np.float64]
Complexes = NDArray[np.complex128]
Indices = NDArray[np.intp]

MOST_PAIRS: Final = 2016  # all pairs of 64 channels
MOST_SEGMENTS: Final = 120
FEWEST_SEGMENTS: Final = 8


def all_pairs(n_channels: int) -> list[tuple[int, int]]:
    """Every pair once. ValueError: more than `MOST_PAIRS`."""
    pairs = [(a, b) for a in range(n_channels) for b in range(a + 1, n_channels)]
    if len(pairs) > MOST_PAIRS:
        msg = f"{n_channels} channels have {len(pairs)} pairs, more than {MOST_PAIRS}: select some"
        raise ValueError(msg)
    return pairs


class Coupling(msgspec.Struct, frozen=True, eq=False):
    """Each (n_pairs, n_bands), the mean over a band's bins."""

    n_segments: NDArray[np.int64]  # (n_pairs,): whole ones of both channels
    coherence: Floats  # magnitude squared, 0 … 1
    plv: Floats  # phase locking value, 0 … 1
    wpli2: Floats  # weighted phase lag index squared, debiased: about 0 … 1, below 0 by chance


def coupling(first: Complexes, second: Complexes, is_whole: NDArray[np.bool_]) -> Coupling:
    """Per bin, of spectra (n_segments, n_pairs, n_bins) of both partners; `is_whole` (n_segments, n_pairs).

    With S = X conj(Y), sums over segments:
    - coherence |sum S|² / (sum |X|² sum |Y|²) (Bendat & Piersol, Random Data, 4th ed., 2010);
    - PLV |sum S / |S|| / n (Lachaux et al., Hum. Brain Mapp. 8, 1999; over segments);
    - debiased wPLI² ((sum Im S)² - sum Im² S) / ((sum |Im S|)² - sum Im² S) (Vinck et al., NeuroImage 55,
      2011). A source that reaches both channels at once adds nothing to Im S.
    Coherence and PLV of n independent segments are about 1/n and 1/sqrt(n) where nothing is coupled.
    """
    weight = is_whole[:, :, None]
    cross = first * np.conj(second) * weight
    n = is_whole.sum(axis=0)
    enough = np.broadcast_to((n >= FEWEST_SEGMENTS)[:, None], cross.shape[1:])
    power = (np.abs(first) ** 2 * weight).sum(axis=0) * (np.abs(second) ** 2 * weight).sum(axis=0)
    size = np.abs(cross)
    phases = np.divide(cross, size, out=np.zeros_like(cross), where=size > 0)
    lag = cross.imag
    squares = (lag**2).sum(axis=0)
    under = np.abs(lag).sum(axis=0) ** 2 - squares
    # What cancels exactly leaves rounding, which would look like perfect lagging.
    is_lagged = np.abs(lag).sum(axis=0) > 1e-9 * size.sum(axis=0)
    wpli2 = np.zeros_like(power)
    np.divide(lag.sum(axis=0) ** 2 - squares, under, out=wpli2, where=(under > 0) & is_lagged)
    return Coupling(
        n_segments=n,
        coherence=_where(enough & (power > 0), np.abs(cross.sum(axis=0)) ** 2, power),
        plv=_where(enough & (power > 0), np.abs(phases.sum(axis=0)), n[:, None] + 0.0 * power),
        wpli2=np.where(enough & (power > 0), wpli2, np.nan),
    )


def _where(is_there: NDArray[np.bool_], over: Floats, under: Floats) -> Floats:
    return np.divide(over, under, out=np.full_like(over, np.nan), where=is_there)


class Segments:
    """The newest segments of selected pairs. State: n_segments × channels in use × n_bins complex128."""

    def __init__(
        self,
        windows: Windows,
        pairs: list[tuple[int, int]],
        *,
        window_s: int = 1,
        n_segments: int = 30,
    ) -> None:
        """ValueError: more than `MOST_PAIRS` pairs, a channel that is not there, or fewer than
        `FEWEST_SEGMENTS` or more than `MOST_SEGMENTS` segments."""
        if not 1 <= len(pairs) <= MOST_PAIRS:
            msg = f"{len(pairs)} pairs; at least 1, at most {MOST_PAIRS}"
            raise ValueError(msg)
        if not FEWEST_SEGMENTS <= n_segments <= MOST_SEGMENTS:
            msg = f"{n_segments} segments; {FEWEST_SEGMENTS} to {MOST_SEGMENTS}"
            raise ValueError(msg)
        both = np.array(pairs, dtype=np.intp)
        if both.min() < 0 or both.max() >= windows.n_channels:
            msg = f"a pair names a channel that is not among {windows.n_channels}"
            raise ValueError(msg)
        self._windows = windows
        self._n_hops = windows.spectra.n_hops[window_s]
        self._window_s = window_s
        self._channels, places = np.unique(both, return_inverse=True)
        self._pairs: Indices = places.reshape(both.shape)
        n_bins = windows.grid.n_bins(window_s) - 2
        self._kept = np.zeros((n_segments, len(self._channels), n_bins), np.complex128)
        self._is_whole = np.zeros((n_segments, len(self._channels)), bool)
        self._n = 0

    @property
    def nbytes(self) -> int:
        return self._kept.nbytes

    def take(self) -> bool:
        """After each hop; True when it ended a segment."""
        if self._windows.hops % self._n_hops:
            return False
        at = self._n % len(self._kept)
        self._kept[at] = self._windows.spectra.hann(self._window_s)[self._channels]
        trouble = self._windows.trouble(self._window_s)[self._channels]
        self._is_whole[at] = trouble == Trouble.NONE
        self._n += 1
        return True

    def coupling(self) -> Coupling:
        """Over the segments there are, mean over each band: (n_pairs, n_bands). Not for every hop:
        its cost grows with segments × pairs × bins."""
        grid = self._windows.grid
        parts = []
        for band in grid.bands:
            bins = grid.bins(self._window_s, band)
            inside = slice(bins.start - 1, bins.stop - 1)
            first, second = (self._kept[:, self._pairs[:, i], inside] for i in (0, 1))
            is_whole = self._is_whole[:, self._pairs[:, 0]] & self._is_whole[:, self._pairs[:, 1]]
            parts.append(coupling(first, second, is_whole))
        return Coupling(
            n_segments=parts[0].n_segments,
            coherence=np.stack([part.coherence.mean(axis=1) for part in parts], axis=1),
            plv=np.stack([part.plv.mean(axis=1) for part in parts], axis=1),
            wpli2=np.stack([part.wpli2.mean(axis=1) for part in parts], axis=1),
        )
