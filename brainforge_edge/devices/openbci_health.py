"""What a Cyton's samples and arrivals say of it: channels at the rail or flat, how the link is.

Runs in: acquire process, pull thread; `status` is read by others.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from brainforge_edge.core.block import Marker, SampleBlock
from brainforge_edge.core.events import EventType
from brainforge_edge.core.stream import StreamInfo
from brainforge_edge.devices.base import LinkCounters, Notice
from brainforge_edge.devices.channel_quality import ChannelQuality

SYSFS = Path("/sys/class/tty")
SLOW_MS = 16  # the default of FTDI's driver: bytes wait this long for more
_RAIL = 2**23 - 1
_TOLD_NS = 1_000_000_000


def latency_timer_ms(port: str, sysfs: Path = SYSFS) -> int | None:
    """Of an FTDI adapter; None for ports that have no such timer."""
    try:
        name = Path(port).resolve(strict=True).name
        return int((sysfs / name / "device" / "latency_timer").read_text())
    except (OSError, ValueError):
        return None


class Health:
    """`watched`: the columns of channels that are switched on."""

    def __init__(
        self,
        info: StreamInfo,
        watched: Sequence[int],
        counters: LinkCounters,
        *,
        latency_ms: int | None,
        facts: Mapping[str, Any],
    ) -> None:
        self.status: dict[str, Any] = dict(facts)
        self._info = info
        self._watched = list(watched)
        self._counters = counters
        self._notices: list[Notice] = []
        self._results: deque[tuple[dict[str, Any], int | None]] = deque()
        self._open_ones: set[int] = set()
        own = tuple(info.channels[at] for at in self._watched)
        self._quality = ChannelQuality(
            msgspec.structs.replace(info, channels=own), rails=(-_RAIL, _RAIL)
        )
        self._late_ns: list[int] = []
        self._told_ns = 0
        if latency_ms is not None:
            self.status["latency_timer_ms"] = latency_ms
            if latency_ms >= SLOW_MS:
                data = {"what": "latency_timer", "ms": str(latency_ms), "remedy": _REMEDY}
                self._notices.append(Notice(EventType.QUALITY_ALERT, "", data))

    def take(self) -> list[Notice]:
        """Notices since the last call."""
        while self._results:
            self._judge(*self._results.popleft())
        if not self._notices:
            return self._notices
        notices, self._notices = self._notices, []
        return notices

    def see(self, blocks: Sequence[SampleBlock]) -> None:
        """Samples that are a measurement; a second of them is judged at once."""
        for block in blocks:
            if block.stream_id == self._info.stream_id:
                watched = msgspec.structs.replace(block, data=block.data[:, self._watched])
                self._notices += self._quality.take((watched,))

    def arrived(self, late_ns: int, now_ns: int) -> None:
        """How late the newest packet was; figures once a second."""
        self._late_ns.append(late_ns)
        if now_ns - self._told_ns < _TOLD_NS:
            return
        self._told_ns = now_ns
        late = np.array(self._late_ns) / 1e6
        self._late_ns = []
        self.note(
            packets=self._counters.frames,
            lost_packets=self._counters.lost_frames,
            jitter_ms=round(float(late.std()), 3),
            channels=self._quality.counted,
            latest_ms=round(float(late.max()), 3),
        )

    def note(self, **figures: Any) -> None:
        self.status = {**self.status, **figures}

    def measured(self, values: dict[str, Any], utc_ns: int | None) -> None:
        """The result of an impedance test, by another thread than all else here."""
        self._results.append((values, utc_ns))

    def _judge(self, values: dict[str, Any], utc_ns: int | None) -> None:
        """An electrode that hangs open is a quality alert."""
        self.note(**values, impedance_utc_s=None if utc_ns is None else utc_ns // 1_000_000_000)
        names = self._info.ch_names
        tested = {names.index(name) for name in values["contact"]}
        open_ones = {
            names.index(name) for name, word in values["contact"].items() if word == "open"
        }
        before, self._open_ones = self._open_ones, (self._open_ones - tested) | open_ones
        for change, which in (
            ("began", self._open_ones - before),
            ("ended", before - self._open_ones),
        ):
            if which:
                data = {
                    "what": "electrode_open",
                    "change": change,
                    "n": str(len(which)),
                    "channels": ",".join(names[at] for at in sorted(which)),
                }
                self._notices.append(Notice(EventType.QUALITY_ALERT, self._info.stream_id, data))

    def tell_span(self, marker: Marker) -> None:
        data = {
            "what": marker.description,
            "t_ns": str(marker.t_ns),
            "duration_s": f"{marker.duration_s:.3f}",
        }
        self._notices.append(Notice(EventType.QUALITY_ALERT, "", data))


_REMEDY = "Install the udev rules that come with the package, then plug the dongle in again"
