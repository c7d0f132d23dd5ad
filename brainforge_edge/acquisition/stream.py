"""One stream of the device inside the acquire process: its ring and what the threads know of it.

Runs in: acquire process. Written by: pull thread (`push` and what it updates), the recording's
threads (cursors); read by main for the heartbeat.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brainforge_edge.acquisition.continuity import Continuity
from brainforge_edge.core.clockfit import ClockState
from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.stream import StreamInfo
from brainforge_edge.rings.ring import SampleRing


@dataclass(slots=True, eq=False)
class AcquiredStream:
    """A ring, the stream's number in the log, and its counters."""

    info: StreamInfo
    number: int
    ring: SampleRing
    continuity: Continuity
    path: Path
    gaps: int = 0
    gap_samples: int = 0
    overlaps: int = 0  # rows that the device sent twice, dropped
    box_drops: int = 0  # rows dropped because the ring was full
    archived_row: int = 0
    segment_bytes: int = 0
    last_push_ns: int = 0
    begins_ns: int | None = None  # of a recording that has no row of it yet
    clock: ClockState | None = None  # how the newest rows got their times
    clock_due_ns: int = 0  # when it is asked again

    def stats(self, now_ns: int) -> dict[str, Any]:
        """For the heartbeat; figures only."""
        ring = self.ring
        head, written, durable = ring.head, ring.written, ring.durable
        recording_row = ring.recording_row
        is_open = recording_row is not None
        age_ms = 0.0
        if is_open and durable < head:
            age_ms = self._age_ms(durable, now_ns)
        return {
            "sfreq": self.info.sfreq,
            "n_channels": self.info.n_channels,
            "head": head,
            "written": written,
            "durable": durable,
            "durable_age_ms": round(age_ms, 1),
            "recorded": max(0, durable - recording_row) if recording_row is not None else 0,
            "archived_rows": self.archived_row,
            "log_bytes": self.segment_bytes,
            "gaps": self.gaps,
            "gap_samples": self.gap_samples,
            "overlaps": self.overlaps,
            "box_drops": self.box_drops,
            "drift_ppm": self.clock.drift_ppm if self.clock else None,
            "data_age_ms": round((now_ns - self.last_push_ns) / 1e6, 1)
            if self.last_push_ns
            else None,
        }

    def _age_ms(self, row: int, now_ns: int) -> float:
        try:
            return max(0.0, (now_ns - self.ring.runs(row, row + 1)[0].t_first_ns) / 1e6)
        except StorageError:  # a disk that stalls for longer than the ring: the row left it
            return (self.ring.head - row) / self.info.sfreq * 1e3
