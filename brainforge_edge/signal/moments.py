"""What windows need of the time domain: central moments and differences of each hop, put together.

A hop's sums are computed once from its own mean and never updated, so they cannot drift, and a large
offset costs no precision. Moments of hops are joined by the binomial theorem (Pébay, Sandia report
SAND2008-6212, 2008). Differences are those that end in the window, the first reaching back to the
sample before it; after a start, a gap or a trouble a straight line is laid through the first two
samples instead.
Runs in: pipeline worker, one thread per stream.
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

from brainforge_edge.signal.grid import Grid

Floats = NDArray[np.float64]

_MEAN, _M2, _M3, _M4, _D1, _D1_2, _D2, _D2_2, _LENGTH = range(9)


class Moments(msgspec.Struct, frozen=True, eq=False):
    """Of a window, each (n_channels,). Variances are divided by n."""

    mean: Floats
    variance: Floats  # exactly 0 where no sample moved: sums of equal float32 are exact
    third: Floats  # central, divided by n
    fourth: Floats
    variance_d1: Floats  # of the first difference, per sample step
    variance_d2: Floats  # of the second
    line_length: Floats  # mean of |first difference|, per sample step


class HopMoments:
    """State: 9 float64 for each hop of the longest window and each channel."""

    def __init__(self, grid: Grid, n_channels: int) -> None:
        self._hop = grid.hop
        self._sums = np.zeros((grid.n_hops, 9, n_channels))
        self._at = 0
        self._before = np.zeros((2, n_channels))
        self._work = np.empty((grid.hop + 2, n_channels))

    @property
    def nbytes(self) -> int:
        return self._sums.nbytes + self._work.nbytes + self._before.nbytes

    def clear(self) -> None:
        self._sums[:] = 0

    def take(self, rows: NDArray[np.float32], is_fresh: NDArray[np.bool_]) -> None:
        """The next hop (hop, n_channels); `is_fresh`: channels that do not go on from the last one."""
        x = self._work
        x[2:] = rows
        np.copyto(x[:2], self._before)
        if is_fresh.any():
            slope = x[3] - x[2]
            np.copyto(x[1], x[2] - slope, where=is_fresh)
            np.copyto(x[0], x[2] - 2 * slope, where=is_fresh)
        self._before[:] = x[-2:]
        d1 = np.diff(x, axis=0)
        d2 = np.diff(d1, axis=0)
        d1 = d1[1:]
        out = self._sums[self._at]
        out[_MEAN] = x[2:].mean(axis=0)
        c = x[2:] - out[_MEAN]
        c2 = c * c
        out[_M2] = c2.sum(axis=0)
        c *= c2
        out[_M3] = c.sum(axis=0)
        c2 *= c2
        out[_M4] = c2.sum(axis=0)
        out[_D1] = d1.sum(axis=0)
        out[_D1_2] = np.einsum("ij,ij->j", d1, d1)
        out[_D2] = d2.sum(axis=0)
        out[_D2_2] = np.einsum("ij,ij->j", d2, d2)
        out[_LENGTH] = np.abs(d1, out=d1).sum(axis=0)
        self._at = (self._at + 1) % len(self._sums)

    def is_still(self, n_hops: int) -> NDArray[np.bool_]:
        """Whether no sample moved in the newest `n_hops` hops: where `of` has a variance of 0, for less."""
        order = (np.arange(-n_hops, 0) + self._at) % len(self._sums)
        means = self._sums[order, _MEAN]
        is_flat: NDArray[np.bool_] = ~self._sums[order, _M2].any(axis=0)
        is_flat &= means.max(axis=0) == means.min(axis=0)
        return is_flat

    def of(self, n_hops: int) -> Moments:
        """Of the newest `n_hops` hops."""
        order = (np.arange(-n_hops, 0) + self._at) % len(self._sums)
        hops = self._sums[order]
        n = n_hops * self._hop
        mean = hops[:, _MEAN].mean(axis=0)
        delta = hops[:, _MEAN] - mean
        delta2 = delta * delta
        m2, m3, m4 = hops[:, _M2], hops[:, _M3], hops[:, _M4]
        fourth = m4 + 4 * delta * m3 + 6 * delta2 * m2 + self._hop * delta2 * delta2
        third = m3 + 3 * delta * m2 + self._hop * delta2 * delta
        total = hops[:, _D1:].sum(axis=0) / n
        return Moments(
            mean=mean,
            variance=(m2 + self._hop * delta2).sum(axis=0) / n,
            third=third.sum(axis=0) / n,
            fourth=fourth.sum(axis=0) / n,
            variance_d1=np.maximum(total[1] - total[0] ** 2, 0),
            variance_d2=np.maximum(total[3] - total[2] ** 2, 0),
            line_length=total[4],
        )
