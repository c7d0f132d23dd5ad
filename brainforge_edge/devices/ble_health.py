"""What a Bluetooth device and its radio tell of themselves: figures for people, and notices.

`status` has, as far as the device knows: `battery_percent`, `temperature_c`, `rssi_dbm` (as heard
before the connection: BlueZ gives none while connected), `adapter`, `address`, `mtu`, `arrivals_ms`
(how late packets were against the quickest ones, for each stream), `loss_percent`, `restarts` (starts after
a silence), `channels` (troubles, for each stream of electrodes).
Runs in: acquire process, pull thread; `status` is read by others.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from brainforge_edge.core.block import SampleBlock
from brainforge_edge.core.events import EventType
from brainforge_edge.core.stream import StreamInfo
from brainforge_edge.devices.base import Notice
from brainforge_edge.devices.channel_quality import ChannelQuality
from brainforge_edge.devices.gatt import Found
from brainforge_edge.devices.rows import Rows

BATTERY_LOW, BATTERY_AGAIN = 15.0, 20.0  # percent: told below the one, over above the other
_EACH_NS = 1_000_000_000


class BleHealth:
    """One connection."""

    def __init__(self) -> None:
        self.status: dict[str, Any] = {}
        self._notices: list[Notice] = []
        self._quality: dict[str, ChannelQuality] = {}
        self._is_low = False
        self._due_ns = 0

    def connected(self, found: Found, mtu: int | None) -> None:
        figures = {"rssi_dbm": found.rssi, "adapter": found.adapter, "address": found.address}
        self.note(figures | ({"mtu": mtu} if mtu else {}))

    def watch(self, info: StreamInfo, rails: tuple[int, int]) -> None:
        """Judge the channels of this stream."""
        self._quality[info.stream_id] = ChannelQuality(info, rails=rails)

    def note(self, figures: Mapping[str, Any]) -> None:
        """Add figures to `status`; a battery that is low is told once."""
        self.status = {**self.status, **figures}
        percent = figures.get("battery_percent")
        if percent is None:
            return
        if percent < BATTERY_LOW and not self._is_low:
            self._tell_battery(percent, "began", "charge the device, or it will switch itself off")
        elif percent > BATTERY_AGAIN and self._is_low:
            self._tell_battery(percent, "ended", "it is charged again")

    def restarted(self, restarts: int) -> None:
        """It was silent and is told to start again."""
        self.note({"restarts": restarts})
        why = "it sent nothing any more; it is told to start again on the same connection"
        data = {"state": "restarted", "why": why}
        self._notices.append(Notice(EventType.DEVICE_STATE_CHANGED, "", data))

    def take(
        self,
        blocks: Sequence[SampleBlock],
        now_ns: int,
        *,
        rows: Sequence[Rows],
        said: Mapping[str, Any],
    ) -> None:
        """After each read: judge channels; once a second also look at the figures. `said`: by the device."""
        for block in blocks:
            quality = self._quality.get(block.stream_id)
            if quality is not None:
                self._notices += quality.take((block,))
        if now_ns < self._due_ns:
            return
        self._due_ns = now_ns + _EACH_NS
        came = sum(each.received for each in rows)
        lost = sum(each.lost for each in rows)
        figures: dict[str, Any] = {
            **said,
            "arrivals_ms": {
                each.info.stream_id: lateness for each in rows if (lateness := each.lateness_ms)
            },
            "loss_percent": round(100 * lost / max(1, came + lost), 3),
            "channels": {key: each.counted for key, each in self._quality.items() if each.counted},
        }
        self.note(figures)

    def take_notices(self) -> list[Notice]:
        """Since the last call."""
        notices, self._notices = self._notices, []
        return notices

    def _tell_battery(self, percent: float, change: str, why: str) -> None:
        self._is_low = change == "began"
        data = {"what": "battery_low", "change": change, "percent": f"{percent:.0f}", "why": why}
        self._notices.append(Notice(EventType.QUALITY_ALERT, "", data))
