"""Streams that a BFP/1 device tells beside its samples: trigger words, residual fields. No I/O, no clock.

Trigger words come with the samples and have their indices. Residual fields come in STATUS frames, on
a grid of device time since boot: a frame that was lost is a gap, one that was sent for another
reason is not on the grid.
Runs in: acquire process, pull thread.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.block import BlockFlag, Gap, GapBasis, GapCause, SampleBlock
from brainforge_edge.core.clockfit import ClockFit
from brainforge_edge.core.stream import ChannelInfo, Dtype, StreamInfo

_PT = 1e-12
_EARLY = 8  # by this part of a period a frame may come before its time; it may be late by the rest
_OWN = ~(BlockFlag.SATURATED | BlockFlag.GAP_BEFORE)  # what a block shares with the one beside it


def trigger_info(samples: StreamInfo) -> StreamInfo:
    """`<device>-trig`: one channel, the words of `samples` as they came (u16)."""
    return StreamInfo(
        stream_id=f"{samples.device}-trig",
        device=samples.device,
        sfreq=samples.sfreq,
        dtype=Dtype.I24,  # the narrowest that holds a u16
        channels=(ChannelInfo("STIM", "stim", "1"),),
    )


def residual_info(samples: StreamInfo, period_ms: int) -> StreamInfo:
    """`<device>-residual`: the field at each sensor that coils did not take away, T."""
    return StreamInfo(
        stream_id=f"{samples.device}-residual",
        device=samples.device,
        sfreq=1000 / period_ms,
        dtype=Dtype.F32,
        channels=tuple(ChannelInfo(name, "misc", "T", _PT) for name in samples.ch_names),
    )


class Triggers:
    """The words of one stream."""

    def __init__(self, info: StreamInfo) -> None:
        self.info = info
        self._incarnation = -1
        self._next = 0

    def beside(self, samples: SampleBlock, words: NDArray[Any]) -> SampleBlock:
        """A block of uint16 `words` (n_samples,) for that of their samples."""
        gap = samples.gap
        flags = samples.flags & _OWN
        if samples.incarnation == self._incarnation:
            # Frames without words may lie between: what is missing is this stream's own.
            missing = samples.seq - self._next
            cause = gap.cause if gap is not None else GapCause.DEVICE
            gap = Gap(missing, 0, GapBasis.DEVICE_INDEX, cause) if missing else None
        elif self._incarnation < 0:
            flags |= BlockFlag.FIRST
            gap = None
        if gap is not None:
            flags |= BlockFlag.GAP_BEFORE
        self._incarnation = samples.incarnation
        self._next = samples.seq + len(words)
        return SampleBlock(
            self.info.stream_id,
            samples.incarnation,
            samples.seq,
            samples.t_first_ns,
            words.astype(np.int32)[:, None],
            flags,
            gap,
        )


class Residuals:
    """One row per STATUS frame of the grid; row k is that of device time k periods since boot."""

    def __init__(self, info: StreamInfo, *, clk_hz: float, flags: BlockFlag) -> None:
        self.info = info
        self._tick_ns = 1e9 / clk_hz
        self._period = clk_hz / info.sfreq  # ticks
        self._flags = flags
        self._boot = -1
        self._incarnation = -1
        self._next = 0

    @property
    def proof(self) -> str:
        """Names the count: it runs from boot, whatever the streams do."""
        period_ms = round(1000 / self.info.sfreq)
        return f"boot:{self._boot:04x}:status:{period_ms}"

    def row(
        self, fields_pt: tuple[float, ...], *, ticks: int, boot: int, fit: ClockFit
    ) -> SampleBlock | None:
        """The block of a frame of the grid; None for one that came before."""
        index = int((ticks + self._period / _EARLY) / self._period)
        flags = self._flags
        gap: Gap | None = None
        t_first = fit.to_box(round(index * self._period * self._tick_ns))
        if boot != self._boot:
            self._boot = boot
            self._incarnation += 1
            flags |= BlockFlag.FIRST
        elif index < self._next:
            return None
        elif index > self._next:
            gap = Gap(index - self._next, 0, GapBasis.DEVICE_INDEX, GapCause.LINK)
            flags |= BlockFlag.GAP_BEFORE
        if not fit.is_settled:
            flags |= BlockFlag.ESTIMATED_TIME
        self._next = index + 1
        rows = np.array([fields_pt], np.float32)
        return SampleBlock(self.info.stream_id, self._incarnation, index, t_first, rows, flags, gap)
