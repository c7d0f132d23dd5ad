"""What a Cyton's samples and arrivals say of it: channels at the rail or flat, how the link is.

Runs in: acquire process, pull thread; `status` is read by others.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.block import Marker, SampleBlock
from brainforge_edge.core.events import EventType
from brainforge_edge.core.stream import StreamInfo
from brainforge_edge.devices.base import LinkCounters, Notice

SYSFS = Path("/sys/class/tty")
SLOW_MS = 16  # the default of FTDI's driver: bytes wait this long for more
_RAIL = 2**23 - 1
_RAILED_PART = 0.1  # of a second
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
        self._bad: dict[str, set[int]] = {"rail": set(), "flat": set(), "lead_off": set()}
        self._n = 0
        self._lowest: NDArray[Any] | None = None
        self._highest: NDArray[Any] | None = None
        self._railed: NDArray[Any] | None = None
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
                self._add(block.data)

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
        self._compare("lead_off", (self._bad["lead_off"] - tested) | open_ones)

    def tell_span(self, marker: Marker) -> None:
        data = {
            "what": marker.description,
            "t_ns": str(marker.t_ns),
            "duration_s": f"{marker.duration_s:.3f}",
        }
        self._notices.append(Notice(EventType.QUALITY_ALERT, "", data))

    def _add(self, rows: NDArray[Any]) -> None:
        rows = rows[:, self._watched]
        railed = np.count_nonzero(np.abs(rows) >= _RAIL, axis=0)
        if self._lowest is None or self._highest is None or self._railed is None:
            self._lowest, self._highest, self._railed = rows.min(axis=0), rows.max(axis=0), railed
        else:
            self._lowest = np.minimum(self._lowest, rows.min(axis=0))
            self._highest = np.maximum(self._highest, rows.max(axis=0))
            self._railed = self._railed + railed
        self._n += len(rows)
        if self._n >= self._info.sfreq:
            at_rail = self._railed >= _RAILED_PART * self._n
            is_flat = (self._lowest == self._highest) & ~at_rail
            self._compare("rail", self._where(at_rail))
            self._compare("flat", self._where(is_flat))
            self._n, self._lowest = 0, None

    def _where(self, condition: NDArray[Any]) -> set[int]:
        return {self._watched[int(at)] for at in np.flatnonzero(condition)}

    def _compare(self, word: str, now: set[int]) -> None:
        before, self._bad[word] = self._bad[word], now
        for change, which in (("began", now - before), ("ended", before - now)):
            if which:
                names = ",".join(self._info.channels[at].name for at in sorted(which))
                data = {"what": word, "change": change, "n": str(len(which)), "channels": names}
                self._notices.append(Notice(EventType.QUALITY_ALERT, self._info.stream_id, data))


_REMEDY = "Install the udev rules that come with the package, then plug the dongle in again"
