"""The Ganglion's accelerometer: one axis in the last byte of each 18-bit packet. No I/O, no clock.

The last digit of the packet's id says which axis. Sources disagree: BrainFlow takes 0, 1, 2 for −Z, Y
and X (its comment: the firmware swaps X and Z and turns Z round), OpenBCI's own earlier drivers 1,
2, 3 for X, Y and Z. Both agree on one byte with sign and 0.016 g a count.
Runs in: acquire process, pull thread.
"""

from typing import Literal

import numpy as np

from brainforge_edge.core.block import GapBasis, SampleBlock
from brainforge_edge.core.clockfit import ClockState
from brainforge_edge.core.stream import ChannelInfo, Dtype, StreamInfo
from brainforge_edge.devices.base import LinkCounters
from brainforge_edge.devices.rows import Rows

Axes = Literal["brainflow", "openbci"]
ROWS_PER_ROUND = 10
_SCALE = 0.016 * 9.80665  # m/s² a count
_NEAR = 4  # packets: the three axes of a row lie in neighbours
# Last digit → column; a row is whole with the last of them.
_COLUMNS: dict[Axes, dict[int, int]] = {
    "brainflow": {0: 2, 1: 1, 2: 0},
    "openbci": {1: 0, 2: 1, 3: 2},
}


def stream(device: str, *, round_s: float, axes: Axes) -> StreamInfo:
    """`round_s`: how long the board takes for a round of packet ids."""
    signs = (1, 1, -1 if axes == "brainflow" else 1)
    channels = tuple(
        ChannelInfo(f"ACC_{axis}", "misc", "m/s^2", sign * _SCALE)
        for axis, sign in zip("XYZ", signs, strict=True)
    )
    return StreamInfo(f"{device}-acc", device, ROWS_PER_ROUND / round_s, Dtype.I16, channels)


class Accelerometer:
    """One board. A row without all three axes is left out: a gap, counted in `broken_rows`."""

    def __init__(
        self, info: StreamInfo, counters: LinkCounters, *, axes: Axes, bias_ns: int = 0
    ) -> None:
        self.rows = Rows(info, counters, bias_ns=bias_ns)
        self._counters = counters
        self._columns = _COLUMNS[axes]
        self._last_digit = max(self._columns)
        self._came: dict[int, tuple[int, int]] = {}  # column → (packet number, value)

    @property
    def clock(self) -> ClockState | None:
        return self.rows.fit.state

    def restart(self) -> None:
        """The board counts anew."""
        self._came.clear()
        self.rows.restart()

    def take(
        self,
        number: int,
        *,
        rounds: int,
        place: int,
        value: int,
        arrived_ns: int,
        plus_minus_rounds: int = 0,
    ) -> SampleBlock | None:
        """Packet `number`, the one with id `place` of its round; the row that it completes."""
        column = self._columns.get(place % 10)
        if column is None:
            return None
        self._came[column] = (number, value)
        if place % 10 != self._last_digit:
            return None
        came, self._came = self._came, {}
        if len(came) < 3 or min(at for at, _ in came.values()) <= number - _NEAR:
            self._counters.broken_rows += 1
            return None
        row = np.array([[came[each][1] for each in range(3)]], np.int16)
        return self.rows.add(
            rounds * ROWS_PER_ROUND + place // 10,
            row,
            arrived_ns,
            plus_minus=plus_minus_rounds * ROWS_PER_ROUND,
            basis=GapBasis.CLOCK if plus_minus_rounds else GapBasis.UNWRAPPED,
        )
