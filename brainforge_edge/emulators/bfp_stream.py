"""One stream of an emulated BFP/1 device: rows into the payload of DATA frames.

Runs in: emulator process, its only thread.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.stream import Dtype
from brainforge_edge.devices.bfp import DATA_HEADER, FORMATS, TestSignal
from brainforge_edge.devices.bfp_test_signal import Prbs31
from brainforge_edge.devices.bfp_test_signal import rows as test_rows
from brainforge_edge.emulators.ledger import Ledger, Run
from brainforge_edge.emulators.source import RAIL, PulsedSource, PulseTrain, RowSource
from brainforge_edge.kernels.unpack import pack24

_LOOP_MOST = 64 * 1024 * 1024


class EmulatedStream:
    """`number` on the wire; `sfreq` as it is announced. A run counts its samples from 0."""

    def __init__(
        self,
        number: int,
        name: str,
        source: RowSource,
        *,
        form: int,
        sfreq: float,
        ledger: Ledger,
        pulses: PulseTrain | None = None,
        has_words: bool = False,
    ) -> None:
        self.number = number
        self.has_words = has_words
        self.name = name
        self.source = source
        self.sfreq = sfreq
        self.form = form
        self.n_channels = len(source.channels)
        self.ledger = ledger
        self.run: Run | None = None
        self.index = 0
        self.seq = 0
        self.is_first = True
        self.has_dropped = False
        self.dropped_samples = 0
        self._dtype = FORMATS[form]
        self._pulses = pulses
        self._rows: RowSource = source
        self._prbs = Prbs31(number)
        self._packed: NDArray[Any] | None = None
        self._railed: NDArray[Any] | None = None
        if self._dtype is Dtype.I24:
            self._packed, self._railed = _pack_loop(source)

    def start(self, run_id: str, now_ns: int, sample_ns: float) -> None:
        self.index = 0
        self.is_first, self.has_dropped = True, False
        self.run = self.ledger.start(run_id, now_ns)
        if self._pulses is not None:
            self._rows = PulsedSource(
                self.source, self._pulses, first_ns=now_ns, sample_ns=sample_ns
            )

    def drop(self, first: int, n: int) -> None:
        if self.run is not None:
            self.run.drop(first, n)
        self.dropped_samples += n
        self.has_dropped = True

    def payload(
        self,
        first: int,
        n: int,
        *,
        schema: int,
        status: bytes,
        test: TestSignal,
        railed: int | None,
    ) -> tuple[bytes, bool]:
        """(payload of a DATA frame, whether a sample touches a rail). `railed`: a channel that hangs."""
        head = DATA_HEADER.pack(first, n, self.n_channels, self.form, 1, schema)
        samples, touches = self._samples(first, n, test, railed)
        words = self._words(first, n) if self.has_words else b""
        return b"".join((head, status, words, samples)), touches

    def _words(self, first: int, n: int) -> bytes:
        """Bit 0 while most of a sample lies in a pulse."""
        if not isinstance(self._rows, PulsedSource):
            return bytes(2 * n)
        return (self._rows.part(first, n) >= 0.5).astype("<u2").tobytes()

    def _samples(
        self, first: int, n: int, test: TestSignal, railed: int | None
    ) -> tuple[bytes, bool]:
        if test is TestSignal.PRBS31:
            return self._prbs.take(n * self.n_channels * self._dtype.packed_bytes), False
        if test is not TestSignal.OFF:
            made = test_rows(test, first, n, self.n_channels, self._dtype)
            assert made is not None
            return self._bytes(made), False
        is_plain = self._pulses is None or (
            isinstance(self._rows, PulsedSource) and not self._rows.touches(first, n)
        )
        quick = self._quick(first, n) if is_plain and railed is None else None
        if quick is not None:
            return quick
        rows = self._rows.rows(first, n)
        if railed is not None:
            rows = rows.copy()
            rows[:, railed] = RAIL
        return self._bytes(rows), bool((np.abs(rows) >= RAIL).any())

    def _bytes(self, rows: NDArray[Any]) -> bytes:
        if self._dtype is Dtype.I24:
            return _pack(rows).tobytes()
        return rows.astype(self._dtype.memory).tobytes()

    def _quick(self, first: int, n: int) -> tuple[bytes, bool] | None:
        """From the packed loop; None where it cannot be."""
        at = first % self.source.loop_rows
        if self._packed is None or self._railed is None or at + n > self.source.loop_rows:
            return None
        samples = self._packed[at : at + n]
        counter = self.source.counter_channel
        if counter is not None:
            samples = samples.copy()
            index = (np.arange(first, first + n) % (RAIL + 1)).astype("<i4")
            samples[:, counter] = index.view(np.uint8).reshape(-1, 4)[:, :3]
        return samples.tobytes(), bool(self._railed[at : at + n].any())


def _pack(rows: NDArray[Any]) -> NDArray[Any]:
    """(n, n_channels, 3) little-endian bytes of int32 rows."""
    packed = np.empty((*rows.shape, 3), dtype=np.uint8)
    pack24(np.ascontiguousarray(rows, dtype=np.int32).reshape(-1), packed.reshape(-1))
    return packed


def _pack_loop(source: RowSource) -> tuple[NDArray[Any] | None, NDArray[Any]]:
    """The whole loop as bytes, if it is not too long, and which of its rows touch a rail."""
    if source.loop_rows * len(source.channels) * 3 > _LOOP_MOST:
        return None, np.zeros(0, dtype=bool)
    rows = source.rows(0, source.loop_rows)
    return _pack(rows), (np.abs(rows) >= RAIL).any(axis=1)
