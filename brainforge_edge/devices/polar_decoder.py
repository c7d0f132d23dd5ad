"""Polar H10 notifications into rows (docs/devices/polar_h10.md). No I/O, no clock of its own.

There is no packet counter: each notification says when its last sample was taken on the strap's own
clock, in ns. The clock's steps divided by a packet's length tell how many were lost.
Runs in: acquire process, pull thread.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.block import GapBasis, SampleBlock
from brainforge_edge.core.clockfit import ClockState
from brainforge_edge.core.stream import ChannelInfo, Dtype, StreamInfo
from brainforge_edge.devices.base import LinkCounters
from brainforge_edge.devices.gatt import Packet
from brainforge_edge.devices.rows import Rows, clock_of

DATA = "fb005c82-02e7-f387-1cad-8acd2d8df0c8"
HEART_RATE = "00002a37-0000-1000-8000-00805f9b34fb"
BATTERY = "00002a19-0000-1000-8000-00805f9b34fb"
ECG, ACC = 0, 2  # measurement types
ECG_SFREQ = 130.0
_HEAD = 10
_RATE_ERROR = 0.03  # straps are up to 2 % off
_EXACT = 0.1  # packets: a gap this near to a whole number of them is one
_MEASURED = 16  # notifications that a strap's rate is the mean of
_FARTHEST_NS = 3_600_000_000_000  # further on, the strap's clock was set
_HR_WIDE, _HR_CONTACT, _HR_KNOWS_CONTACT, _HR_ENERGY, _HR_RR = 1, 2, 4, 8, 16


class _Kind(NamedTuple):
    suffix: str
    frame_type: int
    width: int  # bytes of a number
    n_channels: int


_KINDS = {ECG: _Kind("ecg", 0, 3, 1), ACC: _Kind("acc", 1, 2, 3)}


def streams(device: str, acc_hz: int) -> dict[int, StreamInfo]:
    """Measurement type → stream; without the accelerometer if `acc_hz` is 0."""
    ecg = (ChannelInfo("ECG", "ecg", "V", 1e-6),)
    found = {ECG: StreamInfo(f"{device}-ecg", device, ECG_SFREQ, Dtype.I24, ecg)}
    if acc_hz:
        scale = 9.80665e-3  # counts are thousandths of g
        axes = tuple(ChannelInfo(f"ACC_{axis}", "misc", "m/s^2", scale) for axis in "XYZ")
        found[ACC] = StreamInfo(f"{device}-acc", device, float(acc_hz), Dtype.I16, axes)
    return found


def heart_rate(data: bytes) -> dict[str, Any] | None:
    """What characteristic 2A37 says (Heart Rate Service 1.0): figures, None if it is too short."""
    if len(data) < 2:
        return None
    flags, wide = data[0], data[0] & _HR_WIDE
    at = 3 if wide else 2
    if len(data) < at:
        return None
    said: dict[str, Any] = {"heart_rate_bpm": int.from_bytes(data[1:at], "little")}
    if flags & _HR_KNOWS_CONTACT:
        said["has_contact"] = bool(flags & _HR_CONTACT)
    at += 2 if flags & _HR_ENERGY else 0
    if flags & _HR_RR and len(data) >= at + 2:
        said["rr_ms"] = round(int.from_bytes(data[-2:], "little") * 1000 / 1024)
    return said


class PolarDecoder:
    """One strap. `telemetry` holds what it said last of the heart and its battery."""

    def __init__(
        self, infos: dict[int, StreamInfo], counters: LinkCounters, *, bias_ns: int = 0
    ) -> None:
        self.counters = counters
        self.telemetry: dict[str, Any] = {}
        self._streams = {
            kind: _Stream(Rows(info, counters, bias_ns=bias_ns), counters)
            for kind, info in infos.items()
        }

    @property
    def rows(self) -> list[Rows]:
        return [stream.rows for stream in self._streams.values()]

    def clock(self, stream_id: str) -> ClockState | None:
        return clock_of(self.rows, stream_id)

    def restart(self) -> None:
        """The strap is told to start anew."""
        for stream in self._streams.values():
            stream.restart()

    def feed(self, packet: Packet) -> list[SampleBlock]:
        """The block of this notification; what does not fit is counted."""
        data = packet.data
        self.counters.bytes_read += len(data)
        if packet.characteristic == HEART_RATE:
            return self._note(heart_rate(data))
        if packet.characteristic == BATTERY:
            return self._note({"battery_percent": float(data[0])} if data else None)
        kind = _KINDS.get(data[0]) if len(data) > _HEAD else None
        stream = self._streams.get(data[0]) if kind is not None else None
        if kind is None or stream is None or data[9] != kind.frame_type:
            self.counters.wrong_schema += 1
            return []
        samples, rest = divmod(len(data) - _HEAD, kind.width * kind.n_channels)
        if rest or not samples:
            self.counters.wrong_schema += 1  # cut off on the way, or over too small an MTU
            return []
        self.counters.frames += 1
        rows = _numbers(data[_HEAD:], kind.width).reshape(samples, kind.n_channels)
        return stream.put(int.from_bytes(data[1:9], "little"), rows, packet.arrived_ns)

    def _note(self, said: dict[str, Any] | None) -> list[SampleBlock]:
        if said is None:
            self.counters.wrong_schema += 1
        else:
            self.counters.frames += 1
            self.telemetry = {**self.telemetry, **said}
        return []


def _numbers(body: bytes, width: int) -> NDArray[Any]:
    """Signed numbers of 2 or 3 bytes, little-endian: int32 (n,)."""
    octets = np.frombuffer(body, np.uint8).reshape(-1, width).astype(np.int32)
    high = sum(octets[:, at] << (8 * (at + 4 - width)) for at in range(width))
    return np.asarray(high, np.int32) >> (8 * (4 - width))


class _Stream:
    """Places notifications by the strap's clock."""

    def __init__(self, rows: Rows, counters: LinkCounters) -> None:
        self.rows = rows
        self._counters = counters
        self._nominal_ns = 1e9 / rows.info.sfreq
        self._period_ns = self._nominal_ns  # as measured between whole notifications
        self._whole = 0  # notifications that it rests on
        self._last_ns: int | None = None

    def restart(self) -> None:
        self._last_ns = None
        self.rows.restart()

    def put(self, last_ns: int, samples: NDArray[Any], arrived_ns: int) -> list[SampleBlock]:
        n = len(samples)
        since = last_ns - self._last_ns if self._last_ns is not None else 0
        if self._last_ns is not None and not -_FARTHEST_NS < since < _FARTHEST_NS:
            self._counters.restarts += 1
            self.restart()
        elif self._last_ns is not None and since <= 0:
            self._counters.repeated_frames += 1
            return []
        missing, unsure = 0, 0
        if self._last_ns is not None:
            missing, unsure = self._missing(since, n)
        self._last_ns = last_ns
        block = self.rows.add(
            self.rows.next_row + missing,
            samples,
            arrived_ns,
            plus_minus=unsure,
            basis=GapBasis.CLOCK if unsure else GapBasis.UNWRAPPED,
            device=(last_ns, self._period_ns),
        )
        return [block]

    def _missing(self, since_ns: int, n: int) -> tuple[int, int]:
        """(samples lost before a notification of `n`, give or take so many)."""
        if abs(since_ns / (n * self._nominal_ns) - 1) < _RATE_ERROR:
            self._whole = min(_MEASURED, self._whole + 1)
            self._period_ns += ((since_ns / n) - self._period_ns) / self._whole
            return 0, 0
        packets = since_ns / (n * self._period_ns)
        if round(packets) >= 1 and abs(packets - round(packets)) < _EXACT:
            return (round(packets) - 1) * n, 0
        return max(0, round(since_ns / self._period_ns) - n), n
