"""One buffer of 4 s per stream, and three windows that end where it ends: 1, 2 and 4 s.

Rows come in chunks of any size; all that is computed moves on hop by hop, so that no result depends
on how rows were cut. A window that touches a gap, a value that is no number, or one at the rail has a
reason instead of a figure, and is whole again as soon as that has left it: what is replaced enters
and leaves as the same number.
Runs in: pipeline worker, one thread per stream.
"""

from collections.abc import Iterator
from enum import IntEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.signal.grid import Grid
from brainforge_edge.signal.moments import HopMoments
from brainforge_edge.signal.spectrum import SlidingSpectra
from brainforge_edge.signal.wavelets import HopWavelets

MOST_CHANNELS = 1024
# What leaves a sum leaves a rounding of itself behind, 2**-53 a sample. Where this part of it is more
# than all that stays, the sum is computed anew.
_ROUNDING = np.float32(1e-6)


class Trouble(IntEnum):
    """Why a window has no figures; 0: it has. Of two the newer counts, at the same time the higher."""

    NONE = 0
    START = 1
    GAP = 2
    RAIL = 3
    NOT_FINITE = 4


REASONS: Final = {
    Trouble.NONE: "",
    Trouble.START: "warming up: the window is not full yet",
    Trouble.GAP: "warming up: samples were lost, and the window is not full again",
    Trouble.RAIL: "warming up: the signal stood at the end of the input's range within the window",
    Trouble.NOT_FINITE: "warming up: the device sent values that are no numbers within the window",
}


def rail_troubles(
    rows: NDArray[Any], low: float | NDArray[Any], high: float | NDArray[Any]
) -> NDArray[np.int8]:
    """`Trouble.RAIL` where raw rows lie at or beyond the lowest or highest value, one for all channels
    or one for each; for `Windows.push`."""
    at_rail = (rows <= low) | (rows >= high)
    return at_rail.astype(np.int8) * np.int8(Trouble.RAIL)


