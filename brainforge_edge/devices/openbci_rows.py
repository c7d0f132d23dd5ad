"""Rows of one stream of a Cyton into blocks: gaps named, rails flagged. No I/O.

Both streams of a board stand under its packet counter and share the clock that is fitted to it.
Runs in: acquire process, pull thread.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.block import BlockFlag, Gap, GapBasis, GapCause, SampleBlock
from brainforge_edge.core.stream import StreamInfo
from brainforge_edge.devices.base import LinkCounters

_ARRIVAL_PACKETS = 60  # by which a gap that only arrivals can size may be wrong

Row = tuple[int, int, NDArray[Any]]  # index, packet of its instant, values


class Track:
    """`n_packets`: packets to a row, on average. `counters`, if its losses are those of the link."""

    def __init__(
        self,
        info: StreamInfo,
        counters: LinkCounters | None,
        *,
        n_packets: float,
        rail: int | None = None,
    ) -> None:
        self.info = info
        self._counters = counters
        self._n_packets = n_packets
        self._rail = rail
        self._period_ns = 1e9 / info.sfreq
        self._incarnation = -1
        self._is_new = True
        self._plus_minus = 0  # rows
        self._has_stepped = False
        self._next_row = 0
        self._t_next_ns = 0

    def restart(self) -> None:
        """The board counts anew: the next row opens an incarnation."""
        self._is_new, self._plus_minus = True, 0

    def doubt(self, packets: int) -> None:
        """The index of the next row may be wrong by this many packets."""
        self._plus_minus += -int(-packets // self._n_packets)

    def step(self) -> None:
        """The clock was set anew: the next row's time does not continue those before."""
        self._has_stepped = True

    def blocks(
        self, rows: Sequence[Row], time_ns: Callable[[int], int], *, is_settled: bool
    ) -> list[SampleBlock]:
        """Rows in order, as blocks of consecutive ones."""
        blocks: list[SampleBlock] = []
        at = 0
        while at < len(rows):
            end = at + 1
            while end < len(rows) and rows[end][0] == rows[end - 1][0] + 1:
                end += 1
            blocks.append(self._block(rows[at:end], time_ns, is_settled=is_settled))
            at = end
        return blocks

    def _block(
        self, run: Sequence[Row], time_ns: Callable[[int], int], *, is_settled: bool
    ) -> SampleBlock:
        first, packet, _ = run[0]
        t_first = time_ns(packet)
        flags = BlockFlag(0) if is_settled else BlockFlag.ESTIMATED_TIME
        gap = self._gap(first, t_first)
        if self._is_new:
            flags |= BlockFlag.FIRST | (BlockFlag.CLOCK_STEP if gap else BlockFlag(0))
            self._incarnation += 1
        elif self._plus_minus or self._has_stepped:
            flags |= BlockFlag.CLOCK_STEP
        if gap is not None:
            flags |= BlockFlag.GAP_BEFORE
            if self._counters is not None:
                self._counters.lost_samples += gap.n
        self._is_new, self._plus_minus, self._has_stepped = False, 0, False
        self._next_row = run[-1][0] + 1
        self._t_next_ns = time_ns(run[-1][1]) + round(self._period_ns)
        data = np.stack([values for _, _, values in run])
        if self._rail is not None and np.any(np.abs(data) >= self._rail):
            flags |= BlockFlag.SATURATED
        return SampleBlock(self.info.stream_id, self._incarnation, first, t_first, data, flags, gap)

    def _gap(self, first: int, t_first: int) -> Gap | None:
        if self._is_new:
            if self._incarnation < 0:
                return None
            missing = max(0, round((t_first - self._t_next_ns) / self._period_ns))
            late = 1 + round(_ARRIVAL_PACKETS / self._n_packets)
            return Gap(missing, late, GapBasis.CLOCK, GapCause.RESTART)
        missing = first - self._next_row
        if not missing:
            return None
        basis = GapBasis.CLOCK if self._plus_minus else GapBasis.UNWRAPPED
        return Gap(missing, self._plus_minus, basis, GapCause.LINK)
