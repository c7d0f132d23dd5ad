"""Another rate by a rational factor: causal, of known delay, in one polyphase filter.

Runs in: pipeline worker, one thread per stream.
"""

from fractions import Fraction
from math import ceil, pi
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

STOP_DB: Final = 80.0
PASSED: Final = 0.8  # of the lower Nyquist frequency
MOST_FACTOR: Final = 2000
_LARGEST: Final = 1e30


def factor(sfreq: float, wanted: float) -> Fraction:
    """wanted / sfreq as up / down. ValueError: either is above `MOST_FACTOR`, or they are no rates."""
    if not (0 < sfreq < 1e6 and 0 < wanted < 1e6):
        msg = f"{sfreq:g} and {wanted:g} Hz; rates are above 0 and below 1 MHz"
        raise ValueError(msg)
    found = Fraction(wanted).limit_denominator(1000) / Fraction(sfreq).limit_denominator(1000)
    if max(found.numerator, found.denominator) > MOST_FACTOR:
        msg = f"{sfreq:g} to {wanted:g} Hz is {found}; neither number may be above {MOST_FACTOR}"
        raise ValueError(msg)
    return found


def prototype(up: int, down: int) -> tuple[Floats, int]:
    """The low-pass at `up` times the rate, and its delay in rows of the input, which is whole.

    A sinc under Kaiser's window (Kaiser, IEEE ISCAS 1974): flat to `PASSED` of the lower Nyquist
    frequency, `STOP_DB` below from that frequency on, so that nothing is folded back.
    """
    slower = max(up, down)
    width = pi * (1 - PASSED) / slower
    half = ceil((STOP_DB - 7.95) / (2.285 * width) / 2)
    delay = ceil(half / up)
    n = np.arange(-delay * up, delay * up + 1)
    cutoff = (1 + PASSED) / 2 / slower
    taps = np.sinc(n * cutoff) * np.kaiser(len(n), 0.1102 * (STOP_DB - 8.7))
    # Each phase alone passes a constant as it is.
    for phase in range(up):
        taps[phase::up] /= taps[phase::up].sum()
    return taps, delay


class Resampler:
    """Rows at `sfreq` to rows at `sfreq` × up / down.

    Output m is the input at time m × down / up rows after the first, `delay` rows of input late. The
    first row counts as having been there for ever, so a constant makes no step.
    """

    def __init__(self, sfreq: float, wanted: float, n_channels: int) -> None:
        """ValueError: rates whose ratio is too fine, no channels."""
        if n_channels < 1:
            msg = f"{n_channels} channels; at least 1"
            raise ValueError(msg)
        ratio = factor(sfreq, wanted)
        self.up, self.down = ratio.numerator, ratio.denominator
        self.sfreq = sfreq * self.up / self.down
        taps, self.delay = prototype(self.up, self.down)
        self._n_taps = -(-len(taps) // self.up)
        # Row phase: newest input last.
        self._table = np.zeros((self.up, self._n_taps))
        for phase in range(self.up):
            part = taps[phase :: self.up]
            self._table[phase, self._n_taps - len(part) :] = part[::-1]
        self._past = np.zeros((self._n_taps - 1, n_channels))
        self._newest = np.zeros(n_channels)
        self._is_begun = False
        self._next = 0  # the next output's time, in 1 / up rows after the next row that comes

    @property
    def delay_s(self) -> float:
        return self.delay / (self.sfreq * self.down / self.up)

    def gap(self) -> None:
        """Rows are missing here: begin anew with the next row, which is the time of an output."""
        self._is_begun = False

    def push(self, rows: NDArray[np.floating]) -> NDArray[Any]:
        """Rows (n, n_channels) that follow the last to the rows that they completed, in their type.

        Chunks change no bit. A value that is no number is replaced by the channel's newest that was one.
        ValueError: another shape.
        """
        if rows.ndim != 2 or rows.shape[1] != self._past.shape[1]:
            msg = f"rows of shape {rows.shape}, not (n, {self._past.shape[1]})"
            raise ValueError(msg)
        if not len(rows):
            return np.array(rows)
        x = self._held(rows)
        if not self._is_begun:
            self._past[:] = x[0]
            self._next = 0
            self._is_begun = True
        x = np.concatenate([self._past, x])
        times = np.arange(self._next, len(rows) * self.up, self.down)
        found = np.empty((len(times), x.shape[1]))
        # One at a time: the rounding of a larger product depends on how many rows came.
        for i, time in enumerate(times.tolist()):
            newest, phase = divmod(time, self.up)
            np.dot(self._table[phase], x[newest : newest + self._n_taps], out=found[i])
        self._next += len(times) * self.down - len(rows) * self.up
        self._past = x[len(rows) :].copy()
        return found.astype(rows.dtype)

    def _held(self, rows: NDArray[np.floating]) -> Floats:
        x = rows.astype(np.float64)
        is_there = np.abs(x) < _LARGEST
        if not self._is_begun:
            self._newest = np.where(is_there[0], x[0], 0.0)
        for channel in np.flatnonzero(~is_there.all(axis=0)):
            column = np.concatenate([self._newest[channel : channel + 1], x[:, channel]])
            last = np.where(np.append(True, is_there[:, channel]), np.arange(len(column)), 0)
            x[:, channel] = column[np.maximum.accumulate(last)][1:]
        self._newest = x[-1].copy()
        return x
