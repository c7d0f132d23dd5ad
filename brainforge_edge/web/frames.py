"""Binary frames for a viewer: rows of one stream, as many channels as it looks at.

Runs in: web process. No I/O. A datagram is what `pipeline/live.py` sends: a u8 length, the stream
id, then a payload of `core.wire.LiveHeader`.
"""

import struct
from typing import Final

import msgspec
import numpy as np

from brainforge_edge.core.garbled import GARBLED
from brainforge_edge.core.wire import LiveHeader

MAGIC: Final = b"BFL1"
# magic, stream, first channel, channels, channels of the stream, rows, incarnation, reserved,
# seq of the last row at full rate, box time of it in ns, rate of these rows in Hz.
# Counts above 2^32 are doubles, which is what a browser counts in.
HEAD: Final = struct.Struct("<4sHHHHIIIddd")


class Rows:
    """One message of the pipeline; `frame` is made once for all who look at the same channels."""

    def __init__(self, head: LiveHeader, rows: memoryview) -> None:
        self.head = head
        self._rows = rows
        self._made: dict[tuple[int, int, int], bytes] = {}

    def frame(self, number: int, first: int, count: int) -> bytes:
        """Channels from `first` on, at most `count`, of the stream that viewers know as `number`."""
        key = (number, first, count)
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = self._frame(number, first, count)
        return made

    def _frame(self, number: int, first: int, count: int) -> bytes:
        head = self.head
        rows = np.frombuffer(self._rows, dtype="<f4").reshape(head.n_samples, head.n_channels)
        shown = rows[:, first : first + count]
        packed = HEAD.pack(
            MAGIC,
            number,
            first,
            shown.shape[1],
            head.n_channels,
            head.n_samples,
            head.incarnation & 0xFFFF_FFFF,
            0,
            float(head.seq),
            float(head.t_last_ns),
            head.sfreq,
        )
        return packed + shown.tobytes()


def rows_of(datagram: bytes) -> Rows | None:
    """None for one that carries no rows."""
    try:
        payload = memoryview(datagram)[1 + datagram[0] :]
        size = int.from_bytes(payload[:2], "little")
        head = msgspec.msgpack.decode(payload[2 : 2 + size], type=LiveHeader)
        rows = payload[2 + size :][: 4 * head.n_samples * head.n_channels]
    except (*GARBLED, IndexError):
        return None
    is_whole = head.n_samples > 0 and len(rows) == 4 * head.n_samples * head.n_channels
    return Rows(head, rows) if is_whole else None
