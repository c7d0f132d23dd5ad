"""The signals that TEST_SIGNAL asks for, and whether what came equals them bit for bit. Pure.

Used by the driver's self-test and by the emulators. Docs: bfp.md, "Test signals".
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.stream import Dtype
from brainforge_edge.devices.bfp import TestSignal

SQUARE_SAMPLES = 64  # half a period
# Whole numbers of this many bits fit into each type, float32 included, without a sign.
_BITS = {Dtype.I16: 15, Dtype.I24: 23, Dtype.I32: 31, Dtype.F32: 24}
_PRBS_BYTES = {Dtype.I16: 2, Dtype.I24: 3, Dtype.I32: 4}
_TAPS = (31, 28)  # x^31 + x^28 + 1, ITU-T O.150
_SQUARINGS = 11  # b[n] = b[n - 31·2^k] ^ b[n - 28·2^k]: as many bits at a time as the taps allow


def rows(
    signal: TestSignal, first: int, n: int, n_channels: int, dtype: Dtype
) -> NDArray[Any] | None:
    """What samples first .. first + n - 1 are; None for a signal whose place is not in the index."""
    index = np.arange(first, first + n, dtype=np.uint64)[:, None]
    channel = np.arange(n_channels, dtype=np.uint64)[None, :]
    top = (1 << _BITS.get(dtype, 15)) - 1
    if signal is TestSignal.ZEROS:
        values = np.zeros((n, n_channels), dtype=np.uint64)
    elif signal is TestSignal.RAMP:
        values = (index + channel) & np.uint64(top)
    elif signal is TestSignal.SQUARE:
        values = (
            (index // np.uint64(SQUARE_SAMPLES) & np.uint64(1)) * np.uint64(top)
        ) | channel * 0
    else:
        return None
    return values.astype(dtype.memory)


def n_wrong(signal: TestSignal, first: int, data: NDArray[Any], dtype: Dtype) -> int:
    """How many values of consecutive samples are not what they should be; of PRBS-31 how many bits."""
    if signal is TestSignal.PRBS31:
        if dtype not in _PRBS_BYTES:
            return int(data.size)  # bits of any pattern are no numbers: not sent as float
        wide = np.ascontiguousarray(data, dtype=data.dtype.newbyteorder("<"))
        packed = wide.view(np.uint8).reshape(data.size, -1)[:, : _PRBS_BYTES[dtype]]
        return prbs_errors(np.ascontiguousarray(packed).reshape(-1))
    expected = rows(signal, first, len(data), data.shape[1], dtype)
    return int(data.size if expected is None else np.count_nonzero(data != expected))


def prbs_errors(packed: NDArray[Any]) -> int:
    """Bits that break the recurrence, bytes in order, least significant bit first.

    It needs no beginning: each bit follows from earlier ones. A single wrong bit breaks up to three.
    """
    bits = np.unpackbits(packed, bitorder="little")
    long, short = _TAPS
    if bits.size <= long:
        return 0
    wrong = int(np.count_nonzero(bits[long:] != (bits[:-long] ^ bits[long - short : -short])))
    return wrong + (0 if bits.any() else int(bits.size))


class Prbs31:
    """The bits themselves, for a device that sends them."""

    def __init__(self, seed: int) -> None:
        state = np.array([seed >> bit & 1 for bit in range(31)], dtype=np.uint8)
        if not state.any():
            state[0] = 1
        self._past = state

    def take(self, n_bytes: int) -> bytes:
        """The next bytes."""
        n = 8 * n_bytes
        bits = self._past
        start = bits.size
        while bits.size < start + n:
            fold = 1 << min(_SQUARINGS, max(0, (bits.size // _TAPS[0]).bit_length() - 1))
            step = min(_TAPS[1] * fold, start + n - bits.size)
            long, short = (bits.size - tap * fold for tap in _TAPS)
            bits = np.concatenate((bits, bits[long : long + step] ^ bits[short : short + step]))
        self._past = bits[-_TAPS[0] << _SQUARINGS :]
        return np.packbits(bits[start:], bitorder="little").tobytes()
