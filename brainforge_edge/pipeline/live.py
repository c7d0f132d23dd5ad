"""One stream's live path: rows ≤ `written` → filter → decimate → message for the uplink.

Runs in: pipeline worker, one thread per stream. The waiting and the filtering hold no lock of the
interpreter.
"""

import socket
import threading
from collections import deque
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.block import BlockFlag
from brainforge_edge.core.clock import Clock
from brainforge_edge.core.config import PipelineConfig
from brainforge_edge.core.stream import StreamInfo
from brainforge_edge.core.wire import LiveHeader
from brainforge_edge.kernels.sos import SosFilter
from brainforge_edge.pipeline.outs import Outs
from brainforge_edge.rings.reader import RingReader, Rows
from brainforge_edge.signal.design import BandPass, designed

WAIT_S = 0.1
SLOW_HZ = 5.0  # slower streams are figures, not waves
MOST_ROWS = 2048
# A gap longer than this restarts the filter: what it remembers is no longer next to what follows.
RESTART_GAP_S = 1.0


def is_shown(info: StreamInfo) -> bool:
    """Whether a stream is a wave to look at: no raw bytes, no trigger words, not slower than `SLOW_HZ`."""
    if info.is_raw:
        return False
    return info.sfreq >= SLOW_HZ and any(channel.type != "stim" for channel in info.channels)


class LiveStream:
    """Thread body: call `run`. Figures for the heartbeat in `stats()`."""

    def __init__(
        self, ring: Path, config: PipelineConfig, *, out: socket.socket | Outs, clock: Clock
    ) -> None:
        self._reader = RingReader(ring)
        info = self._reader.info
        self._info = info
        self._clock = clock
        self._out = out
        self._step = max(1, round(info.sfreq / config.live_sfreq))
        sos = designed(BandPass(info.sfreq, config.l_freq, config.h_freq, config.notch))
        self._scale = np.array([c.scale for c in info.channels], dtype=np.float64)
        self._is_counted = info.dtype.is_integer
        scale = self._scale if self._is_counted else None
        self._filter = SosFilter(sos, info.n_channels, scale=scale)
        self._per_message = max(1, round(info.sfreq / config.live_hz))
        self._parts: list[NDArray[np.float32]] = []
        self._pending = 0  # rows at full rate since the last message
        self._phase = 0
        self._lags_ms: deque[float] = deque(maxlen=2000)
        self.sent = 0
        self.dropped = 0  # messages the uplink did not take in time
        self.stop = threading.Event()
        self.crashed: BaseException | None = None

    @property
    def is_replaced(self) -> bool:
        """The ring's name belongs to another ring now."""
        return self._reader.is_replaced

    def stats(self) -> dict[str, Any]:
        """`filtered_ms`: from the sample's time on the box clock to its filtered value."""
        lags = sorted(self._lags_ms)
        return {
            "sent": self.sent,
            "dropped": self.dropped,
            "overruns": self._reader.overruns,
            "position": self._reader.position,
            "filtered_p50_ms": round(lags[len(lags) // 2], 2) if lags else None,
            "filtered_p99_ms": round(lags[int(len(lags) * 0.99)], 2) if lags else None,
        }

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                if self._reader.wait(WAIT_S):
                    rows = self._reader.read(MOST_ROWS)
                    if rows is not None and len(rows.data):
                        self._take(rows)
        except Exception as error:  # noqa: BLE001  outermost loop: main ends the process
            self.crashed = error

    def _take(self, rows: Rows) -> None:
        for run in rows.runs:
            if run.flags & BlockFlag.FIRST or (
                run.gap is not None and run.gap.n > RESTART_GAP_S * self._info.sfreq
            ):
                self._filter.reset()
        filtered = np.empty((len(rows.data), self._info.n_channels), dtype=np.float32)
        self._filter.apply(self._input(rows.data), filtered)
        last = rows.runs[-1]
        t_last = last.t_first_ns + round((last.n - 1) * 1e9 / self._info.sfreq)
        self._lags_ms.append((self._clock.monotonic_ns() - t_last) / 1e6)
        kept = filtered[(-self._phase) % self._step :: self._step]
        self._phase = (self._phase + len(filtered)) % self._step
        self._parts.append(kept)
        self._pending += len(filtered)
        if self._pending >= self._per_message:
            self._send(last.incarnation, last.seq + last.n - 1, t_last)

    def _input(self, rows: NDArray[Any]) -> NDArray[Any]:
        """As the kernel takes it: int32 counts, or float32 in physical units."""
        if self._is_counted:
            return rows.astype(np.int32, copy=False)
        return np.ascontiguousarray(rows * self._scale, dtype=np.float32)

    def _send(self, incarnation: int, seq: int, t_last_ns: int) -> None:
        rows = np.concatenate(self._parts)
        self._parts = []
        self._pending = 0
        head = msgspec.msgpack.encode(
            LiveHeader(
                stream_id=self._info.stream_id,
                incarnation=incarnation,
                seq=seq,
                t_last_ns=t_last_ns,
                sent_ns=self._clock.monotonic_ns(),
                sfreq=self._info.sfreq / self._step,
                n_samples=len(rows),
                n_channels=self._info.n_channels,
            )
        )
        name = self._info.stream_id.encode()
        payload = b"".join(
            (bytes([len(name)]), name, len(head).to_bytes(2, "little"), head, rows.tobytes())
        )
        try:
            self._out.send(payload, socket.MSG_DONTWAIT)
            self.sent += 1
        except (BlockingIOError, ConnectionError):
            self.dropped += 1  # latest wins: the next message is fresher
