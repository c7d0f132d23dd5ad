"""Classic Muse notifications into rows (docs/devices/muse.md). No I/O, no clock of its own.

Each characteristic counts its packets with 16 bits; the EEG channels of one instant share a number
and come in any order, each channel's own in theirs. An instant is left out once each channel that is
missing has sent a later one, or after a second.
Runs in: acquire process, pull thread.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.block import GapBasis, SampleBlock
from brainforge_edge.core.clockfit import ClockState
from brainforge_edge.core.stream import ChannelInfo, Dtype, StreamInfo
from brainforge_edge.devices.base import LinkCounters
from brainforge_edge.devices.gatt import Packet
from brainforge_edge.devices.packet_index import PacketIndex
from brainforge_edge.devices.rows import Rows, clock_of

PACKET_BYTES = 20
EEG_SFREQ, MOTION_SFREQ, PPG_SFREQ = 256.0, 52.0, 64.0
RAILS = (0, 4095)
G = 9.80665  # m/s²
_WRAP = 65_536
_WAIT_NS = 1_000_000_000  # D-Bus on a busy box brings channels of an instant so far apart
_MOST_PENDING = 64  # instants
_EEG_V = 0.48828125e-6  # 125/256 µV a count
_ACC_G = 1 / 16_384
_GYRO_DEG = 0.0074768


def uuid(number: int) -> str:
    return f"273e{number:04x}-4c4d-454d-96be-f03bac821358"


CONTROL, TELEMETRY = uuid(0x0001), uuid(0x000B)
EEG = {"TP9": uuid(3), "AF7": uuid(4), "AF8": uuid(5), "TP10": uuid(6)}
AUX = uuid(7)
GYRO, ACC = uuid(9), uuid(0x0A)
PPG = {"ambient": uuid(0x0F), "infrared": uuid(0x10), "red": uuid(0x11)}


def motion_channels(gyro_sign: int = 1) -> dict[str, tuple[ChannelInfo, ...]]:
    """Channels of the streams `acc` and `gyro`, in SI units; the same for both generations."""
    radians = float(np.deg2rad(_GYRO_DEG)) * gyro_sign
    return {
        "acc": tuple(ChannelInfo(f"ACC_{a}", "misc", "m/s^2", _ACC_G * G) for a in "XYZ"),
        "gyro": tuple(ChannelInfo(f"GYRO_{a}", "misc", "rad/s", radians) for a in "XYZ"),
    }


def streams(device: str, *, aux: bool, ppg: tuple[str, ...]) -> dict[str, StreamInfo]:
    """Characteristic → stream; the EEG characteristics share one, under that of TP9."""
    names = [*EEG, "AUX"] if aux else [*EEG]
    eeg = tuple(ChannelInfo(name, "eeg", "V", _EEG_V, -2048 * _EEG_V) for name in names)
    motion = motion_channels()

    def info(
        suffix: str, sfreq: float, dtype: Dtype, channels: tuple[ChannelInfo, ...]
    ) -> StreamInfo:
        return StreamInfo(f"{device}-{suffix}", device, sfreq, dtype, channels)

    found = {
        EEG["TP9"]: info("eeg", EEG_SFREQ, Dtype.I16, eeg),
        ACC: info("acc", MOTION_SFREQ, Dtype.I16, motion["acc"]),
        GYRO: info("gyro", MOTION_SFREQ, Dtype.I16, motion["gyro"]),
    }
    for colour in ppg:
        channel = ChannelInfo(f"PPG_{colour.upper()}", "misc", "1")
        found[PPG[colour]] = info(f"ppg-{colour}", PPG_SFREQ, Dtype.I32, (channel,))
    return found


def unpack12(data: bytes) -> NDArray[Any]:
    """12-bit unsigned numbers, most significant bit first, two in three bytes: int16 (n,)."""
    triples = np.frombuffer(data, np.uint8).reshape(-1, 3).astype(np.int16)
    pairs = np.empty((len(triples), 2), np.int16)
    pairs[:, 0] = triples[:, 0] << 4 | triples[:, 1] >> 4
    pairs[:, 1] = (triples[:, 1] & 15) << 8 | triples[:, 2]
    return pairs.reshape(-1)


def unpack_motion(data: bytes) -> NDArray[Any]:
    """Three samples of x, y, z: int16 (3, 3)."""
    return np.frombuffer(data, ">i2").reshape(3, 3)


def unpack_ppg(data: bytes) -> NDArray[Any]:
    """Six 24-bit unsigned numbers, big-endian: int32 (6, 1)."""
    octets = np.frombuffer(data, np.uint8).reshape(6, 3).astype(np.int32)
    return (octets[:, :1] << 16) | (octets[:, 1:2] << 8) | octets[:, 2:]


class MuseDecoder:
    """One headset. `telemetry` holds what it said last about itself."""

    def __init__(
        self, infos: dict[str, StreamInfo], counters: LinkCounters, *, bias_ns: int = 0
    ) -> None:
        self.counters = counters
        self.telemetry: dict[str, float] = {}
        self._streams: dict[str, _Stream] = {}  # by characteristic
        self._parts: dict[str, int] = {}
        for characteristic, info in infos.items():
            is_eeg = characteristic == EEG["TP9"]
            rows = Rows(info, counters, bias_ns=bias_ns, rails=RAILS if is_eeg else None)
            stream = _Stream(rows, counters, n_parts=info.n_channels if is_eeg else 1)
            parts = [*EEG.values(), AUX][: info.n_channels] if is_eeg else [characteristic]
            for part, each in enumerate(parts):
                self._streams[each], self._parts[each] = stream, part

    def feed(self, packet: Packet) -> list[SampleBlock]:
        """Blocks that this notification completes, oldest first."""
        characteristic, data = packet.characteristic, packet.data
        self.counters.bytes_read += len(data)
        stream = self._streams.get(characteristic)
        if len(data) != PACKET_BYTES or (stream is None and characteristic != TELEMETRY):
            self.counters.wrong_schema += 1
            return []
        self.counters.frames += 1
        if stream is None:
            self._take_telemetry(data)
            return []
        body = data[2:]
        if characteristic in {ACC, GYRO}:
            samples = unpack_motion(body)
        elif characteristic in PPG.values():
            samples = unpack_ppg(body)
        else:
            samples = unpack12(body)[:, None]
        part = self._parts[characteristic]
        return stream.put(int.from_bytes(data[:2], "big"), part, samples, packet.arrived_ns)

    @property
    def rows(self) -> list[Rows]:
        return list(dict.fromkeys(stream.rows for stream in self._streams.values()))

    def clock(self, stream_id: str) -> ClockState | None:
        return clock_of(self.rows, stream_id)

    def restart(self) -> None:
        """The headset is told to start anew: its counters begin again."""
        for stream in self._streams.values():
            stream.restart()

    def _take_telemetry(self, data: bytes) -> None:
        _, battery, gauge, adc, temperature = np.frombuffer(data[:10], ">u2").tolist()
        self.telemetry = {
            "battery_percent": battery / 512,
            "fuel_gauge_mv": gauge / 2.2,
            "adc_mv": float(adc),
            "temperature_c": float(temperature),
        }


class _Stream:
    """Packets of one stream, each instant in `n_parts` characteristics of as many columns."""

    def __init__(self, rows: Rows, counters: LinkCounters, *, n_parts: int) -> None:
        self.rows = rows
        self._counters = counters
        self._n_parts = n_parts
        self._index: PacketIndex | None = None
        self._restarts = 0
        self._pending: dict[int, tuple[list[NDArray[Any] | None], int]] = {}  # parts, arrival
        self._newest = [-1] * n_parts  # packet number of each part
        self._next = 0  # packet number
        self._is_ambiguous = False

    def put(self, raw: int, part: int, samples: NDArray[Any], arrived_ns: int) -> list[SampleBlock]:
        n = len(samples)
        period_ns = 1e9 * n / self.rows.info.sfreq
        if self._index is None:
            self._index = PacketIndex(_WRAP, period_ns)
        number = self._index.place(raw, arrived_ns)
        if number is None:
            self._counters.implausible += 1
            return []
        if self._index.restarts != self._restarts:
            self._restarts = self._index.restarts
            self._counters.restarts += 1
            self._counters.broken_rows += n * len(self._pending)
            self._begin()
        self._is_ambiguous |= self._index.is_ambiguous
        parts, _ = self._pending.setdefault(number, ([None] * self._n_parts, arrived_ns))
        if number < self._next or parts[part] is not None:
            self._counters.repeated_frames += 1
            if number < self._next:
                del self._pending[number]
            return []
        parts[part] = samples
        self._newest[part] = max(self._newest[part], number)
        return self._ready(arrived_ns, n)

    def restart(self) -> None:
        self._index, self._restarts = None, 0
        self._begin()

    def _begin(self) -> None:
        self._pending.clear()
        self._newest = [-1] * self._n_parts
        self._next = 0
        self.rows.restart()

    def _ready(self, now_ns: int, n: int) -> list[SampleBlock]:
        """Whole instants up to the first that may still be completed."""
        blocks = []
        while self._pending:
            number = min(self._pending)
            parts, arrived_ns = self._pending[number]
            whole = [part for part in parts if part is not None]
            if len(whole) == self._n_parts:
                blocks.append(self._block(number * n, np.hstack(whole), arrived_ns))
            elif (
                self._is_lost(number, parts)
                or now_ns - arrived_ns > _WAIT_NS
                or len(self._pending) > _MOST_PENDING
            ):
                self._counters.broken_rows += n
            else:
                break
            del self._pending[number]
            self._next = number + 1
        return blocks

    def _is_lost(self, number: int, parts: list[NDArray[Any] | None]) -> bool:
        return all(
            part is not None or newest > number
            for part, newest in zip(parts, self._newest, strict=True)
        )

    def _block(self, first: int, samples: NDArray[Any], arrived_ns: int) -> SampleBlock:
        is_ambiguous, self._is_ambiguous = self._is_ambiguous, False
        return self.rows.add(
            first,
            samples,
            arrived_ns,
            plus_minus=_WRAP * len(samples) if is_ambiguous else 0,
            basis=GapBasis.CLOCK if is_ambiguous else GapBasis.UNWRAPPED,
        )
