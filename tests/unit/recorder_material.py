"""Streams, rows and identities for the recorder's tests; every value is a function of its index."""

import random as random_module
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.block import BlockFlag, Gap
from brainforge_edge.core.clock import Anchor
from brainforge_edge.core.stream import ChannelInfo, Dtype, StreamInfo
from brainforge_edge.recorder.entry import Entry
from brainforge_edge.recorder.identity import Identity

NO_FLAGS = BlockFlag(0)
LOG_ID = bytes(range(16))
IDENTITY = Identity(
    recording="rec-1",
    node="node-1",
    log_id=LOG_ID,
    anchors=(Anchor("boot-1", 1_000_000_000, 1_800_000_000_000_000_000, 500),),
)


def seeded(seed: int = 1) -> Callable[[int], bytes]:
    return random_module.Random(seed).randbytes


def stream(
    name: str = "eeg", *, sfreq: float = 10.0, n_channels: int = 2, dtype: Dtype = Dtype.I24
) -> StreamInfo:
    """At 10 Hz the grid step is 80 rows."""
    return StreamInfo(
        stream_id=f"dev-{name}",
        device="dev",
        sfreq=sfreq,
        dtype=dtype,
        channels=tuple(
            ChannelInfo(name=f"C{i}", type="eeg", unit="V", scale=1e-6) for i in range(n_channels)
        ),
    )


def rows_of(info: StreamInfo, first: int, n: int) -> NDArray[Any]:
    """Row k, channel c holds (k * 7 + c * 1001) folded into the type."""
    index = np.arange(first, first + n)[:, None] * 7 + np.arange(info.n_channels)[None] * 1001
    span = {Dtype.I16: 2**15, Dtype.I24: 2**23}.get(info.dtype, 2**30)
    return (index % (2 * span) - span).astype(info.dtype.memory)


def packed(info: StreamInfo, first: int, n: int) -> bytes:
    rows = rows_of(info, first, n)
    if info.dtype is not Dtype.I24:
        return rows.tobytes()
    return rows.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()


def t_of(info: StreamInfo, seq: int) -> int:
    return 5_000_000_000 + round(seq * 1e9 / info.sfreq)


def entry(
    info: StreamInfo,
    seq: int,
    n: int,
    *,
    number: int = 1,
    incarnation: int = 1,
    flags: BlockFlag = NO_FLAGS,
    gap: Gap | None = None,
) -> Entry:
    if gap is not None:
        flags |= BlockFlag.GAP_BEFORE
    payload = packed(info, seq, n)
    return Entry(number, incarnation, seq, t_of(info, seq), n, flags, gap, payload)
