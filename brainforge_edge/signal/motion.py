"""Motion out of a stream, by regression on an accelerometer: several lags, weights that follow slowly.

Recursive least squares with forgetting (Haykin, Adaptive Filter Theory, 5th ed., 2014, ch. 10), not
NLMS: how fast NLMS settles falls with the spread of the reference's eigenvalues, and axes of one head
and neighbouring lags of a slow movement are nearly the same signal. All channels share one reference
and so one matrix of its sums; it is solved anew at the end of each block instead of carrying its
inverse along, which for RLS is what becomes unstable. Weights of a block come from the blocks before
it: causal, and no row waits.
Runs in: pipeline worker, one thread per stream.
"""

from math import exp, isfinite
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MOST_LAGS: Final = 32
MOST_LAG_S: Final = 1.0
MOST_AXES: Final = 8
BLOCK_S: Final = 0.05
# Of the reference's mean power: axes that are the same signal have weights of their mean, not of millions.
_RIDGE: Final = 1e-6
# A block of which so many times the usual power is left is a pop, no motion: 30 dB. What stays is
# believed in the end, since the usual power rises by this factor a block: 10 dB in 0.6 s.
_WILD: Final = 1000.0
_RISE: Final = 1.2
_LEAST: Final = 1e-60  # power of a reference; below, squares lose their digits
_LARGEST: Final = 1e30  # larger values are no numbers of any unit


class Cleaned(msgspec.Struct, frozen=True, eq=False):
    rows: NDArray[Any]  # (n, n_channels), motion removed, in the type of what was given
    is_cleaned: NDArray[np.bool_]  # (n,): False while warming up, or where the reference has a hole


def even_lags(sfreq: float, *, span_s: float = 0.1, n: int = 13) -> tuple[int, ...]:
    """Up to `n` lags in rows, evenly from 0 to `span_s`."""
    return tuple(sorted({round(i * span_s * sfreq / max(1, n - 1)) for i in range(n)}))


