"""Rows under an absolute index into blocks: gaps named, times fitted, rails flagged. No I/O.

For devices without a clock of their own: the index times the nominal period is the device's time,
and the fit finds the true rate.
Runs in: acquire process, pull thread.
"""

from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.block import BlockFlag, Gap, GapBasis, GapCause, SampleBlock
from brainforge_edge.core.clockfit import ClockFit, ClockState
from brainforge_edge.core.stream import StreamInfo
from brainforge_edge.devices.base import LinkCounters

_ARRIVAL_NS = 100_000_000  # by which a gap that only arrivals can size may be wrong
_ARRIVALS = 512  # the newest, whose lateness is told


class Rows:
    """One stream. `bias_ns`: by how much even the quickest packet of this kind of device is late."""

    def __init__(
        self,
        info: StreamInfo,
        counters: LinkCounters,
        *,
        bias_ns: int = 0,
        rails: tuple[int, int] | None = None,
    ) -> None:
        self.info = info
        self.fit = ClockFit()
        self.next_row = 0
        self.received = 0  # rows
        self.lost = 0  # rows named by gaps
        self.quickest: tuple[int, int] | None = None  # device time and arrival, of this incarnation
        self._start: tuple[int, int] | None = None
        self._late_ns: deque[int] = deque(maxlen=_ARRIVALS)
        self._counters = counters
        self._bias_ns = bias_ns
        self._rails = rails
        self._period_ns = 1e9 / info.sfreq
        self._incarnation = -1
        self._is_new = True
        self._t_next_ns = 0

    @property
    def lateness_ms(self) -> dict[str, float]:
        """By how much the newest arrivals were later than the quickest: median and 99th percentile."""
        late = sorted(self._late_ns)
        if not late:
            return {}
        places = {"p50": len(late) // 2, "p99": int(0.99 * len(late))}
        return {name: round(max(0, late[at]) / 1e6, 2) for name, at in places.items()}

    def restart(self) -> None:
        """The device counts anew: the next row opens an incarnation."""
        self._is_new = True
        self.next_row = 0
        self.quickest = None

    def start_from(self, quickest: tuple[int, int] | None) -> None:
        """The next incarnation begins from this device time and its arrival, not from the first one."""
        self._start = quickest

    def add(
        self,
        first: int,
        rows: NDArray[Any],
        arrived_ns: int,
        *,
        plus_minus: int = 0,
        basis: GapBasis = GapBasis.UNWRAPPED,
        device: tuple[int, float] | None = None,
    ) -> SampleBlock:
        """Rows (n, n_channels) `first` …, not before `next_row`; what `arrived_ns` brought is the last.

        `device`: for one with a clock, its time of the last row and the period by it, in ns.
        """
        flags = BlockFlag(0)
        gap: Gap | None = None
        had = self._incarnation >= 0
        was_new = self._is_new
        if was_new:
            self._incarnation += 1
            self._is_new = False
            self.fit.restart()
            if self._start is not None:
                self.fit.seed(*self._start)
                self._start = None
            flags |= BlockFlag.FIRST
        elif first > self.next_row:
            gap = Gap(first - self.next_row, plus_minus, basis, GapCause.LINK)
            if plus_minus:
                self.fit.restart()  # the index may be wrong by whole rounds: not one clock any more
                flags |= BlockFlag.CLOCK_STEP
        n = len(rows)
        period_ns = device[1] if device else self._period_ns
        last_ns = device[0] if device else round((first + n - 1) * period_ns)
        self.fit.observe(last_ns, arrived_ns)
        if self.quickest is None or arrived_ns - last_ns < self.quickest[1] - self.quickest[0]:
            self.quickest = (last_ns, arrived_ns)
        self._late_ns.append(arrived_ns - self.fit.to_box(last_ns))
        self.received += n
        t_first = self.fit.to_box(last_ns - round((n - 1) * period_ns)) - self._bias_ns
        if was_new and had:
            missing = max(0, round((t_first - self._t_next_ns) / self._period_ns))
            late = 1 + round(_ARRIVAL_NS / self._period_ns)
            gap = Gap(missing, late, GapBasis.CLOCK, GapCause.RESTART)
            flags |= BlockFlag.CLOCK_STEP
        if self.fit.take_step():
            flags |= BlockFlag.CLOCK_STEP
        if gap is not None:
            flags |= BlockFlag.GAP_BEFORE
            self._counters.lost_samples += gap.n
            self.lost += gap.n
        if not self.fit.is_settled:
            flags |= BlockFlag.ESTIMATED_TIME
        if self._rails is not None and (
            rows.min() <= self._rails[0] or rows.max() >= self._rails[1]
        ):
            flags |= BlockFlag.SATURATED
        self.next_row = first + n
        self._t_next_ns = t_first + round(n * self._period_ns)
        data = np.ascontiguousarray(rows, dtype=np.dtype(self.info.dtype.memory))
        return SampleBlock(self.info.stream_id, self._incarnation, first, t_first, data, flags, gap)


def clock_of(rows: Iterable[Rows], stream_id: str) -> ClockState | None:
    """How the times of that stream are estimated; None if that is not settled, or it is none of these."""
    return next((each.fit.state for each in rows if each.info.stream_id == stream_id), None)
