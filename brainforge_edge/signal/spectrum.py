"""Spectra of three windows that slide by hops: small matrix products after each hop, no FFT.

With x the samples that enter and y those that leave, both a hop long, a window's DFT relative to its
own first sample obeys  S' = (S + DFT(x - y)) E,  E[k] = exp(2 pi i k hop / N): what leaves lay at the
window's start, what enters lies a whole window later, where the grid has the same phase (the sliding
DFT: Jacobsen & Lyons, IEEE Signal Process. Mag. 20(2), 2003, by blocks instead of samples).

A hop is short against the slow waves that are asked for: the hundreds of them span few dimensions on
it, about twice its length times the highest frequency and some (Slepian, Bell Syst. Tech. J. 57, 1978),
28 for 0.1 s and 45 Hz. Hops are kept and exchanged as so many coefficients. float64 throughout, so
that the sums do not drift. Bin 0 is kept at 0: that is the window's mean removed.
Runs in: pipeline worker, one thread per stream.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.signal.grid import LONGEST_S, WINDOWS_S, Grid

Complexes = NDArray[np.complex128]
Floats = NDArray[np.float64]

# Dimensions in which all waves together are smaller than this part of the largest are left out.
_LEAST = 1e-13


class SlidingSpectra:
    """DFTs of all windows for all channels."""

    def __init__(self, grid: Grid, n_channels: int) -> None:
        self.n_hops: Final = {w: grid.update_hz * w for w in WINDOWS_S}
        self._basis = _basis(grid)
        self._waves: dict[int, Floats] = {}
        self._bins: dict[int, slice] = {}
        turns, densities, at = [], [], 0
        for w in WINDOWS_S:
            n, n_bins = grid.sfreq * w, grid.n_bins(w)
            waves = self._basis.T @ _waves(grid.hop, n, n_bins)
            waves[:, 0] = 0
            self._waves[w] = np.ascontiguousarray(waves).view(np.float64)
            self._bins[w] = slice(at, at + n_bins)
            turns.append(_waves(grid.hop + 1, n, n_bins)[-1].conj())
            # Two sides fold into one; a Hann squared sums to 3 n / 8; of `_twice_hann` the square is
            # four times too large.
            densities.append(np.full(n_bins, 2 / (grid.sfreq * 0.375 * n) / 4))
            at += n_bins
        self._turn = np.concatenate(turns)
        self._to_density = np.concatenate(densities)
        self._coefficients = np.zeros((grid.n_hops, n_channels, self._basis.shape[1]))
        self._at = 0
        self._sums = np.zeros((n_channels, at), np.complex128)
        self._change = np.empty((n_channels, at), np.complex128)

    @property
    def nbytes(self) -> int:
        return self._coefficients.nbytes + self._sums.nbytes + self._change.nbytes

    def slide(self, rows: NDArray[np.float32]) -> None:
        """The next hop, (hop, n_channels)."""
        entered = rows.T.astype(np.float64) @ self._basis
        change = self._change.view(np.float64)
        for w, bins in self._bins.items():
            left = self._coefficients[self._at - self.n_hops[w]]
            np.matmul(entered - left, self._waves[w], out=change[:, 2 * bins.start : 2 * bins.stop])
        self._sums += self._change
        self._sums *= self._turn
        self._coefficients[self._at] = entered
        self._at = (self._at + 1) % len(self._coefficients)

    def renew(self, window_s: int, channels: NDArray[np.intp]) -> None:
        """Compute the window of `channels` anew from its hops."""
        n, bins = self.n_hops[window_s], self._bins[window_s]
        hops = self._coefficients[np.arange(-n, 0) + self._at][:, channels]
        parts = (hops @ self._waves[window_s]).view(np.complex128)
        turns = self._turn[bins] ** np.arange(n, 0, -1)[:, None]
        self._sums[channels, bins] = (parts * turns[:, None, :]).sum(axis=0)

    def clear(self) -> None:
        self._coefficients[:] = 0
        self._sums[:] = 0

    def hann(self, window_s: int) -> Complexes:
        """Spectrum of the window under a periodic Hann, mean removed: (n_channels, n_bins - 2) from
        bin 1 on. A Hann is -1/4, 1/2, -1/4 on neighbouring bins (Harris, Proc. IEEE 66, 1978).

        A new array; phases are relative to the window's first sample, the same for all channels.
        """
        return self._twice_hann(self._bins[window_s]) * 0.5

    def density(self, window_s: int) -> Floats:
        """One-sided power spectral density (unit²/Hz) of `hann()`, as scipy.signal.periodogram has it:
        (n_channels, n_bins - 2) from bin 1 on, bin k at k / window_s Hz. A new array."""
        return self._density(self._bins[window_s])

    def densities(self) -> dict[int, Floats]:
        """`density` of every window at once: fewer, larger steps, which matters with few channels."""
        whole = self._density(slice(0, self._sums.shape[1]))
        return {w: whole[:, bins.start : bins.stop - 2] for w, bins in self._bins.items()}

    def _twice_hann(self, bins: slice) -> Complexes:
        sums = self._sums[:, bins]
        spectrum = sums[:, :-2] + sums[:, 2:]
        spectrum *= -0.5
        spectrum += sums[:, 1:-1]
        return spectrum

    def _density(self, bins: slice) -> Floats:
        spectrum = self._twice_hann(bins).view(np.float64)
        spectrum *= spectrum
        power = spectrum[:, ::2] + spectrum[:, 1::2]
        power *= self._to_density[bins][1:-1]
        return power


def _waves(n_samples: int, n: int, n_bins: int) -> Complexes:
    """exp(-2 pi i k m / n), (n_samples, n_bins). The product is reduced before it becomes an angle."""
    angle = (np.outer(np.arange(n_samples), np.arange(n_bins)) % n) * (-2 * np.pi / n)
    found: Complexes = np.exp(1j * angle)
    return found


def _basis(grid: Grid) -> Floats:
    """Orthonormal columns (hop, n) that span all waves of all windows on one hop."""
    n_bins = grid.n_bins(1) * LONGEST_S  # the finest grid, as far as the coarsest goes
    waves = _waves(grid.hop, grid.sfreq * LONGEST_S, n_bins).view(np.float64)
    u, size, _ = np.linalg.svd(waves, full_matrices=False)
    return np.ascontiguousarray(u[:, size > _LEAST * size[0]])