class MotionRegression:
    """One stream and its reference; what is given is never altered.

    Contract with the caller: `reference` has a row for each row, at the same time (resampled by the
    time stamps of both), NaN where there is none or what the sensor cannot measure. Both have passed the same high-pass: there is no
    constant among the regressors, and gravity and electrode offsets are no motion.
    """

    def __init__(
        self,
        sfreq: float,
        n_channels: int,
        *,
        n_axes: int = 3,
        lags: tuple[int, ...] | None = None,
        memory_s: float = 5.0,
        settle_s: float = 2.0,
        noise: float = 0.0,
    ) -> None:
        """`lags` in rows, 0 and above. `memory_s`: what is that old counts 1/e. `settle_s`: nothing is
        removed before so much was learned. `noise`: rms of the resting reference, in its unit; weights
        are shrunk where it moves no more than that. ValueError: outside of the bounds."""
        if not 1 <= sfreq <= 1e5:
            msg = f"{sfreq:g} Hz; 1 to 100,000 are possible"
            raise ValueError(msg)
        lags = even_lags(sfreq) if lags is None else lags
        if not 1 <= len(set(lags)) == len(lags) <= MOST_LAGS or min(lags) < 0:
            msg = f"lags {lags}: 1 to {MOST_LAGS} different ones, in rows, from 0 on"
            raise ValueError(msg)
        if max(lags) > MOST_LAG_S * sfreq:
            msg = f"a lag of {max(lags)} rows is more than {MOST_LAG_S:g} s at {sfreq:g} Hz"
            raise ValueError(msg)
        if not (1 <= n_axes <= MOST_AXES and n_channels >= 1):
            msg = f"{n_axes} axes, {n_channels} channels; 1 to {MOST_AXES} axes, at least 1 channel"
            raise ValueError(msg)
        if not (
            0.5 <= memory_s <= 3600 and 0 <= settle_s <= 3600 and noise >= 0 and isfinite(noise)
        ):
            msg = "memory_s is 0.5 to 3600, settle_s 0 to 3600, noise not negative"
            raise ValueError(msg)
        self._lags = lags
        self._n_axes = n_axes
        self._block = max(1, round(BLOCK_S * sfreq))
        self._decay = exp(-self._block / (memory_s * sfreq))
        n_weights = len(lags) * n_axes
        # Fewer rows than ten for each weight would take signal for motion.
        self._settle = max(settle_s * sfreq, 10 * n_weights)
        self._noise = noise
        self._past = max(lags)
        self._reference = np.zeros((self._past + self._block, n_axes))
        self._is_hole = np.ones(self._past + self._block, bool)
        self._x = np.zeros((self._block, n_weights))
        self._is_whole = np.zeros(self._block, bool)
        self._y = np.zeros((self._block, n_channels))
        self._is_bad = np.zeros(n_channels, bool)
        self._at = 0
        self._xx = np.zeros((n_weights, n_weights))
        self._xy = np.zeros((n_weights, n_channels))
        self._left = np.zeros(n_channels)  # usual power of what is left, unit²
        self._weight = 0.0  # rows that the sums stand for
        self.weights = np.zeros((n_weights, n_channels))  # lag by lag, of each all axes
        self.learned = 0  # rows, since the beginning

    @property
    def is_settled(self) -> bool:
        return self.learned >= self._settle

    @property
    def nbytes(self) -> int:
        """Bytes of the state."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, np.ndarray))

    def gap(self) -> None:
        """Rows are missing here: lags begin anew, an unfinished block is not learned, weights stay."""
        self._at = 0
        self._is_bad[:] = False
        self._reference[:] = 0
        self._is_hole[:] = True

    def push(
        self,
        rows: NDArray[np.floating],
        reference: NDArray[np.floating],
        troubles: NDArray[Any] | None = None,
    ) -> Cleaned:
        """Rows (n, n_channels) that follow the last, reference (n, n_axes).

        `troubles`: not 0 for values that are not to be learned from (the rail). A channel does not
        learn from a block with such a value or one that is no number, nor from a pop, and none from
        rows whose reference has a hole within the lags; a hole itself counts as no movement.
        ValueError: another shape.
        """
        if rows.shape != (len(rows), self._y.shape[1]) or reference.shape != (
            len(rows),
            self._n_axes,
        ):
            msg = (
                f"rows of shape {rows.shape} and reference of shape {reference.shape}; "
                f"(n, {self._y.shape[1]}) and (n, {self._n_axes}) are needed"
            )
            raise ValueError(msg)
        is_bad = ~(np.abs(rows) < _LARGEST)
        if troubles is not None:
            if troubles.shape != rows.shape:
                msg = f"troubles of shape {troubles.shape} for rows of shape {rows.shape}"
                raise ValueError(msg)
            is_bad |= troubles != 0
        is_there = np.abs(reference) < _LARGEST
        moved = np.where(is_there, reference, 0.0)
        is_hole = ~is_there.all(axis=1)
        found = np.empty(rows.shape, rows.dtype)
        is_cleaned = np.empty(len(rows), bool)
        start = 0
        while start < len(rows):
            stop = min(len(rows), start + self._block - self._at)
            part = slice(start, stop)
            here = slice(self._at, self._at + stop - start)
            self._enter(here, moved[part], is_hole[part])
            # The whole block, whatever there is of it yet: a product's rounding depends on its shape.
            motion = (self._x @ self.weights)[here]
            found[part] = rows[part] - motion
            is_cleaned[part] = self._is_whole[here] & self.is_settled
            self._y[here] = rows[part]
            self._is_bad |= is_bad[part].any(axis=0)
            self._at, start = here.stop, stop
            if self._at == self._block:
                self._learn()
                self._turn()
        return Cleaned(found, is_cleaned)

    def _enter(self, here: slice, moved: Floats, is_hole: NDArray[np.bool_]) -> None:
        self._reference[self._past + here.start : self._past + here.stop] = moved
        self._is_hole[self._past + here.start : self._past + here.stop] = is_hole
        self._is_whole[here] = True
        for i, lag in enumerate(self._lags):
            then = slice(self._past + here.start - lag, self._past + here.stop - lag)
            self._x[here, i * self._n_axes : (i + 1) * self._n_axes] = self._reference[then]
            self._is_whole[here] &= ~self._is_hole[then]

    def _learn(self) -> None:
        n = int(self._is_whole.sum())
        if n == 0:
            return
        x = self._x * self._is_whole[:, None]
        motion = x @ self.weights
        left = np.where(self._is_whole[:, None] & ~self._is_bad, self._y - motion, 0.0)
        self._judge((left**2).sum(axis=0) / n)
        # What the weights say themselves teaches them nothing: so a channel stands still, and the
        # matrix is the same for all.
        y = np.where(self._is_bad, motion, self._y)
        self._xx = self._decay * self._xx + x.T @ x
        self._xy = self._decay * self._xy + x.T @ y
        self._weight = self._decay * self._weight + n
        self.learned += n
        power = float(np.trace(self._xx)) / len(self._xx)
        if not self.is_settled or power < _LEAST:
            return
        ridge = _RIDGE * power + self._noise**2 * self._weight
        weights = np.linalg.solve(self._xx + ridge * np.eye(len(self._xx)), self._xy)
        is_new = ~self._is_bad & np.isfinite(weights).all(axis=0)
        self.weights[:, is_new] = weights[:, is_new]

    def _judge(self, power: Floats) -> None:
        """Wild channels are bad in this block. Nothing is usual at first."""
        is_new = (self._left == 0) & ~self._is_bad
        self._left[is_new] = power[is_new]
        is_known = ~self._is_bad
        self._is_bad |= power > _WILD * self._left
        usual = self._decay * self._left + (1 - self._decay) * power
        usual = np.minimum(usual, _RISE * self._left)
        self._left[is_known] = usual[is_known]

    def _turn(self) -> None:
        self._at = 0
        self._is_bad[:] = False
        self._reference[: self._past] = self._reference[self._block :].copy()
        self._is_hole[: self._past] = self._is_hole[self._block :].copy()
