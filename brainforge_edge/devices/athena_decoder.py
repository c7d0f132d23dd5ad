"""Muse S Athena: one multiplexed characteristic into rows (docs/devices/muse.md). No I/O, no clock.

A notification holds whole packets, a packet a primary block and sub-blocks; each kind of block
counts with 8 bits. In the captures at hand these counts and the packets' own never step back, while
the packets' times do in one of twenty: order is taken from the counts, not from the times.
Runs in: acquire process, pull thread.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.block import GapBasis, SampleBlock
from brainforge_edge.core.clockfit import ClockState
from brainforge_edge.core.errors import ConfigError
from brainforge_edge.core.stream import ChannelInfo, Dtype, StreamInfo
from brainforge_edge.devices.base import LinkCounters
from brainforge_edge.devices.gatt import Packet
from brainforge_edge.devices.muse_decoder import MOTION_SFREQ, motion_channels, uuid
from brainforge_edge.devices.packet_index import PacketIndex
from brainforge_edge.devices.rows import Rows, clock_of

DATA = uuid(0x0013)
DEFAULT_PRESET = "p1041"
EEG_SFREQ, OPTICS_SFREQ = 256.0, 64.0
RAILS = (0, 16_383)
_WRAP = 256
_HEADER = 14
_SUB_HEADER = 5
_EEG_V = 1450e-6 / 16_383
_EEG_NAMES = ("TP9", "AF7", "AF8", "TP10", "AUX1", "AUX2", "AUX3", "AUX4")
_OPTICS_NAMES = tuple(
    f"{place}_{colour}"
    for colours, places in (
        (("730", "850"), ("LO", "RO")),
        (("730", "850"), ("LI", "RI")),
        (("RED", "AMB"), ("LO", "RO")),
        (("RED", "AMB"), ("LI", "RI")),
    )
    for colour in colours
    for place in places
)
_EEG_ONLY = ("p20", "p21", "p50", "p51", "p60", "p61")
_LAYOUTS: dict[str, tuple[int, int]] = {
    **dict.fromkeys(_EEG_ONLY, (4, 0)),
    **dict.fromkeys(("p1034", "p1043", "p1044"), (8, 8)),
    "p1035": (4, 4),
    **dict.fromkeys(("p1041", "p1042"), (8, 16)),
    **dict.fromkeys(("p1045", "p1046", "p4129"), (8, 4)),
}


@dataclass(frozen=True, slots=True)
class _Block:
    stream: str  # "" for what is passed over
    n_samples: int
    n_channels: int
    n_bytes: int
    bits: int = 0


_BLOCKS = {
    0x11: _Block("eeg", 4, 4, 28, 14),
    0x12: _Block("eeg", 2, 8, 28, 14),
    0x34: _Block("optics", 3, 4, 30, 20),
    0x35: _Block("optics", 2, 8, 40, 20),
    0x36: _Block("optics", 1, 16, 40, 20),
    0x47: _Block("motion", 3, 6, 36),
    0x53: _Block("", 6, 2, 24),  # reference electrodes
    0x98: _Block("battery", 1, 1, 20),
}
_BATTERY_NEW = 0x88  # decoders disagree about its length: the rest of its packet is passed over


def layout(preset: str) -> tuple[int, int]:
    """(EEG channels, optics channels) of a preset; ConfigError if it is not known."""
    if preset not in _LAYOUTS:
        raise ConfigError(
            "out_of_range",
            f"an Athena knows no preset {preset!r}",
            why=f"those that can be decoded are {', '.join(_LAYOUTS)}",
            remedy="Correct `preset` in the device's settings",
        )
    return _LAYOUTS[preset]


def packets_per_s(channels: tuple[int, int]) -> float:
    """About how many notifications a layout makes: its blocks with their heads, 200 bytes in each."""
    n_eeg, n_optics = channels
    wanted = [("eeg", n_eeg, EEG_SFREQ), ("optics", n_optics, OPTICS_SFREQ)]
    wanted.append(("motion", 6, MOTION_SFREQ))
    octets = sum(
        (kind.n_bytes + _SUB_HEADER) * sfreq / kind.n_samples
        for name, n, sfreq in wanted
        for kind in _BLOCKS.values()
        if (kind.stream, kind.n_channels) == (name, n)
    )
    return float(max(1, round(octets / 200)))


def streams(
    device: str, channels: tuple[int, int], *, eeg_zero: int, optics_scale: float
) -> dict[str, StreamInfo]:
    """Suffix → stream."""
    n_eeg, n_optics = channels
    # Four optics channels are the inner ones; eight and sixteen begin with the outer ones.
    optics = _OPTICS_NAMES[4:8] if n_optics == 4 else _OPTICS_NAMES[:n_optics]
    described = {
        "eeg": (
            EEG_SFREQ,
            Dtype.I16,
            tuple(ChannelInfo(n, "eeg", "V", _EEG_V, -eeg_zero * _EEG_V) for n in _EEG_NAMES),
        ),
        "optics": (
            OPTICS_SFREQ,
            Dtype.I32,
            tuple(ChannelInfo(name, "misc", "1", optics_scale) for name in optics),
        ),
        **{
            suffix: (MOTION_SFREQ, Dtype.I16, described)
            for suffix, described in motion_channels(gyro_sign=-1).items()
        },
    }
    described["eeg"] = (EEG_SFREQ, Dtype.I16, described["eeg"][2][:n_eeg])
    return {
        suffix: StreamInfo(f"{device}-{suffix}", device, sfreq, dtype, each)
        for suffix, (sfreq, dtype, each) in described.items()
        if each
    }


def unpack_bits(data: bytes, bits: int) -> NDArray[Any]:
    """Unsigned numbers of `bits` bits, least significant bit first: int32 (n,)."""
    flat = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    n = len(flat) // bits
    weights = 1 << np.arange(bits, dtype=np.int32)
    numbers: NDArray[Any] = flat[: n * bits].reshape(n, bits) @ weights
    return numbers


class AthenaDecoder:
    """One headset. `telemetry` holds what it said last about itself."""

    def __init__(
        self,
        infos: dict[str, StreamInfo],
        counters: LinkCounters,
        *,
        bias_ns: int = 0,
        battery_divisor: float = 256.0,
    ) -> None:
        self.counters = counters
        self.telemetry: dict[str, float] = {}
        self._battery_divisor = battery_divisor
        self._rows = {
            suffix: Rows(info, counters, bias_ns=bias_ns, rails=RAILS if suffix == "eeg" else None)
            for suffix, info in infos.items()
        }
        self._indices: dict[int, PacketIndex] = {}
        self._restarts: dict[int, int] = {}

    def feed(self, packet: Packet) -> list[SampleBlock]:
        """Blocks of one notification, in the order in which they lie in it."""
        data = packet.data
        self.counters.bytes_read += len(data)
        blocks: list[SampleBlock] = []
        at = 0
        while at < len(data):
            length = data[at]
            if length < _HEADER or at + length > len(data):
                self.counters.unparsed_bytes += len(data) - at
                break
            self.counters.frames += 1
            self._take_packet(data[at : at + length], packet.arrived_ns, blocks)
            at += length
        return blocks

    @property
    def rows(self) -> list[Rows]:
        return list(self._rows.values())

    def clock(self, stream_id: str) -> ClockState | None:
        return clock_of(self.rows, stream_id)

    def restart(self) -> None:
        """The headset is told to start anew: its counters begin again."""
        self._indices.clear()
        self._restarts.clear()
        for rows in self._rows.values():
            rows.restart()

    def _take_packet(self, data: bytes, arrived_ns: int, blocks: list[SampleBlock]) -> None:
        tag, number, at = data[9], data[10], _HEADER
        while True:
            kind = _BLOCKS.get(tag)
            if kind is None or at + kind.n_bytes > len(data):
                if tag == _BATTERY_NEW and at + 2 <= len(data):
                    self._take_battery(data[at : at + 2])
                self.counters.unparsed_bytes += len(data) - at
                return
            body = data[at : at + kind.n_bytes]
            if kind.stream == "battery":
                self._take_battery(body)
            elif kind.stream:
                self._take_block(tag, kind, number, body, arrived_ns, blocks)
            at += kind.n_bytes
            if at + _SUB_HEADER > len(data):
                self.counters.unparsed_bytes += len(data) - at
                return
            tag, number = data[at], data[at + 1]
            at += _SUB_HEADER

    def _take_battery(self, body: bytes) -> None:
        percent = int.from_bytes(body[:2], "little") / self._battery_divisor
        self.telemetry = {"battery_percent": percent}

    def _take_block(
        self,
        tag: int,
        kind: _Block,
        raw: int,
        body: bytes,
        arrived_ns: int,
        blocks: list[SampleBlock],
    ) -> None:
        if kind.stream == "motion":
            samples = np.frombuffer(body, "<i2").reshape(3, 6)
            parts = {"acc": samples[:, :3], "gyro": samples[:, 3:]}
        else:
            numbers = unpack_bits(body, kind.bits)
            parts = {kind.stream: numbers.reshape(kind.n_samples, kind.n_channels)}
        first_suffix = next(iter(parts))
        rows = self._rows.get(first_suffix)
        if rows is None or rows.info.n_channels != parts[first_suffix].shape[1]:
            self.counters.wrong_schema += 1
            return
        period_ns = 1e9 * kind.n_samples / rows.info.sfreq
        index = self._indices.setdefault(tag, PacketIndex(_WRAP, period_ns))
        number = index.place(raw, arrived_ns)
        if number is None:
            self.counters.implausible += 1
            return
        is_new = index.restarts != self._restarts.get(tag, 0)
        if is_new:
            self._restarts[tag] = index.restarts
            self.counters.restarts += 1
        first = number * kind.n_samples
        if not is_new and first < rows.next_row:
            self.counters.repeated_frames += 1
            return
        is_ambiguous = index.is_ambiguous
        for suffix, each in parts.items():
            under = self._rows[suffix]
            if is_new:
                under.restart()
            block = under.add(
                first,
                each,
                arrived_ns,
                plus_minus=_WRAP * kind.n_samples if is_ambiguous else 0,
                basis=GapBasis.CLOCK if is_ambiguous else GapBasis.UNWRAPPED,
            )
            blocks.append(block)
