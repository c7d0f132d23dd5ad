"""Power of a stream in octaves: Daubechies' orthogonal filter bank of 4 vanishing moments, streaming.

Level l holds about sfreq / 2**(l + 1) … sfreq / 2**l. Nothing is padded or wrapped: a coefficient is
computed when all its samples are there, so the last level's figures are late by its filter's half
length, `delay_s`. Filters: Daubechies, Comm. Pure Appl. Math. 41 (1988), table 1, N = 4; the bank:
Mallat, IEEE Trans. PAMI 11 (1989).
Runs in: pipeline worker, one thread per stream.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.signal.grid import Grid

Floats = NDArray[np.float64]

LOWPASS: Final = np.array(
    [
        0.23037781330885523,
        0.7148465705525415,
        0.6308807679295904,
        -0.02798376941698385,
        -0.18703481171888114,
        0.030841381835986965,
        0.032883011666982945,
        -0.010597401784997278,
    ]
)
_TAPS: Final = len(LOWPASS)
_LOWEST_HZ = 4.0  # the lowest level reaches below this


class HopWavelets:
    """State: for each level the newest samples of its filter, for each hop the squares of each level."""

    def __init__(self, grid: Grid, n_channels: int) -> None:
        n_levels = 1
        while grid.sfreq / 2 ** (n_levels + 1) > _LOWEST_HZ:
            n_levels += 1
        highpass = LOWPASS[::-1] * np.resize([1.0, -1.0], _TAPS)
        self._filters = np.stack([LOWPASS, highpass])
        self.n_levels = n_levels
        self.support = (_TAPS - 1) * (2**n_levels - 1) + 1  # samples under the longest filter
        self.n_before = -(-self.support // grid.hop)  # hops before a window that its figures touch
        self.delay_s = self.support / 2 / grid.sfreq
        self.edges_hz = [grid.sfreq / 2 ** (level + 1) for level in range(n_levels + 1)]
        self._hop = grid.hop
        self._n_channels = n_channels
        self._squares = np.zeros((grid.n_hops, n_levels + 1, n_channels))
        self._tails: list[Floats] = []
        self.clear()

    @property
    def nbytes(self) -> int:
        return self._squares.nbytes + sum(tail.nbytes for tail in self._tails)

    def clear(self) -> None:
        self._at = 0
        self._squares[:] = 0
        self._tails = [np.zeros((0, self._n_channels)) for _ in range(self.n_levels)]

    def take(self, rows: NDArray[np.float32]) -> None:
        """The next hop, (hop, n_channels)."""
        low: Floats = rows.astype(np.float64)
        out = self._squares[self._at]
        out[:] = 0
        for level in range(self.n_levels):
            x = np.concatenate([self._tails[level], low])
            n = max(0, (len(x) - _TAPS) // 2 + 1)
            self._tails[level] = x[2 * n :].copy()
            if n == 0:
                break
            under = np.lib.stride_tricks.sliding_window_view(x, _TAPS, axis=0)[::2]
            both = np.matmul(self._filters, under.transpose(0, 2, 1))  # (n, 2, n_channels)
            out[level] = np.einsum("ic,ic->c", both[:, 1], both[:, 1])
            low = both[:, 0]
        else:
            out[-1] = np.einsum("ic,ic->c", low, low)
        self._at = (self._at + 1) % len(self._squares)

    def powers(self, n_hops: int) -> Floats:
        """Mean power (unit²) of each level, from the highest octave on, and of what lies below the
        last: (n_levels + 1, n_channels). Together the mean square of the samples, as far as the end
        of the window and the delay of the levels allow."""
        order = (np.arange(-n_hops, 0) + self._at) % len(self._squares)
        total: Floats = self._squares[order].sum(axis=0)
        return total / (n_hops * self._hop)
