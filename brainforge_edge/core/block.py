"""Samples in memory. Runs in: any process that imports numpy."""

from dataclasses import dataclass
from enum import IntFlag, StrEnum
from typing import Any, Final

import msgspec
from numpy.typing import NDArray


class BlockFlag(IntFlag):
    """What is true of a block, or of the row it starts with."""

    GAP_BEFORE = 1
    CLOCK_STEP = 2
    SATURATED = 4
    ESTIMATED_TIME = 8
    EMULATED = 16
    FIRST = 32  # first row of an incarnation


# Looked up where blocks are made: calling an enumeration, or its `|`, costs more than a block.
BLOCK_FLAGS: Final = tuple(BlockFlag(value) for value in range(2 * max(BlockFlag)))


class GapBasis(StrEnum):
    """What the size of a gap rests on; only `device_index` is exact."""

    DEVICE_INDEX = "device_index"
    UNWRAPPED = "unwrapped"
    CLOCK = "clock"


GAP_BASIS_CODES: dict[GapBasis, int] = {
    GapBasis.DEVICE_INDEX: 1,
    GapBasis.UNWRAPPED: 2,
    GapBasis.CLOCK: 3,
}
GAP_BASES: dict[int, GapBasis] = {code: basis for basis, code in GAP_BASIS_CODES.items()}


class GapCause(StrEnum):
    """Who lost the samples, as far as the device or the box can tell."""

    LINK = "link"  # lost between device and box
    DEVICE = "device"  # the device says it dropped them (its FIFO was full)
    BOX = "box"  # the box's own ring was full
    RESTART = "restart"  # the device's counter restarted


GAP_CAUSE_CODES: dict[GapCause, int] = {
    GapCause.LINK: 1,
    GapCause.DEVICE: 2,
    GapCause.BOX: 3,
    GapCause.RESTART: 4,
}
GAP_CAUSES: dict[int, GapCause] = {code: cause for cause, code in GAP_CAUSE_CODES.items()}


class Gap(msgspec.Struct, frozen=True):
    """`n` samples are missing before a block, give or take `plus_minus`."""

    n: int
    plus_minus: int
    basis: GapBasis
    cause: GapCause = GapCause.LINK


class SampleBlock(msgspec.Struct, frozen=True, eq=False):
    """Consecutive samples of one stream. A Struct: a frozen dataclass takes seven times as long to make."""

    stream_id: str
    incarnation: int  # +1 whenever the device's counter restarts; numbered from 0 by the driver
    seq: int  # absolute index of the first sample, lost samples included
    t_first_ns: int  # box clock (CLOCK_MONOTONIC) of the first sample, estimated
    data: NDArray[Any]  # (n_samples, n_channels), C order, native dtype
    flags: BlockFlag = BlockFlag(0)
    gap: Gap | None = None  # set if and only if GAP_BEFORE is


@dataclass(frozen=True, slots=True)
class Marker:
    """Something that happened at an instant or over a stretch."""

    t_ns: int  # box clock
    duration_s: float
    description: str
