"""Send-on-delta: a channel is told of when it has moved, not when a clock says so.

Runs in: pipeline worker, one instance per stream. (Miskowicz, Sensors 6, 2006.)
"""

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from brainforge_edge.kernels.delta import SendOnDelta

_ROOM: Final = 4096  # events of one call of the kernel; never fewer than there are channels


class Moves(msgspec.Struct, frozen=True, eq=False):
    """Events in the order of rows, then channels; arrays of one length."""

    index: NDArray[np.int64]  # rows since the start or the gap
    channel: NDArray[np.int32]
    direction: NDArray[np.int8]  # 1 up, -1 down, 0: the channel's first value
    value: NDArray[np.float32]  # the row's own, to the bit

    def __len__(self) -> int:
        return len(self.index)

    def held(self, n_samples: int, n_channels: int) -> NDArray[np.float32]:
        """Rows 0 to n_samples as a receiver holds them: each channel's newest value, NaN before its first."""
        rows = np.full((n_samples, n_channels), np.nan, np.float32)
        for channel in range(n_channels):
            mine = self.channel == channel
            at, value = self.index[mine], self.value[mine]
            newest = np.searchsorted(at, np.arange(n_samples), side="right") - 1
            is_known = newest >= 0
            rows[is_known, channel] = value[newest[is_known]]
        return rows


class Trigger:
    """`thresholds`: one a channel, in the rows' unit. Chunks of any size give the same events.

    Without `refractory` what a receiver holds is never further away than the threshold. With it a
    channel is silent for so many rows after each event, and may be further away meanwhile.
    """

    def __init__(
        self, thresholds: NDArray[np.floating] | list[float], *, refractory: int = 0
    ) -> None:
        """ValueError: a threshold that is not finite or below 0."""
        self._kernel = SendOnDelta(np.ascontiguousarray(thresholds, np.float64), refractory)
        self.n_channels = len(thresholds)

    def push(self, rows: NDArray[np.floating]) -> Moves:
        """Events of rows (n, n_channels); values that are not finite are passed over. ValueError: another shape."""
        rows = np.ascontiguousarray(rows, np.float32)
        if rows.ndim != 2 or rows.shape[1] != self.n_channels:
            msg = f"rows of shape {rows.shape}, not (n, {self.n_channels})"
            raise ValueError(msg)
        parts = []
        while True:
            room = max(self.n_channels, min(_ROOM, rows.size))
            part = Moves(
                np.empty(room, np.int64),
                np.empty(room, np.int32),
                np.empty(room, np.int8),
                np.empty(room, np.float32),
            )
            done, n = self._kernel.push(rows, part.index, part.channel, part.direction, part.value)
            parts.append(_first(part, n))
            rows = rows[done:]
            if not len(rows):
                return _joined(parts)

    def gap(self) -> None:
        """Rows are missing: each channel's next value is a first one, rows count from 0."""
        self._kernel.reset()


def _first(part: Moves, n: int) -> Moves:
    return Moves(part.index[:n], part.channel[:n], part.direction[:n], part.value[:n])


def _joined(parts: list[Moves]) -> Moves:
    return Moves(
        np.concatenate([part.index for part in parts]),
        np.concatenate([part.channel for part in parts]),
        np.concatenate([part.direction for part in parts]),
        np.concatenate([part.value for part in parts]),
    )
