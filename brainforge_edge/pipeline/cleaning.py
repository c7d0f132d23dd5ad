"""A stream's rows from the ring to the windows: chain, motion, eyes, rate, and what is wrong with them.

Runs in: pipeline worker, a stream's own thread.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.pipeline.motionsource import MotionSource
from brainforge_edge.pipeline.plan import Plan
from brainforge_edge.pipeline.troubles import Troubles
from brainforge_edge.signal import regression
from brainforge_edge.signal.chain import Chain
from brainforge_edge.signal.design import Cascade
from brainforge_edge.signal.motion import MotionRegression
from brainforge_edge.signal.regression import Regression
from brainforge_edge.signal.resample import Resampler

Floats = NDArray[np.float64]


class Clean(NamedTuple):
    """Rows for the windows."""

    rows: NDArray[np.float32]  # (n, channels)
    troubles: NDArray[np.int8] | None
    at: NDArray[np.int64]  # the row of this input that completed each


class Cleaning:
    """One stream's, with all its state. Chunks change no bit, motion aside, whose reference may be late."""

    def __init__(
        self, plan: Plan, *, design: Callable[[Cascade], Floats], motion: MotionSource | None
    ) -> None:
        sfreq = plan.info.sfreq
        self._sfreq = sfreq
        self._chain = Chain(plan.chain, sfreq, plan.names, design=design)
        self._resampler = None
        hold_s = 1 / plan.chain.l_freq if plan.chain.l_freq else 0.0
        if plan.resample_hz:
            self._resampler = Resampler(sfreq, plan.resample_hz, len(plan.channels))
            hold_s += 2 * self._resampler.delay_s
        self._troubles = Troubles(
            len(plan.names), rails=plan.rails, sources=plan.sources, hold=round(hold_s * sfreq)
        )
        self._eyes = _Eyes(plan) if plan.eog else None
        self._motion_source = motion
        self._motion = None if motion is None else MotionRegression(sfreq, len(plan.channels))
        self._n_in = 0  # rows since the last restart
        self._n_out = 0
        self.motion_removed: float | None = None if motion is None else 0.0

    @property
    def eyes_removed(self) -> bool | None:
        return None if self._eyes is None else self._eyes.fitted is not None

    @property
    def n_replaced(self) -> int:
        return self._chain.n_replaced

    def gap(self, n: int | None) -> None:
        """`n` rows are missing here, None: it is not known how many."""
        self._chain.gap(n)
        self._troubles.clear()
        if self._motion is not None:
            self._motion.gap()
        if self._resampler is not None:
            self._resampler.gap()
        self._n_in = self._n_out = 0

    def push(self, rows: Floats, times_ns: Floats) -> Clean:
        """Raw rows (n, picks) in their unit that follow the last, and when each was taken."""
        troubles = self._troubles.take(rows)
        x = self._chain.push(rows)
        if self._motion is not None and self._motion_source is not None:
            cleaned = self._motion.push(x, self._motion_source.at(times_ns), troubles)
            self.motion_removed = float(cleaned.is_cleaned.mean()) if len(x) else 0.0
            x = cleaned.rows
        if self._eyes is not None:
            x = self._eyes.push(x, troubles)
        first, self._n_in = self._n_in, self._n_in + len(rows)
        if self._resampler is None:
            return Clean(x, troubles, np.arange(len(x)))
        y = self._resampler.push(x)
        out = np.arange(self._n_out, self._n_out + len(y))
        self._n_out += len(y)
        at = out * self._resampler.down // self._resampler.up - first
        return Clean(y, None if troubles is None else troubles[at], at)


class _Eyes:
    """Fitted once on the first good rows, then applied; until then rows pass as they are."""

    def __init__(self, plan: Plan) -> None:
        self._references = plan.eog
        self._wanted = round(plan.eog_fit_s * plan.info.sfreq)
        self._rows: list[NDArray[Any]] = []
        self._n = 0
        self.fitted: Regression | None = None

    def push(
        self, rows: NDArray[np.float32], troubles: NDArray[np.int8] | None
    ) -> NDArray[np.float32]:
        if self.fitted is not None:
            return self.fitted.apply(rows)
        is_good = np.ones(len(rows), bool) if troubles is None else (troubles == 0).all(axis=1)
        good = np.flatnonzero(is_good)[: self._wanted - self._n]
        self._rows.append(rows[good])
        self._n += len(good)
        if self._n < self._wanted:
            return rows
        calibration, self._rows, self._n = np.concatenate(self._rows), [], 0
        try:
            self.fitted = regression.fit(calibration, self._references)
        except ValueError:  # eyes that did not move: the next rows may be better
            return rows
        end = int(good[-1]) + 1  # rows behind it follow the fit, whatever came with them
        return np.concatenate([rows[:end], self.fitted.apply(rows[end:])])
