"""A ring that a test fills, and the features of its stream, computed when the test says so."""

import socket
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core import wire
from brainforge_edge.core.block import BlockFlag, Gap, SampleBlock
from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.config import PipelineConfig
from brainforge_edge.core.liveconfig import StreamTable
from brainforge_edge.core.stream import ChannelInfo, Dtype, StreamInfo
from brainforge_edge.pipeline.featurestream import FeatureStream
from brainforge_edge.pipeline.pacing import Pacing
from brainforge_edge.pipeline.plan import plan
from brainforge_edge.rings.ring import SampleRing
from brainforge_edge.signal.design import design

SFREQ = 250
UV = 1e-6


class HandClock(SystemClock):
    """Box time is what the test says."""

    now_ns = 0

    def monotonic_ns(self) -> int:
        return self.now_ns


def eeg(names: str = "F3 F4", *, sfreq: float = SFREQ, stream_id: str = "cap-eeg") -> StreamInfo:
    channels = tuple(ChannelInfo(name, "eeg", "V", UV) for name in names.split())
    return StreamInfo(stream_id, stream_id.partition("-")[0], sfreq, Dtype.F32, channels)


def table(**more: Any) -> PipelineConfig:
    """Rows pass as they are unless `more` says otherwise, so that a test knows what must come out."""
    plain = {"id": "cap-eeg", "live": "features", "l_freq": 0, "h_freq": 0, "notch": 0}
    return PipelineConfig(stream=(msgspec.convert({**plain, **more}, StreamTable),))


class Rig:
    """`config`: of `info`'s stream."""

    def __init__(
        self,
        folder: Path,
        info: StreamInfo,
        config: PipelineConfig,
        *,
        seconds: float = 20.0,
        motion: Path | None = None,
    ) -> None:
        self.info = info
        self.path = folder / f"{info.stream_id}.ring"
        self.ring = SampleRing.create(self.path, info, seconds=seconds)
        self.pacing = Pacing()
        self.clock = HandClock()
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self._ours.setblocking(False)
        wanted = plan(info, config)
        assert wanted is not None
        self.plan = wanted
        self.stream = FeatureStream(
            self.path,
            wanted,
            pacing=self.pacing,
            out=self._theirs if wanted.is_sent else None,
            clock=self.clock,
            motion_ring=lambda: motion,
            design=design,
        )
        self.stream.begin()
        self.seq = 0
        self.largest = 0  # bytes of a datagram
        self.incarnation = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.ring.close()
        self._ours.close()
        self._theirs.close()

    def time_ns(self, seq: int) -> int:
        return round(seq * 1e9 / self.info.sfreq)

    def push(self, rows: NDArray[Any], *, gap: Gap | None = None, first: bool = False) -> None:
        """Rows in counts, seen by readers at once; not computed with yet."""
        self.seq += gap.n if gap else 0
        flags = BlockFlag.GAP_BEFORE if gap else BlockFlag(0)
        flags |= BlockFlag.FIRST if first else BlockFlag(0)
        data = np.ascontiguousarray(rows, dtype=self.info.dtype.memory)
        t_ns = self.time_ns(self.seq)
        self.ring.push(
            SampleBlock(self.info.stream_id, self.incarnation, self.seq, t_ns, data, flags, gap)
        )
        self.seq += len(rows)
        self.ring.set_written(self.ring.head)

    def feed(
        self, rows: NDArray[Any], chunk: int = 25, most: int = 2048, **first: Any
    ) -> list[wire.Features]:
        """Push and compute chunk by chunk; the messages that came of it."""
        found: list[wire.Features] = []
        for start in range(0, len(rows), chunk):
            self.push(rows[start : start + chunk], **(first if start == 0 else {}))
            while self.stream.step(most):
                found += self.sent()
        return found + self.sent()

    def sent(self) -> list[wire.Features]:
        found: list[wire.Features] = []
        while True:
            try:
                datagram = self._ours.recv(1 << 20)
            except BlockingIOError:
                return found
            self.largest = max(self.largest, len(datagram))
            name, body = datagram[1 : 1 + datagram[0]], datagram[1 + datagram[0] :]
            assert name.decode() == self.info.stream_id
            assert body.startswith(wire.FEATURES)
            found.append(msgspec.msgpack.decode(body[len(wire.FEATURES) :], type=wire.Features))


def sines(seconds: float, *hz: float, sfreq: float = SFREQ, uv: float = 20.0) -> NDArray[Any]:
    """A column for each frequency, in µV, with a little noise."""
    t = np.arange(round(seconds * sfreq)) / sfreq
    rng = np.random.default_rng(5)
    rows = uv * np.sin(2 * np.pi * np.outer(t, hz) + 0.3)
    noisy: NDArray[np.float32] = (rows + 0.1 * rng.standard_normal(rows.shape)).astype(np.float32)
    return noisy
