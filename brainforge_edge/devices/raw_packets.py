"""Notifications kept as they came, as rows of a stream of their own (docs/decisions/0016). No I/O.

A row is 64 words of 32 bits: word 0 holds the number of bytes in the row (bits 0–15) and whether the
notification goes on in the next row (bit 16); words 1 and 2 the box's monotonic time of its arrival
in ns, low word first; the others the bytes, little-endian, zeros behind them. A notification of a
connection with the usual MTU of 247 fits one row. Rows have no rate: the stream's is about that of the
notifications, and only the arrival times in the rows are true.
Runs in: acquire process, pull thread; `packets_of` wherever a recording is decoded anew.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.block import BlockFlag, Gap, GapBasis, GapCause, SampleBlock
from brainforge_edge.core.stream import RAW, ChannelInfo, Dtype, StreamInfo
from brainforge_edge.devices.gatt import Packet

WORDS = 64
BYTES = 4 * (WORDS - 3)
_MORE = 1 << 16
_LENGTH = _MORE - 1


def stream(device: str, sfreq: float) -> StreamInfo:
    """`<device>-raw`; `sfreq`: about how many notifications come in a second."""
    channels = tuple(ChannelInfo(f"W{word:02d}", RAW, "1") for word in range(WORDS))
    return StreamInfo(f"{device}-raw", device, sfreq, Dtype.I32, channels)


def rows_of(packet: Packet) -> NDArray[np.int32]:
    """int32 (n, 64), n ≥ 1."""
    pieces = [packet.data[at : at + BYTES] for at in range(0, len(packet.data), BYTES)] or [b""]
    rows = np.zeros((len(pieces), WORDS), "<i4")
    octets = rows.view(np.uint8)
    for row, piece in enumerate(pieces):
        is_last = row == len(pieces) - 1
        rows[row, 0] = len(piece) | (0 if is_last else _MORE)
        octets[row, 12 : 12 + len(piece)] = np.frombuffer(piece, np.uint8)
    rows[:, 1:3] = np.frombuffer(packet.arrived_ns.to_bytes(8, "little"), "<i4")
    return rows


def packets_of(rows: NDArray[Any], characteristic: str) -> Iterator[Packet]:
    """The notifications that these rows hold; one whose rows are not all there is left out."""
    octets = np.ascontiguousarray(rows, "<i4").view(np.uint8)
    data, arrived_ns = b"", -1
    is_more = False
    for row, words in zip(octets, rows, strict=True):
        arrived = int.from_bytes(row[4:12].tobytes(), "little")
        if not is_more or arrived != arrived_ns:
            data = b""
        arrived_ns = arrived
        data += row[12 : 12 + (int(words[0]) & _LENGTH)].tobytes()
        is_more = bool(int(words[0]) & _MORE)
        if not is_more:
            yield Packet(arrived_ns, characteristic, data)


class RawPackets:
    """One connection. What the queue had no room for is a gap, exact in number and place."""

    def __init__(self, info: StreamInfo) -> None:
        self._info = info
        self._seq = 0
        self._incarnation = -1
        self._is_new = True
        self._dropped = 0
        self._missing = 0

    def restart(self) -> None:
        """The device is told to start anew: a decoder of these rows begins anew, too."""
        self._is_new = True

    def take(self, packets: Iterable[Packet], dropped: int) -> list[SampleBlock]:
        """A block for each. `dropped`: of the link, until now; a full queue drops what is newer than these."""
        blocks = []
        for packet in packets:
            rows = rows_of(packet)
            flags = BlockFlag(0)
            gap: Gap | None = None
            if self._is_new:
                self._incarnation += 1
                self._seq, self._is_new = 0, False
                flags = BlockFlag.FIRST
            elif self._missing:
                self._seq += self._missing
                gap = Gap(self._missing, 0, GapBasis.DEVICE_INDEX, GapCause.BOX)
                flags = BlockFlag.GAP_BEFORE
            self._missing = 0
            blocks.append(
                SampleBlock(
                    self._info.stream_id,
                    self._incarnation,
                    self._seq,
                    packet.arrived_ns,
                    rows,
                    flags,
                    gap,
                )
            )
            self._seq += len(rows)
        self._missing += dropped - self._dropped
        self._dropped = dropped
        return blocks