class Windows:
    """Sliding spectra and moments of one stream, in the unit of its rows."""

    def __init__(self, grid: Grid, n_channels: int, *, has_wavelets: bool = False) -> None:
        """`has_wavelets`: powers of octaves as well. ValueError: no channels, or too many."""
        if not 1 <= n_channels <= MOST_CHANNELS:
            msg = f"{n_channels} channels; at least 1, at most {MOST_CHANNELS}"
            raise ValueError(msg)
        self.grid = grid
        self.n_channels = n_channels
        self.spectra = SlidingSpectra(grid, n_channels)
        self.moments = HopMoments(grid, n_channels)
        self.wavelets = HopWavelets(grid, n_channels) if has_wavelets else None
        self._ring = np.zeros((grid.n_hops, grid.hop, n_channels), np.float32)
        self._peaks = np.zeros((grid.n_hops, n_channels), np.float32)
        self._at = 0  # the hop of the ring that is written next: the oldest
        self._part = np.zeros((grid.hop, n_channels), np.float32)
        self._n_part = 0
        self._part_trouble = np.zeros(n_channels, np.int8)
        self._clean = np.zeros(n_channels, np.int64)  # hops since the newest trouble
        self._trouble = np.full(n_channels, Trouble.START, np.int8)
        self.hops = 0  # since the beginning

    @property
    def pending(self) -> int:
        """Rows that came after the newest whole hop: by so much is each figure older than the last row."""
        return self._n_part

    @property
    def nbytes(self) -> int:
        """Bytes of the state."""
        return (
            self._ring.nbytes
            + self._peaks.nbytes
            + self._part.nbytes
            + self.moments.nbytes
            + (self.wavelets.nbytes if self.wavelets else 0)
            + self.spectra.nbytes
        )

    def trouble(self, window_s: int, before: int = 0) -> NDArray[np.int8]:
        """The `Trouble` of each channel's window: (n_channels,), 0 where it is whole, and `before` hops
        in front of it too."""
        is_short = self._clean < self.spectra.n_hops[window_s] + before
        return np.where(is_short, self._trouble, np.int8(Trouble.NONE))

    def cut(self, rows: NDArray[np.float32]) -> Iterator[slice]:
        """Slices of rows that do not cross the end of a hop: push one by one to see every hop."""
        start, stop = 0, self.grid.hop - self._n_part
        while start < len(rows):
            yield slice(start, min(len(rows), stop))
            start, stop = stop, stop + self.grid.hop

    def push(self, rows: NDArray[np.float32], troubles: NDArray[np.int8] | None = None) -> int:
        """Rows (n, n_channels) that follow the last; the hops that they completed.

        `troubles`: a `Trouble` for each value, for what rows do not show any more (a filter hides a
        rail). Values that are no numbers are seen here. ValueError: another shape.
        """
        if rows.ndim != 2 or rows.shape[1] != self.n_channels:
            msg = f"rows of shape {rows.shape}, not (n, {self.n_channels})"
            raise ValueError(msg)
        if troubles is not None and troubles.shape != rows.shape:
            msg = f"troubles of shape {troubles.shape} for rows of shape {rows.shape}"
            raise ValueError(msg)
        done = 0
        for part in self.cut(rows):
            n = part.stop - part.start
            self._part[self._n_part : self._n_part + n] = rows[part]
            if troubles is not None:
                np.maximum(self._part_trouble, troubles[part].max(axis=0), out=self._part_trouble)
            self._n_part += n
            if self._n_part == self.grid.hop:
                self._hop()
                done += 1
        return done

    def gap(self, why: Trouble = Trouble.GAP) -> None:
        """Samples are missing here: all windows begin anew with the next row."""
        self.spectra.clear()
        self.moments.clear()
        if self.wavelets:
            self.wavelets.clear()
        self._ring[:] = 0
        self._peaks[:] = 0
        self._n_part = 0
        self._part_trouble[:] = Trouble.NONE
        self._clean[:] = 0
        self._trouble[:] = why

    def recent(self, window_s: int, channels: NDArray[np.intp]) -> NDArray[np.float32]:
        """The samples of a window, oldest first: (window_s × sfreq, len(channels)); a copy."""
        hops = self._hops_of(self.spectra.n_hops[window_s], channels)
        return hops.reshape(-1, len(channels))

    def _hops_of(self, n: int, channels: NDArray[np.intp]) -> NDArray[np.float32]:
        return self._ring[self._order(n)[:, None], :, channels[None, :]].transpose(0, 2, 1)

    def _order(self, n: int) -> NDArray[np.intp]:
        """Places in the ring of the newest n hops, oldest first."""
        return (np.arange(-n, 0) + self._at) % self.grid.n_hops

    def _hop(self) -> None:
        new = self._part
        peak = np.abs(new).max(axis=0)  # nan where one is: the rare case is looked at closer
        if not np.isfinite(peak).all():
            is_bad = ~np.isfinite(new)
            self._part_trouble[is_bad.any(axis=0)] = Trouble.NOT_FINITE
            new[is_bad] = 0
            peak = np.abs(new).max(axis=0)
        is_fresh = self._clean == 0
        doubts = []
        for window_s, n_hops in self.spectra.n_hops.items():
            left_peak = self._peaks[self._at - n_hops] * _ROUNDING
            if (left_peak > peak).any():
                doubts.append((window_s, left_peak))
        self.spectra.slide(new)
        self.moments.take(new, is_fresh)
        if self.wavelets:
            self.wavelets.take(new)
        self._ring[self._at] = new
        self._peaks[self._at] = peak
        self._at = (self._at + 1) % self.grid.n_hops
        for window_s, left_peak in doubts:
            self._renew(window_s, left_peak)
        is_troubled = self._part_trouble != Trouble.NONE
        self._clean += 1
        if is_troubled.any():
            self._clean[is_troubled] = 0
            self._trouble[is_troubled] = self._part_trouble[is_troubled]
            self._part_trouble[:] = Trouble.NONE
        self._n_part = 0
        self.hops += 1

    def _renew(self, window_s: int, left_peak: NDArray[np.float32]) -> None:
        """Where all that stays in the window is smaller than `left_peak`."""
        stays = self._peaks[self._order(self.spectra.n_hops[window_s])].max(axis=0)
        channels = np.flatnonzero(stays < left_peak)
        if len(channels):
            self.spectra.renew(window_s, channels)
