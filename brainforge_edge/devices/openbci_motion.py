"""The accelerometer of a Cyton, out of its packets' auxiliary bytes. No I/O.

With time stamps (C3, C4) a packet has room for one axis: X, Y and Z travel in packets whose 8-bit
counter ends on 7, 8 and 9. The counter goes from 255 to 0, so 25 triples come in 256 packets.
Without (C0) all three axes travel at once, and zeros say that there is no new value.
Runs in: acquire process, pull thread.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.stream import ChannelInfo, Dtype, StreamInfo
from brainforge_edge.devices.openbci_rows import Row, Track

G = 9.80665
SCALE = 0.002 / 16 * G  # m/s² a count
STAMPED_HZ = 250.0 * 25 / 256
PLAIN_HZ = 25.0
_STAMPED = frozenset({0xC3, 0xC4})
_PLAIN = 0xC0
_ROUND = 256
_TRIPLES = 25  # in a round
_TEN = 10


def motion_stream(device: str, *, has_stamps: bool) -> StreamInfo:
    channels = tuple(ChannelInfo(f"ACC{axis}", "misc", "m/s^2", SCALE) for axis in "XYZ")
    sfreq = STAMPED_HZ if has_stamps else PLAIN_HZ
    return StreamInfo(f"{device}-acc", device, sfreq, Dtype.I16, channels)


class AuxPacket(Protocol):
    """See `openbci_decoder.Packet`."""

    @property
    def number(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def aux(self) -> bytes: ...


class Motion(Protocol):
    track: Track

    def take(self, packets: Sequence[AuxPacket]) -> list[Row]:
        """Rows that these packets complete; their instant is that of the first packet of a row."""
        ...

    def doubt(self, packets: int) -> None: ...
    def restart(self) -> None: ...


def motion_for(info: StreamInfo) -> Motion:
    return PlainMotion(info) if info.sfreq == PLAIN_HZ else StampedMotion(info)


class StampedMotion:
    """Row 25 · rounds + tens: there if its X, Y and Z all came."""

    def __init__(self, info: StreamInfo) -> None:
        self.track = Track(info, None, n_packets=_ROUND / _TRIPLES)
        self._parts: list[tuple[int, int]] = []  # packet, value

    def restart(self) -> None:
        self.track.restart()
        self._parts = []

    def doubt(self, packets: int) -> None:
        self.track.doubt(packets)

    def take(self, packets: Sequence[AuxPacket]) -> list[Row]:
        rows: list[Row] = []
        for packet in packets:
            rounds, place = divmod(packet.number, _ROUND)
            tens, axis = divmod(place, _TEN)
            if axis < 7 or packet.end not in _STAMPED:
                continue
            value = int.from_bytes(packet.aux[:2], "big", signed=True)
            if axis == 7:
                self._parts = []
            self._parts.append((packet.number, value))
            if axis == 9 and [at for at, _ in self._parts] == [
                packet.number + n for n in (-2, -1, 0)
            ]:
                values = np.array([value for _, value in self._parts], dtype=np.int16)
                rows.append((_TRIPLES * rounds + tens, packet.number - 2, values))
        return rows


class PlainMotion:
    """Row n of packets 10n to 10n + 9: there if all ten came; holds the newest values known then."""

    def __init__(self, info: StreamInfo) -> None:
        self.track = Track(info, None, n_packets=_TEN)
        self._held: NDArray[Any] | None = None
        self._row = -1
        self._came = 0  # of its packets

    def restart(self) -> None:
        self.track.restart()
        self._held, self._row = None, -1

    def doubt(self, packets: int) -> None:
        self.track.doubt(packets)

    def take(self, packets: Sequence[AuxPacket]) -> list[Row]:
        rows: list[Row] = []
        for packet in packets:
            row, place = divmod(packet.number, _TEN)
            if row != self._row:
                self._row, self._came = row, 0
            if packet.end != _PLAIN:
                continue
            self._came += 1
            values = np.frombuffer(packet.aux, dtype=">i2").astype(np.int16)
            if values.any():
                self._held = values
            if place == _TEN - 1 and self._came == _TEN and self._held is not None:
                rows.append((row, packet.number - place, self._held))
        return rows
