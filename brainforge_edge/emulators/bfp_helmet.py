"""An OPM helmet of ours: BFP/1 firmware in Python. Runs in: emulator process, its only thread.

It keeps running when the cable is pulled: boot id and sample index go on, what could not be sent
is dropped and counted, and the first frame after it carries flag b1.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.devices.bfp import (
    DATA_HEADER,
    EVENT,
    HELLO,
    NOT_STARTED,
    STATUS,
    TIME_REPLY,
    TIME_REQUEST,
    Descriptor,
    EventCode,
    FrameFlag,
    FrameType,
    StreamDescription,
    build_frame,
    pack_descriptor,
)
from brainforge_edge.emulators.bfp_registers import HelmetRegisters
from brainforge_edge.emulators.ledger import Ledger, Run
from brainforge_edge.emulators.pty import DeviceFifo
from brainforge_edge.emulators.source import RAIL, RowSource
from brainforge_edge.kernels.crc import crc32c
from brainforge_edge.kernels.unpack import BfpScanner, pack24

CLK_HZ = 10_000_000
FRAME_SAMPLES = 8
STREAM_ID = 1
FORMAT_I24 = 0x03
_STATUS_NS = 1_000_000_000
_LONELY_NS = 3_000_000_000
_LOOP_MOST = 64 * 1024 * 1024


class Helmet:
    """See `device.EmulatedDevice`. `identity` is for tests of a wrong device on the port."""

    def __init__(
        self,
        source: RowSource,
        *,
        ledger: Ledger,
        random: Callable[[int], bytes],
        now_ns: int,
        sfreq: float | None = None,
        fifo_s: float = 1.0,
        serial_number: str = "BF-OPM-EMU-1",
        identity: int = 0xBF01,
    ) -> None:
        self.source = source
        self.sfreq = sfreq or source.sfreq
        self.ledger = ledger
        self.identity = identity
        n_channels = len(source.channels)
        self._status_block = bytes((n_channels + 7) // 8)
        frame_bytes = 24 + 16 + len(self._status_block) + FRAME_SAMPLES * n_channels * 3 + 4
        rate = frame_bytes * self.sfreq / FRAME_SAMPLES
        self.fifo = DeviceFifo(max(2 * frame_bytes, math.ceil(rate * fifo_s)))
        description = StreamDescription(
            id=STREAM_ID,
            name="mag",
            sfreq=self.sfreq,
            format=FORMAT_I24,
            channels=source.channels,
        )
        self.descriptor = pack_descriptor(
            Descriptor(
                kind="opm",
                clk_hz=CLK_HZ,
                streams=(description,),
                serial_number=serial_number,
                firmware="emulator 1",
                hardware="none",
                emulated=True,
            )
        )
        self._schema = crc32c(self.descriptor) & 0xFFFF
        self._packed, self._railed = _pack_loop(source)
        self._random = random
        self._run: Run | None = None
        self._next_status_ns = now_ns
        self.registers = HelmetRegisters(self)
        self._scanner = BfpScanner()
        self._is_plugged = False
        self._boot(now_ns)

    # ---- what registers may ask and do ---------------------------------------------------------

    def ticks(self, now_ns: int) -> int:
        return (now_ns - self._boot_ns) * CLK_HZ // 1_000_000_000

    @property
    def start_ticks(self) -> int:
        return NOT_STARTED if self._run is None else self._start_ticks

    def start(self, now_ns: int) -> None:
        """Begin a run at index 0, unless one goes on."""
        if self._run is not None:
            return
        self._start_ticks = self.ticks(now_ns)
        self._start_ns = now_ns
        self._index = 0
        self._is_first = True
        self._has_dropped = False
        self._run = self.ledger.start(f"boot:{self.boot:04x}:start:{self._start_ticks}", now_ns)

    def stop(self) -> None:
        self._run = None

    # ---- EmulatedDevice ------------------------------------------------------------------------

    def produce(self, now_ns: int) -> None:
        run = self._run
        if run is not None:
            lonely = now_ns - self._heard_ns > _LONELY_NS
            if lonely and not self.registers.keep_running:
                self.stop()
            else:
                taken = int((now_ns - self._start_ns) * self.sfreq / 1e9) + 1
                while self._index + FRAME_SAMPLES <= taken:
                    self._emit(run)
                    self._mark_seam(now_ns)
        if now_ns >= self._next_status_ns:
            self._next_status_ns = now_ns + _STATUS_NS
            self._send(FrameType.STATUS, self._status(now_ns), now_ns)

    def next_due_ns(self) -> int | None:
        if self._run is None:
            return self._next_status_ns
        last = self._index + FRAME_SAMPLES - 1
        return min(self._next_status_ns, self._start_ns + math.ceil(last * 1e9 / self.sfreq))

    def receive(self, data: bytes, now_ns: int) -> None:
        self._heard_ns = now_ns
        self._is_attached = True
        for number, item in enumerate(self._scanner.feed(data)):
            payload = self._scanner.payload(number)
            if item[0] == FrameType.REQ:
                reply = self.registers.answer(payload, now_ns)
                if reply:
                    self._send(FrameType.REP, reply, now_ns)
            elif item[0] == FrameType.TIME and len(payload) == TIME_REQUEST.size:
                (t1,) = TIME_REQUEST.unpack(payload)
                ticks = self.ticks(now_ns)
                self._send(FrameType.TIME, TIME_REPLY.pack(t1, ticks, ticks), now_ns)

    def plugged(self, now_ns: int) -> None:
        self._is_plugged = True
        self._is_attached = False
        self._scanner.reset()
        self._hello(now_ns)

    def unplugged(self, now_ns: int) -> None:  # noqa: ARG002  part of the protocol
        self._is_plugged = self._is_attached = False
        spans = self.fifo.clear()
        if self._run is not None:
            for first, n in spans:
                self._drop(self._run, first, n)

    def restart(self, now_ns: int) -> None:
        spans = self.fifo.clear()
        if self._run is not None:
            for first, n in spans:
                self._run.drop(first, n)
        self._boot(now_ns)
        if self._is_plugged:
            self._hello(now_ns)

    # ---- inside --------------------------------------------------------------------------------

    def _boot(self, now_ns: int) -> None:
        self.boot = int.from_bytes(self._random(2), "little")
        self._boot_ns = now_ns
        self._run = None
        self._start_ticks = self._start_ns = 0
        self._index = 0
        self._is_first = self._has_dropped = False
        self._is_attached = False
        self._heard_ns = now_ns
        self._next_status_ns = now_ns + _STATUS_NS
        self._seq: dict[int, int] = {}
        self._dropped_samples = 0
        self.registers = HelmetRegisters(self)

    def _emit(self, run: Run) -> None:
        first = self._index
        self._index += FRAME_SAMPLES
        run.rows = self._index
        seq = self._next_seq(STREAM_ID)
        if not self._is_attached:
            self._drop(run, first, FRAME_SAMPLES)
            return
        flags = FrameFlag.FIRST if self._is_first else FrameFlag(0)
        if self._has_dropped:
            flags |= FrameFlag.DROPPED
        samples, is_railed = self._samples(first)
        if is_railed:
            flags |= FrameFlag.SATURATED
        n_channels = len(self.source.channels)
        head = DATA_HEADER.pack(first, FRAME_SAMPLES, n_channels, FORMAT_I24, 1, self._schema)
        frame = build_frame(
            FrameType.DATA,
            b"".join((head, self._status_block, samples)),
            stream=STREAM_ID,
            flags=flags,
            seq=seq,
            ticks=self._start_ticks + round(first * CLK_HZ / self.sfreq),
            boot=self.boot,
        )
        if self.fifo.put(frame, first=first, rows=FRAME_SAMPLES):
            self._is_first = self._has_dropped = False
        else:
            self._drop(run, first, FRAME_SAMPLES)

    def _mark_seam(self, now_ns: int) -> None:
        """Say where the recording began anew, if it was in the last frame."""
        seam = (self._index - 1) // self.source.loop_rows * self.source.loop_rows
        if self._is_attached and 0 < seam >= self._index - FRAME_SAMPLES:
            self._send(FrameType.EVENT, EVENT.pack(EventCode.SEAM, seam) + b"seam", now_ns)

    def _drop(self, run: Run, first: int, n: int) -> None:
        run.drop(first, n)
        self._dropped_samples += n
        self._has_dropped = True

    def _samples(self, first: int) -> tuple[bytes, bool]:
        at = first % self.source.loop_rows
        if self._packed is None or at + FRAME_SAMPLES > self.source.loop_rows:
            rows = self.source.rows(first, FRAME_SAMPLES)
            return _packed(rows).tobytes(), bool((np.abs(rows) >= RAIL).any())
        samples = self._packed[at : at + FRAME_SAMPLES]
        counter = self.source.counter_channel
        if counter is not None:
            samples = samples.copy()
            index = (np.arange(first, first + FRAME_SAMPLES) % (RAIL + 1)).astype("<i4")
            samples[:, counter] = index.view(np.uint8).reshape(-1, 4)[:, :3]
        return samples.tobytes(), bool(self._railed[at : at + FRAME_SAMPLES].any())

    def _next_seq(self, stream: int) -> int:
        seq = self._seq.get(stream, 0)
        self._seq[stream] = seq + 1
        return seq

    def _send(self, frame_type: FrameType, payload: bytes, now_ns: int) -> None:
        if self._is_plugged:
            frame = build_frame(
                frame_type,
                payload,
                seq=self._next_seq(0),
                ticks=self.ticks(now_ns),
                boot=self.boot,
            )
            self.fifo.put(frame)

    def _hello(self, now_ns: int) -> None:
        payload = HELLO.pack(self.identity, crc32c(self.descriptor), self.start_ticks)
        self._send(FrameType.HELLO, payload, now_ns)

    def _status(self, now_ns: int) -> bytes:
        fixed = STATUS.pack(
            (now_ns - self._boot_ns) // 1_000_000_000,
            3_100,
            5_000,
            min(1000, 1000 * self.fifo.level // self.fifo.size),
            min(1000, 1000 * self.fifo.high_water // self.fifo.size),
            self._dropped_samples,
            self._scanner.bad_crcs,
            0 if self._run is None else 1,
            0,
        )
        n_channels = len(self.source.channels)
        return fixed + bytes(n_channels) + bytes(4 * n_channels)


def _packed(rows: NDArray[Any]) -> NDArray[Any]:
    """(n, n_channels, 3) little-endian bytes of int32 rows."""
    packed = np.empty((*rows.shape, 3), dtype=np.uint8)
    pack24(np.ascontiguousarray(rows).reshape(-1), packed.reshape(-1))
    return packed


def _pack_loop(source: RowSource) -> tuple[NDArray[Any] | None, NDArray[Any]]:
    """The whole loop as bytes, if it is not too long, and which of its rows touch a rail."""
    if source.loop_rows * len(source.channels) * 3 > _LOOP_MOST:
        return None, np.zeros(0, dtype=bool)
    rows = source.rows(0, source.loop_rows)
    return _packed(rows), (np.abs(rows) >= RAIL).any(axis=1)
