"""NeuroSky headsets with a ThinkGear chip over Bluetooth's serial port (docs/devices/serial.md).

Protocol: NeuroSky's "ThinkGear Serial Stream Guide". Quirks: samples have no counter: what damage on
the way cost is only known by its bytes.
Runs in: acquire process, pull thread; `close` also from others.
"""

from typing import Annotated, Any

import msgspec
import numpy as np

from brainforge_edge.core.block import GapBasis, Marker, SampleBlock
from brainforge_edge.core.clock import Clock
from brainforge_edge.core.config import check_serial_port
from brainforge_edge.core.events import EventType
from brainforge_edge.core.stream import ChannelInfo, Dtype, StreamInfo
from brainforge_edge.devices.base import LinkCounters, Notice, Transport
from brainforge_edge.devices.rows import Rows
from brainforge_edge.devices.selfstarting import SelfStartingDriver

SFREQ = 512.0
SCALE_V = 1.8 / 4096 / 2000  # 1.8 V in 12 bits behind a gain of 2000
RAIL = 32_767
SYNC = 0xAA
MOST_PAYLOAD = 169
RAW_BYTES = 8  # of a packet with a sample
OFF_THE_SKIN = 200
_EXTENDED = 0x55
_POOR, _ATTENTION, _MEDITATION, _BLINK, _RAW, _BANDS = 0x02, 0x04, 0x05, 0x16, 0x80, 0x83
_NAMES = {_POOR: "poor_signal", _ATTENTION: "attention", _MEDITATION: "meditation"}
BANDS = (
    "delta",
    "theta",
    "low_alpha",
    "high_alpha",
    "low_beta",
    "high_beta",
    "low_gamma",
    "mid_gamma",
)
Seconds = Annotated[float, msgspec.Meta(ge=0.1, le=3600)]


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[device.settings]` of kind "neurosky"."""

    port: Annotated[str, msgspec.Meta(min_length=1)]  # /dev/rfcomm0 …
    baud: Annotated[int, msgspec.Meta(ge=50, le=12_000_000)] = 57_600
    silent_s: Seconds = 2.0  # without samples for this long the link is made anew
    answer_s: Seconds = 3.0


def make_driver(config: Config, *, device: str, clock: Clock) -> SelfStartingDriver:
    check_serial_port(config.port, device)
    info = stream(device)

    def open_transport() -> Transport:
        from brainforge_edge.devices.transport import open_serial  # noqa: PLC0415  pyserial on use

        return open_serial(config.port, baud=config.baud)

    return SelfStartingDriver(
        config,
        noun="NeuroSky headset",
        device=device,
        clock=clock,
        open_transport=open_transport,
        make_decoder=lambda counters: ThinkGearDecoder(info, counters),
        rails=(-RAIL - 1, RAIL),
    )


def stream(device: str) -> StreamInfo:
    channel = ChannelInfo("EEG1", "eeg", "V", SCALE_V)
    return StreamInfo(f"{device}-eeg", device, SFREQ, Dtype.I16, (channel,))


class ThinkGearDecoder:
    """Samples are int16 counts (n, 1), numbered as they come, with gaps where bytes were damaged."""

    def __init__(self, info: StreamInfo, counters: LinkCounters) -> None:
        self.counters = counters
        self.rows = Rows(info, counters, rails=(-RAIL - 1, RAIL))
        self._buffer = b""
        self._skipped = 0  # bytes since the last packet that counts
        self._run: list[int] = []
        self._lost = 0  # samples before the run
        self._has_begun = False
        self._said: dict[str, Any] = {}
        self._blinks: list[int] = []
        self._markers: list[Marker] = []
        self._notices: list[Notice] = []

    def feed(self, data: bytes, arrived_ns: int) -> list[SampleBlock]:
        self.counters.bytes_read += len(data)
        held = self._buffer + data
        at = 0
        blocks: list[SampleBlock] = []
        while (size := _packet(held, at)) is not None:
            if size == 0:
                at += 1
                self._skipped += 1
                self.counters.skipped_bytes += 1
                continue
            if self._skipped:
                blocks += self._flush(arrived_ns)
                self._damaged()
            self.counters.frames += 1
            self._take(held[at + 3 : at + size - 1])
            at += size
        self._buffer = held[at:]
        blocks += self._flush(arrived_ns)
        self._markers += [Marker(arrived_ns, 0.0, f"blink {strength}") for strength in self._blinks]
        self._blinks.clear()
        return blocks

    def said(self) -> dict[str, Any]:
        return dict(self._said)

    def markers(self) -> list[Marker]:
        markers, self._markers = self._markers, []
        return markers

    def notices(self) -> list[Notice]:
        notices, self._notices = self._notices, []
        return notices

    def _damaged(self) -> None:
        """Bytes that made no packet: as many samples as would have filled them, at least one."""
        self.counters.resyncs += 1
        if self._has_begun:
            self._lost = max(1, round(self._skipped / RAW_BYTES))
        self._skipped = 0

    def _flush(self, arrived_ns: int) -> list[SampleBlock]:
        if not self._run:
            return []
        rows = np.array(self._run, dtype=np.int16)[:, None]
        first, lost = self.rows.next_row + self._lost, self._lost
        self._run, self._lost, self._has_begun = [], 0, True
        return [self.rows.add(first, rows, arrived_ns, plus_minus=lost, basis=GapBasis.CLOCK)]

    def _take(self, payload: bytes) -> None:
        """Rows of code, length where the code is above 7F, value; unknown ones are left out."""
        at = 0
        while at < len(payload):
            is_extended = False
            while at < len(payload) and payload[at] == _EXTENDED:
                is_extended = True
                at += 1
            if at >= len(payload):
                break
            code, at = payload[at], at + 1
            size = 1
            if code > 0x7F:
                size = payload[at] if at < len(payload) else 0
                at += 1
            value = payload[at : at + size]
            at += size
            if is_extended or len(value) != size:
                self.counters.unparsed_bytes += len(value)
            else:
                self._row(code, value)

    def _row(self, code: int, value: bytes) -> None:
        if code == _RAW and len(value) == 2:
            self._run.append(int.from_bytes(value, "big", signed=True))
        elif code in _NAMES:
            if code == _POOR:
                self._compare(value[0])
            self._said[_NAMES[code]] = value[0]
        elif code == _BLINK:
            self._blinks.append(value[0])
        elif code == _BANDS and len(value) == 3 * len(BANDS):
            powers = [int.from_bytes(value[n : n + 3], "big") for n in range(0, len(value), 3)]
            self._said["bands"] = dict(zip(BANDS, powers, strict=True))
        else:
            self.counters.unparsed_bytes += len(value)

    def _compare(self, poor: int) -> None:
        was, now = self._said.get("poor_signal", 0) == OFF_THE_SKIN, poor == OFF_THE_SKIN
        if was != now:
            data = {
                "what": "lead_off",
                "change": "began" if now else "ended",
                "n": "1",
                "channels": "EEG1",
                "why": "the headset says that its electrode has no contact with the skin",
            }
            self._notices.append(Notice(EventType.QUALITY_ALERT, self.rows.info.stream_id, data))


def _packet(held: bytes, at: int) -> int | None:
    """Bytes of the packet that begins here, 0 for none, None while more bytes could make one."""
    left = len(held) - at
    if left and held[at] != SYNC:
        return 0
    if left < 3:
        return 0 if left == 2 and held[at + 1] != SYNC else None
    if held[at + 1] != SYNC or held[at + 2] > MOST_PAYLOAD:
        return 0
    size = held[at + 2] + 4
    if left < size:
        return None
    payload = held[at + 3 : at + size - 1]
    return size if (~sum(payload)) & 0xFF == held[at + size - 1] else 0
