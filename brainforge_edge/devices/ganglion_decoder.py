"""Ganglion notifications into rows (docs/devices/ganglion.md). No I/O, no clock of its own.

Firmware 2 sends differences to the sample before, and a whole sample every 201: after a lost packet
the samples up to the next whole one cannot be known and are left out. Firmware 3 sends every sample
whole, with its low bits cut off.
Runs in: acquire process, pull thread.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.block import GapBasis, SampleBlock
from brainforge_edge.core.clockfit import ClockState
from brainforge_edge.core.stream import ChannelInfo, Dtype, StreamInfo
from brainforge_edge.devices.base import LinkCounters
from brainforge_edge.devices.ganglion_accel import Accelerometer
from brainforge_edge.devices.gatt import Packet
from brainforge_edge.devices.packet_index import PacketIndex
from brainforge_edge.devices.rows import Rows, clock_of

PACKET_BYTES = 20
SFREQ = 200.0
N_CHANNELS = 4
SCALE_V = 1.2 / (8_388_607 * 1.5 * 51)
RAIL = 8_388_607
_RAIL_CUT = 131_070 << 6  # firmware 3: the highest that 18 bits can say
_PACKET_NS = 1e9 / 100
_LAST_DATA = 200
_IMPEDANCE = {201: "1", 202: "2", 203: "3", 204: "4", 205: "ref"}
_MESSAGE, _MESSAGE_END = 206, 207
_MOST_TEXT = 4096


def stream(device: str) -> StreamInfo:
    channels = tuple(ChannelInfo(f"EEG{n + 1}", "eeg", "V", SCALE_V) for n in range(N_CHANNELS))
    return StreamInfo(f"{device}-eeg", device, SFREQ, Dtype.I24, channels)


def packets_per_round(firmware: int) -> int:
    """Packet ids until they come round."""
    return 100 if firmware >= 3 else 101


def round_s(firmware: int) -> float:
    """How long a round takes: firmware 2 has one sample in its first packet, two in the others."""
    return (200 if firmware >= 3 else 201) / SFREQ


def rails(firmware: int) -> tuple[int, int]:
    """The lowest and highest count that can come."""
    return (-RAIL - 1, _RAIL_CUT if firmware >= 3 else RAIL)


def unpack_signed(body: bytes, bits: int) -> NDArray[Any]:
    """Eight numbers of 18 or 19 bits, most significant first: int32 (2, 4).

    The board overwrites the lowest bit of each with its sign: it holds no value and is cleared.
    """
    flat = np.unpackbits(np.frombuffer(body, np.uint8))[: 8 * bits].reshape(8, bits)
    numbers = flat @ (1 << np.arange(bits - 1, -1, -1, dtype=np.int32))
    signed = (numbers.astype(np.int32) << (32 - bits)) >> (32 - bits)
    cleared: NDArray[Any] = (signed & ~1).reshape(2, N_CHANNELS)
    return cleared


class GanglionDecoder:
    """One board. `firmware` 2 or 3. `impedance_ohm` and `text` hold what it said last."""

    def __init__(
        self,
        info: StreamInfo,
        counters: LinkCounters,
        *,
        firmware: int,
        bias_ns: int = 0,
        accelerometer: Accelerometer | None = None,
    ) -> None:
        self.counters = counters
        self.impedance_ohm: dict[str, int] = {}
        self.text = ""
        self._rows = Rows(info, counters, bias_ns=bias_ns, rails=rails(firmware))
        self._accelerometer = accelerometer
        self._is_whole = firmware >= 3
        self._per_round = packets_per_round(firmware)
        self._index = PacketIndex(self._per_round, _PACKET_NS)
        self._restarts = 0
        self._next = -1  # packet number
        self._last: NDArray[Any] | None = None  # firmware 2: the newest sample that is known
        self._message = b""

    def feed(self, packet: Packet) -> list[SampleBlock]:
        """The block of this notification, if it holds samples that can be known."""
        data = packet.data
        self.counters.bytes_read += len(data)
        if not data:
            self.counters.wrong_schema += 1
            return []
        kind = data[0]
        if kind <= _LAST_DATA:
            if len(data) != PACKET_BYTES or (self._is_whole and kind == _LAST_DATA):
                self.counters.wrong_schema += 1
                return []
            self.counters.frames += 1
            return self._take_samples(data, packet.arrived_ns)
        if kind in _IMPEDANCE:
            self._take_impedance(_IMPEDANCE[kind], data[1:])
        elif kind in {_MESSAGE, _MESSAGE_END}:
            self._take_text(data[1:], is_last=kind == _MESSAGE_END)
        else:
            self.counters.wrong_schema += 1
        return []

    @property
    def rows(self) -> list[Rows]:
        moved = [self._accelerometer.rows] if self._accelerometer else []
        return [self._rows, *moved]

    def clock(self, stream_id: str) -> ClockState | None:
        return clock_of(self.rows, stream_id)

    def restart(self) -> None:
        """The board is told to start anew: its ids begin again."""
        self._index = PacketIndex(self._per_round, _PACKET_NS)
        self._restarts = 0
        self._begin(-1)

    def _begin(self, number: int) -> None:
        self._last, self._next = None, number
        self._rows.restart()
        if self._accelerometer is not None:
            self._accelerometer.restart()

    def _take_samples(self, data: bytes, arrived_ns: int) -> list[SampleBlock]:
        kind = data[0]
        is_wide = kind >= 100 if self._is_whole else kind > 100
        number = self._index.place(kind - 100 if is_wide else kind, arrived_ns)
        if number is None:
            self.counters.implausible += 1
            return []
        if self._index.restarts != self._restarts:
            self._restarts = self._index.restarts
            self.counters.restarts += 1
            self._begin(number)
        if number < self._next:
            self.counters.repeated_frames += 1
            return []
        if self._next >= 0 and number > self._next:
            self.counters.lost_frames += number - self._next
            self._last = None
        self._next = number + 1
        blocks: list[SampleBlock] = []
        unsure = 1 if self._index.is_ambiguous else 0  # rounds
        rows = self._samples(data, 19 if is_wide else 18)
        if rows is None:
            self.counters.degraded_rows += 2
        else:
            block = self._rows.add(
                self._first_row(number),
                rows,
                arrived_ns,
                plus_minus=unsure * 2 * self._per_round,
                basis=GapBasis.CLOCK if unsure else GapBasis.UNWRAPPED,
            )
            blocks.append(block)
        if self._accelerometer is not None and not is_wide and (self._is_whole or kind > 0):
            rounds, place = divmod(number, self._per_round)
            moved = self._accelerometer.take(
                number,
                rounds=rounds,
                place=place,
                value=int.from_bytes(data[19:20], "big", signed=True),
                arrived_ns=arrived_ns,
                plus_minus_rounds=unsure,
            )
            if moved is not None:
                blocks.append(moved)
        return blocks

    def _first_row(self, number: int) -> int:
        if self._is_whole:
            return 2 * number
        rounds, place = divmod(number, self._per_round)
        return 201 * rounds + max(0, 2 * place - 1)  # the whole sample is alone in its packet

    def _samples(self, data: bytes, bits: int) -> NDArray[Any] | None:
        if self._is_whole:
            return unpack_signed(data[1:], bits) << (24 - bits)
        if data[0] == 0:
            octets = np.frombuffer(data[1:13], np.uint8).reshape(N_CHANNELS, 3).astype(np.int32)
            whole = octets[:, 0] << 24 | octets[:, 1] << 16 | octets[:, 2] << 8
            self._last = whole >> 8
            return self._last[None, :]
        if self._last is None:
            return None
        rows: NDArray[Any] = self._last - np.cumsum(unpack_signed(data[1:], bits), axis=0)
        rows = np.clip(rows, -RAIL - 1, RAIL)  # damage on the way could add up to more
        self._last = rows[1]
        return rows

    def _take_impedance(self, channel: str, body: bytes) -> None:
        text = body.partition(b"Z")[0].strip(b" \0")
        if text.isdigit():
            self.impedance_ohm[channel] = int(text)
            self.counters.frames += 1
        else:
            self.counters.implausible += 1

    def _take_text(self, body: bytes, *, is_last: bool) -> None:
        self.counters.frames += 1
        self._message = (self._message + body.rstrip(b"\0"))[-_MOST_TEXT:]
        if is_last:
            self.text = self._message.decode("ascii", "replace").strip()
            self._message = b""
