"""FreeEEG32 over USB (CDC serial; docs/devices/serial.md).

Protocol: read in BrainFlow's driver. Quirks: it streams at once and hears nothing; frames begin with A0
and end with C0, their length differs between firmwares and is learned; a counter of 8 bits.
Runs in: acquire process, pull thread; `close` also from others.
"""

from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.block import GapBasis, Marker, SampleBlock
from brainforge_edge.core.clock import Clock
from brainforge_edge.core.config import check_names, check_serial_port
from brainforge_edge.core.stream import ChannelDetail, ChannelInfo, Dtype, FrontEnd, StreamInfo
from brainforge_edge.devices.base import LinkCounters, Notice, Transport
from brainforge_edge.devices.packet_index import PacketIndex
from brainforge_edge.devices.rows import Rows
from brainforge_edge.devices.selfstarting import SelfStartingDriver

N_CHANNELS = 32
SFREQ = 512.0
GAIN = 8
SCALE_V = 2.5 / GAIN / (2**23 - 1)
RAIL = 2**23 - 1
BEGIN, END = 0xA0, 0xC0
_ROUND = 256
_LEAST = 2 + 3 * N_CHANNELS + 1
_MOST = 200
_LOST_FRAMES = 10  # of bytes that are none, until the length is learned anew
Seconds = Annotated[float, msgspec.Meta(ge=0.1, le=3600)]


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[device.settings]` of kind "freeeeg32"."""

    port: Annotated[str, msgspec.Meta(min_length=1)]
    baud: Annotated[int, msgspec.Meta(ge=50, le=12_000_000)] = 921_600
    ch_names: tuple[str, ...] = ()  # EEG1 … by default
    silent_s: Seconds = 1.0  # without samples for this long the link is made anew
    answer_s: Seconds = 3.0


def make_driver(config: Config, *, device: str, clock: Clock) -> SelfStartingDriver:
    check_serial_port(config.port, device)
    info = stream(device, config.ch_names)

    def open_transport() -> Transport:
        from brainforge_edge.devices.transport import open_serial  # noqa: PLC0415  pyserial on use

        return open_serial(config.port, baud=config.baud)

    return SelfStartingDriver(
        config,
        noun="FreeEEG32",
        device=device,
        clock=clock,
        open_transport=open_transport,
        make_decoder=lambda counters: FreeEegDecoder(info, counters),
        rails=(-RAIL, RAIL),
    )


def stream(device: str, names: tuple[str, ...] = ()) -> StreamInfo:
    check_names(names, (N_CHANNELS,), device)
    detail = ChannelDetail(front_end=FrontEnd(GAIN))
    channels = tuple(
        ChannelInfo(name, "eeg", "V", SCALE_V, detail=detail)
        for name in names or tuple(f"EEG{n + 1}" for n in range(N_CHANNELS))
    )
    return StreamInfo(f"{device}-eeg", device, SFREQ, Dtype.I24, channels)


class FreeEegDecoder:
    """Samples are int32 counts (n, 32) under the absolute number of their frame."""

    def __init__(self, info: StreamInfo, counters: LinkCounters) -> None:
        self.counters = counters
        self.rows = Rows(info, counters, rails=(-RAIL, RAIL))
        self._index = PacketIndex(_ROUND, 1e9 / SFREQ)
        self._restarts = 0
        self._buffer = b""
        self._length = 0  # of a frame; 0 until it is known
        self._is_lost = True
        self._lost_bytes = 0

    def feed(self, data: bytes, arrived_ns: int) -> list[SampleBlock]:
        self.counters.bytes_read += len(data)
        self._buffer += data
        blocks: list[SampleBlock] = []
        run: list[NDArray[Any]] = []
        first = plus_minus = 0
        for frame in self._frames():
            number = self._index.place(frame[1], arrived_ns)
            if number is None:
                self.counters.implausible += 1
                continue
            is_restarted = self._index.restarts != self._restarts
            next_row = first + len(run) if run else self.rows.next_row
            if not is_restarted and number < next_row:
                self.counters.repeated_frames += 1
                continue
            if run and (is_restarted or number != next_row):
                blocks.append(self._block(first, run, arrived_ns, plus_minus))
                run = []
            if is_restarted:
                self._restarts = self._index.restarts
                self.counters.restarts += 1
                self.rows.restart()
            if not run:
                first, plus_minus = number, _ROUND if self._index.is_ambiguous else 0
            run.append(_samples(frame))
        if run:
            blocks.append(self._block(first, run, arrived_ns, plus_minus))
        return blocks

    def said(self) -> dict[str, Any]:
        return {"frame_bytes": self._length}

    def markers(self) -> list[Marker]:
        return []

    def notices(self) -> list[Notice]:
        return []

    def _block(
        self, first: int, run: list[NDArray[Any]], arrived_ns: int, plus_minus: int
    ) -> SampleBlock:
        basis = GapBasis.CLOCK if plus_minus else GapBasis.UNWRAPPED
        return self.rows.add(first, np.stack(run), arrived_ns, plus_minus=plus_minus, basis=basis)

    def _frames(self) -> list[bytes]:
        """Whole ones; out of sync a frame counts when another one begins behind it."""
        found: list[bytes] = []
        at, held = 0, self._buffer
        if not self._length:
            self._length, at = _learn(held)
            self._skip(at)
        length = self._length
        while length and len(held) - at >= length + self._is_lost:
            is_frame = held[at] == BEGIN and held[at + length - 1] == END
            if is_frame and (not self._is_lost or held[at + length] == BEGIN):
                found.append(held[at : at + length])
                at += length
                self._is_lost, self._lost_bytes = False, 0
                continue
            self.counters.resyncs += not self._is_lost
            self._is_lost = True
            self._skip(1)
            at += 1
            if self._lost_bytes > _LOST_FRAMES * length:
                self._length = length = self._lost_bytes = 0
        self._buffer = held[at:]
        self.counters.frames += len(found)
        return found

    def _skip(self, n: int) -> None:
        self.counters.skipped_bytes += n
        self._lost_bytes += n


def _learn(held: bytes) -> tuple[int, int]:
    """(length, first byte) of frames that follow each other twice and count up; (0, bytes to leave)."""
    last = len(held) - 2 * _MOST - 2
    at = held.find(BEGIN)
    while 0 <= at < last:
        for length in range(_LEAST, _MOST + 1):
            second, third = at + length, at + 2 * length
            if (
                held[second - 1] == held[third - 1] == END
                and held[second] == held[third] == BEGIN
                and (held[second + 1] - held[at + 1]) % _ROUND == 1
                and (held[third + 1] - held[second + 1]) % _ROUND == 1
            ):
                return length, at
        at = held.find(BEGIN, at + 1)
    return 0, max(0, last)


def _samples(frame: bytes) -> NDArray[Any]:
    octets = np.frombuffer(frame, np.uint8, 3 * N_CHANNELS, 2).reshape(N_CHANNELS, 3)
    wide = octets.astype(np.int32)
    values: NDArray[Any] = (wide[:, 0] << 24 | wide[:, 1] << 16 | wide[:, 2] << 8) >> 8
    return values
