"""An accelerometer's ring as the reference of another stream: its axes at that stream's times.

Runs in: pipeline worker, the thread of the stream that is cleaned.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.clock import Clock
from brainforge_edge.core.errors import StorageError
from brainforge_edge.kernels.sos import SosFilter
from brainforge_edge.rings.reader import RingReader
from brainforge_edge.signal.design import Cascade
from brainforge_edge.signal.motion import MOST_AXES

Floats = NDArray[np.float64]
Design = Callable[[Cascade], Floats]

N_AXES: Final = 3
MOST_WAIT_S: Final = 0.1  # for rows of the reference that have not come yet
_KEPT_S = 2.0
_LOOK_S = 1.0  # how often a ring that is not there is looked for
_MOST_ROWS = 4096
assert N_AXES <= MOST_AXES


class MotionSource:
    """The first three channels of a stream, high-passed as the rows that they are taken out of.

    `ring`: where the stream lies now, None while it is not open.
    """

    def __init__(
        self, ring: Callable[[], Path | None], l_freq: float, *, design: Design, clock: Clock
    ) -> None:
        self._ring = ring
        self._l_freq = l_freq
        self._design = design
        self._clock = clock
        self._looked_ns: int | None = None
        self._reader: RingReader | None = None
        self._filter: SosFilter | None = None
        self._expected: tuple[int, int] | None = None  # incarnation, seq
        self._times = np.zeros(0)
        self._axes = np.zeros((0, N_AXES))

    def at(self, times_ns: Floats) -> Floats:
        """(n, 3): between the two rows next to each time; NaN where there are none. Waits up to
        `MOST_WAIT_S` for the newest."""
        reader = self._opened()
        if reader is None or not len(times_ns):
            return np.full((len(times_ns), N_AXES), np.nan)
        until = self._clock.monotonic_ns() + MOST_WAIT_S * 1e9
        self._read(reader)
        while self._newest_ns() < times_ns[-1]:
            left_s = (until - self._clock.monotonic_ns()) / 1e9
            if left_s <= 0 or not reader.wait(left_s):
                break
            self._read(reader)
        return self._between(times_ns, 2e9 / reader.info.sfreq)

    def _newest_ns(self) -> float:
        return float(self._times[-1]) if len(self._times) else -np.inf

    def _opened(self) -> RingReader | None:
        now = self._clock.monotonic_ns()
        if self._looked_ns is not None and now - self._looked_ns < _LOOK_S * 1e9:
            return self._reader
        self._looked_ns = now
        if self._reader is not None and not self._reader.is_replaced:
            return self._reader
        self._reader = None
        path = self._ring()
        if path is None:
            return None
        try:
            reader = RingReader(path)
        except StorageError:  # it is just being made anew: looked for again in a second
            return None
        if reader.info.n_channels < N_AXES or self._l_freq > 0.45 * reader.info.sfreq:
            return None
        self._filter = None
        if self._l_freq:
            cascade = Cascade(reader.info.sfreq, 0.0, self._l_freq, 0.0, ())
            self._filter = SosFilter(self._design(cascade), N_AXES)
        self._scale = np.array([channel.scale for channel in reader.info.channels[:N_AXES]])
        self._expected = None
        self._times, self._axes = np.zeros(0), np.zeros((0, N_AXES))
        self._reader = reader
        return reader

    def _read(self, reader: RingReader) -> None:
        while (rows := reader.read(_MOST_ROWS)) is not None:
            for run in rows.runs:
                start = run.row - rows.first_row
                part = rows.data[start : start + run.n, :N_AXES] * self._scale
                x = np.ascontiguousarray(part, dtype=np.float32)
                if self._filter is not None:
                    if self._expected != (run.incarnation, run.seq):
                        self._filter.reset()
                        self._filter.settle(np.where(np.isfinite(x[0]), x[0], 0).astype(float))
                    self._filter.apply(x, x)
                self._expected = (run.incarnation, run.seq + run.n)
                times = run.t_first_ns + np.arange(run.n) * (1e9 / reader.info.sfreq)
                self._times = np.concatenate([self._times, times])
                self._axes = np.concatenate([self._axes, x.astype(np.float64)])
        keep = self._times >= self._newest_ns() - _KEPT_S * 1e9
        self._times, self._axes = self._times[keep], self._axes[keep]

    def _between(self, times_ns: Floats, most_ns: float) -> Floats:
        if len(self._times) < 2:
            return np.full((len(times_ns), N_AXES), np.nan)
        order = np.argsort(self._times, kind="stable")  # a clock that was set right may step back
        times, axes = self._times[order], self._axes[order]
        after = np.clip(np.searchsorted(times, times_ns), 1, len(times) - 1)
        before = after - 1
        width = times[after] - times[before]
        is_there = (times[before] <= times_ns) & (times_ns <= times[after]) & (width <= most_ns)
        part = np.where(width > 0, (times_ns - times[before]) / np.maximum(width, 1e-9), 0.0)
        found = axes[before] + part[:, None] * (axes[after] - axes[before])
        found[~is_there] = np.nan
        return found
