"""Stamps of an LSL stream → sample index, gaps, a steady rhythm. Pure: no clock, no library.

LSL carries no counter: samples come whole and in order, each with the sender's own stamp. What the
sender never had shows as stamps that are late from some row on and stay late; what a busy sender
or radio only delayed comes back to the old rhythm. Rows that look late are therefore held until
one of the two is certain, at most `SETTLE_S`.
Runs in: acquire process, pull thread.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

SETTLE_S = 0.25
BIN_S = 0.5  # lateness is measured from the least late row of the last two of these
JUMP_S = 600.0  # a stamp this far from the rhythm is another clock, not a gap
BACK_S = 1.0  # … and so is one this far behind it


class Piece(NamedTuple):
    """Consecutive rows with their index."""

    seq: int
    data: NDArray[Any]
    best: int  # row of the least late stamp: the one that a clock fit should see
    best_stamp: float  # s, the sender's clock
    missing: int  # rows that are missing before this piece, estimated from the stamps
    plus_minus: int


class ClockJumped(Exception):
    """The sender's stamps make no sense next to those before them."""


class Stamps:
    """Follows one connection to one outlet; a reconnect begins a new one."""

    def __init__(self, sfreq: float, *, jitter_s: float) -> None:
        """`jitter_s`: what is later than this (and than 1.5 samples) may be a gap."""
        self._dt = 1.0 / sfreq
        self._limit = max(jitter_s, 1.5 * self._dt)
        self._bin_rows = max(1, round(BIN_S * sfreq))
        self._origin = 0.0
        self._seq = 0  # of the next row
        self._lows: list[float] = []
        self._highs: list[float] = []
        self._bin_from = 0
        self._held_data: NDArray[Any] = np.empty((0, 0))
        self._held: NDArray[np.float64] = np.empty(0)
        self._held_since_ns = 0
        self._gap = (0, 0)  # rows missing before the next piece, give or take

    @property
    def seq(self) -> int:
        """Index of the next row that is given out."""
        return self._seq

    @property
    def held(self) -> int:
        """Rows that wait for the verdict."""
        return len(self._held)

    def feed(self, data: NDArray[Any], stamps: NDArray[np.float64], now_ns: int) -> list[Piece]:
        """Rows (n, n_channels) with their stamps in s. ClockJumped: nothing of `data` was taken."""
        if not len(stamps):
            return self.settle(now_ns)
        if not np.isfinite(stamps).all():
            raise ClockJumped
        if not self._lows:
            self._origin = float(stamps[0])
            self._lows, self._highs = [0.0], [0.0]
        self._refuse_jump(stamps)
        if len(self._held):
            held_data, held = self._take_held()
            data, stamps = np.concatenate((held_data, data)), np.concatenate((held, stamps))
        else:
            self._held_since_ns = now_ns
        return self._sorted(data, stamps, now_ns) + self.settle(now_ns)

    def settle(self, now_ns: int, *, at_once: bool = False) -> list[Piece]:
        """Held rows that have waited long enough, behind their gap; `at_once` at the end of a link."""
        n = len(self._held)
        waited = now_ns - self._held_since_ns >= SETTLE_S * 1e9
        if not n or not (at_once or (waited and n > 1)):
            return []
        late = self._late(self._held)
        missing = max(1, round(float(late.min()) / self._dt))
        spread = max(max(self._highs) - min(self._lows), float(late.max() - late.min()))
        plus_minus = max(1, math.ceil(spread / self._dt))
        if not waited:  # nobody will know whether they were only delayed
            plus_minus = max(plus_minus, missing)
        self._gap = (self._gap[0] + missing, plus_minus)
        base = min(self._lows) + float(late.min()) - missing * self._dt
        self._seq += missing
        self._lows, self._highs, self._bin_from = [base], [base], self._seq
        rows, held = self._take_held()
        pieces = self._sorted(rows, held, now_ns)  # there may be another gap in them
        while at_once and len(self._held):
            pieces += self.settle(now_ns, at_once=True)
        return pieces

    def _sorted(self, data: NDArray[Any], stamps: NDArray[np.float64], now_ns: int) -> list[Piece]:
        """Rows up to the last one in rhythm are given out; those behind it are held."""
        in_rhythm = np.flatnonzero(self._late(stamps) <= self._limit)
        n = int(in_rhythm[-1]) + 1 if len(in_rhythm) else 0
        pieces = [self._given(data[:n], stamps[:n])] if n else []
        if n:
            self._held_since_ns = now_ns
        self._held_data, self._held = data[n:], stamps[n:]
        return pieces

    def _given(self, data: NDArray[Any], stamps: NDArray[np.float64]) -> Piece:
        (missing, plus_minus), self._gap = self._gap, (0, 0)
        residual = self._residual(stamps)
        best = int(residual.argmin())
        seq = self._seq
        self._seq += len(stamps)
        low, high = float(residual[best]), float(residual.max())
        if self._seq - self._bin_from > self._bin_rows:
            self._lows, self._highs = [*self._lows[-1:], low], [*self._highs[-1:], high]
            self._bin_from = self._seq
        else:
            self._lows[-1] = min(self._lows[-1], low)
            self._highs[-1] = max(self._highs[-1], high)
        return Piece(seq, data, best, float(stamps[best]), missing, plus_minus)

    def _take_held(self) -> tuple[NDArray[Any], NDArray[np.float64]]:
        held = self._held_data, self._held
        self._held_data, self._held = self._held_data[:0], np.empty(0)
        return held

    def _residual(self, stamps: NDArray[np.float64]) -> NDArray[np.float64]:
        """By how much each stamp is later than its index times the period, s."""
        index = np.arange(self._seq, self._seq + len(stamps))
        found: NDArray[np.float64] = stamps - self._origin - index * self._dt
        return found

    def _late(self, stamps: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._residual(stamps) - min(self._lows)

    def _refuse_jump(self, stamps: NDArray[np.float64]) -> None:
        first = stamps[0] - self._origin - (self._seq + len(self._held)) * self._dt
        steps = np.diff(stamps, prepend=stamps[:1])
        base = min(self._lows)
        if not -BACK_S <= first - base <= JUMP_S or steps.min() < -BACK_S or steps.max() > JUMP_S:
            raise ClockJumped
