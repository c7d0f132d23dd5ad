"""A device of ours: BFP/1 firmware in Python. Runs in: emulator process, its only thread.

It keeps running when the cable is pulled: boot id and sample index go on, what could not be sent
is dropped and counted, and the first frame after it carries flag b1.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from brainforge_edge.devices.bfp import (
    AT_CHANGE,
    EVENT,
    HELLO,
    NOT_STARTED,
    STATE,
    STATUS,
    TESTED,
    TIME_REPLY,
    TIME_REQUEST,
    ChannelStatus,
    Descriptor,
    EventCode,
    FrameFlag,
    FrameType,
    StreamDescription,
    TestSignal,
    build_frame,
    pack_bits,
    pack_descriptor,
)
from brainforge_edge.emulators.bfp_cells import cells_of
from brainforge_edge.emulators.bfp_registers import EmulatedRegisters
from brainforge_edge.emulators.bfp_stream import EmulatedStream
from brainforge_edge.emulators.faults import CHANNEL, Faults
from brainforge_edge.emulators.ledger import Ledger
from brainforge_edge.emulators.opm_machine import OpmMachine
from brainforge_edge.emulators.pty import DeviceFifo
from brainforge_edge.kernels.crc import crc32c
from brainforge_edge.kernels.unpack import BfpScanner

CLK_HZ = 10_000_000
_HEARTBEAT_MS = 1000
_UNGUARDED_NS = 5_000_000_000
_SELF_TEST_NS = 300_000_000
_LONELY_NS = 3_000_000_000
_FAULT_BITS = {
    "rail": ChannelStatus.RAIL,
    "loop": ChannelStatus.LOOP_LIMIT,
    "laser": ChannelStatus.LASER,
    "cell": ChannelStatus.CELL,
}
_USABLE = int(ChannelStatus.STALE)  # bits that do not forbid to use a channel


class BfpDevice:
    """See `device.EmulatedDevice`. `rate_error` 0.003: its crystal runs 0.3 % fast, unannounced."""

    def __init__(
        self,
        streams: Sequence[EmulatedStream],
        *,
        kind: str,
        identity: int,
        ledger: Ledger,
        random: Callable[[int], bytes],
        now_ns: int,
        serial_number: str,
        frame_samples: int,
        fifo_s: float = 1.0,
        rate_error: float = 0.0,
        machine: OpmMachine | None = None,
        arrays: dict[int, bytearray] | None = None,
        faults: Faults | None = None,
    ) -> None:
        self.streams = tuple(streams)
        self.identity = identity
        self.frame_samples = frame_samples
        self.machine = machine
        self.arrays = arrays or {}
        self.keep_running = self.is_enabled = self.is_active = 0
        self.is_protected = 0
        self.heartbeat_ms = _HEARTBEAT_MS
        self._next_status_ns = now_ns
        self._tests = 0
        self._tested_ns: int | None = None
        self.test = TestSignal.OFF
        self._rate = 1.0 + rate_error
        self._faults = faults or Faults((), now_ns)
        self.fifo = DeviceFifo(self._fifo_bytes(fifo_s))
        self.descriptor = self._describe(kind, serial_number)
        self._schema = crc32c(self.descriptor) & 0xFFFF
        self._ledger = ledger
        self._random = random
        self._scanner = BfpScanner()
        self._is_plugged = self._is_running = False
        self.registers = EmulatedRegisters({}, descriptor=self.descriptor)
        self._boot(now_ns)

    # ---- what registers may ask and do ---------------------------------------------------------

    def ticks(self, now_ns: int) -> int:
        since = now_ns - self._boot_ns
        return (since if self._rate == 1.0 else int(since * self._rate)) * CLK_HZ // 1_000_000_000

    @property
    def start_ticks(self) -> int:
        return self._start_ticks if self._is_running else NOT_STARTED

    def start(self, now_ns: int) -> None:
        """Begin a run at index 0, unless one goes on; tell a host how things stand."""
        self._tell_status(now_ns)
        if self._is_running:
            return
        self._start_ticks = self.ticks(now_ns)
        self._start_ns = now_ns
        self._is_running = True
        for stream in self.streams:
            run_id = f"boot:{self.boot:04x}:start:{self._start_ticks}"
            stream.start(run_id, now_ns, 1e9 / (stream.sfreq * self._rate))

    def stop(self) -> None:
        self._is_running = False
        for stream in self.streams:
            stream.run = None

    def stand_by(self, now_ns: int) -> None:
        """Told to stop: it says so at once."""
        self.stop()
        self._next_status_ns = now_ns

    def protect(self, value: int) -> None:
        self.is_protected = value
        if self.machine is not None:
            self.machine.is_protected = value

    def begin_test(self, tests: int, now_ns: int) -> None:
        self._tests, self._tested_ns = tests, now_ns + _SELF_TEST_NS

    def restart(self, now_ns: int) -> None:
        self._forget()
        self._boot(now_ns)
        if self._is_plugged:
            self._hello(now_ns)

    # ---- EmulatedDevice ------------------------------------------------------------------------

    def produce(self, now_ns: int) -> None:
        if self._faults.due("boot", now_ns):
            self.restart(now_ns)
        self._advance(now_ns)
        if self.is_protected and now_ns - self._heard_ns > _UNGUARDED_NS:
            self.protect(0)  # whoever recorded is gone
        if self._tested_ns is not None and now_ns >= self._tested_ns:
            self._tell_test(now_ns)
        if self._is_running:
            if now_ns - self._heard_ns > _LONELY_NS and not self.keep_running:
                self.stop()
            for stream in self.streams:
                self._emit_due(stream, now_ns)
        if now_ns >= self._next_status_ns:
            self._tell_status(now_ns, is_periodic=True)
            self._next_status_ns = self._period_after(now_ns)

    def next_due_ns(self) -> int | None:
        due = [self._next_status_ns]
        if self._is_running:
            due += [self._due_ns(stream) for stream in self.streams]
        if self._tested_ns is not None:
            due.append(self._tested_ns)
        step = self.machine.next_due_ns() if self.machine is not None else None
        return min([*due, step] if step is not None else due)

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
        self._forget()

    # ---- inside --------------------------------------------------------------------------------

    def _boot(self, now_ns: int) -> None:
        self.boot = int.from_bytes(self._random(2), "little")
        self._boot_ns = now_ns
        self._start_ticks = self._start_ns = 0
        self._is_attached = False
        self._heard_ns = now_ns
        self._next_status_ns = self._period_after(now_ns)
        self._control_seq = 0
        self._told = b""
        self.keep_running = self.is_enabled = self.is_active = self.is_protected = 0
        self.test = TestSignal.OFF
        self._tested_ns = None
        self.stop()
        for stream in self.streams:
            stream.seq = stream.dropped_samples = 0
        if self.machine is not None:
            self.machine.boot()
        self.registers = EmulatedRegisters(cells_of(self), descriptor=self.descriptor)

    def _advance(self, now_ns: int) -> None:
        """The start-up machine, and faults that change channels."""
        machine = self.machine
        if machine is not None:
            if self._faults.due("fault", now_ns):
                machine.fail()
            for state, percent, failed in machine.advance(now_ns):
                body = EVENT.pack(EventCode.STATE, self.streams[0].index)
                self._send(FrameType.EVENT, body + STATE.pack(state, percent) + failed, now_ns)
        if self._channels(self.streams[0], now_ns) != self._told:
            self._tell_status(now_ns)

    def _channels(self, stream: EmulatedStream, now_ns: int) -> bytes:
        """A status byte for each channel."""
        states = bytearray(stream.n_channels)
        if stream is self.streams[0]:
            if self.machine is not None:
                states[:] = self.machine.status.tobytes()
            for kind in self._faults.active(now_ns):
                states[min(CHANNEL, len(states) - 1)] |= int(_FAULT_BITS.get(kind, 0))
        return bytes(states)

    def _due_ns(self, stream: EmulatedStream) -> int:
        last = stream.index + self.frame_samples - 1
        return self._start_ns + math.ceil(last * 1e9 / (stream.sfreq * self._rate))

    def _emit_due(self, stream: EmulatedStream, now_ns: int) -> None:
        elapsed = (now_ns - self._start_ns) * self._rate
        taken = int(elapsed * stream.sfreq / 1e9) + 1
        while stream.index + self.frame_samples <= taken:
            self._emit(stream, now_ns)
            self._mark_seam(stream, now_ns)

    def _emit(self, stream: EmulatedStream, now_ns: int) -> None:
        run, n = stream.run, self.frame_samples
        assert run is not None
        first = stream.index
        stream.index += n
        run.rows = stream.index
        seq = stream.seq
        stream.seq += 1
        active = self._faults.active(now_ns)
        if not self._is_attached or "overflow" in active:
            stream.drop(first, n)
            return
        channels = self._channels(stream, now_ns)
        bad = [at for at, state in enumerate(channels) if state & ~_USABLE]
        hangs = "rail" in active and stream is self.streams[0]
        payload, touches = stream.payload(
            first,
            n,
            schema=self._schema,
            status=pack_bits(bad, len(channels)),
            test=self.test,
            railed=min(CHANNEL, stream.n_channels - 1) if hangs else None,
        )
        frame = build_frame(
            FrameType.DATA,
            payload,
            stream=stream.number,
            flags=self._flags(stream) | (FrameFlag.SATURATED if touches else 0),
            seq=seq,
            ticks=self._start_ticks + round(first * CLK_HZ / stream.sfreq),
            boot=self.boot,
        )
        if self.fifo.put(frame, first=first, rows=n, stream=stream.number):
            stream.is_first = stream.has_dropped = False
        else:
            stream.drop(first, n)

    def _flags(self, stream: EmulatedStream) -> int:
        flags = FrameFlag.FIRST if stream.is_first else FrameFlag(0)
        if stream.has_words:
            flags |= FrameFlag.DIGITAL
        if stream.has_dropped:
            flags |= FrameFlag.DROPPED
        if self.test is not TestSignal.OFF or self._tested_ns is not None:
            flags |= FrameFlag.TEST_SIGNAL
        if self.machine is not None and self.machine.is_zeroing:
            flags |= FrameFlag.ZEROING
        return flags

    def _mark_seam(self, stream: EmulatedStream, now_ns: int) -> None:
        """Say where the recording of the first stream began anew, if it was in the last frame."""
        if stream is not self.streams[0]:
            return
        seam = (stream.index - 1) // stream.source.loop_rows * stream.source.loop_rows
        if self._is_attached and 0 < seam >= stream.index - self.frame_samples:
            self._send(FrameType.EVENT, EVENT.pack(EventCode.SEAM, seam) + b"seam", now_ns)

    def _forget(self) -> None:
        for number, first, n in self.fifo.clear():
            next(s for s in self.streams if s.number == number).drop(first, n)

    def _send(self, kind: FrameType, payload: bytes, now_ns: int, *, stream: int = 0) -> None:
        """Frames other than DATA are counted together, whatever stream they tell of."""
        is_full = self.fifo.level > self.fifo.size
        if not self._is_plugged or (is_full and kind is FrameType.STATUS):
            return
        seq, self._control_seq = self._control_seq, self._control_seq + 1
        ticks = self.ticks(now_ns)
        self.fifo.put(
            build_frame(kind, payload, stream=stream, seq=seq, ticks=ticks, boot=self.boot)
        )

    def _hello(self, now_ns: int) -> None:
        payload = HELLO.pack(self.identity, crc32c(self.descriptor), self.start_ticks)
        self._send(FrameType.HELLO, payload, now_ns)

    def _tell_status(self, now_ns: int, *, is_periodic: bool = False) -> None:
        for at, stream in enumerate(self.streams):
            channels = self._channels(stream, now_ns)
            fixed = STATUS.pack(
                (now_ns - self._boot_ns) // 1_000_000_000,
                3_100,
                5_000,
                min(1000, 1000 * self.fifo.level // self.fifo.size),
                min(1000, 1000 * self.fifo.high_water // self.fifo.size),
                stream.dropped_samples,
                self._scanner.bad_crcs,
                self.machine.state if self.machine is not None else int(self._is_running),
                0 if is_periodic else AT_CHANGE,
            )
            fields = (
                self.machine.fields_pt.tobytes() if self.machine is not None and not at else b""
            )
            self._send(
                FrameType.STATUS,
                fixed + channels + fields,
                now_ns,
                stream=stream.number if at else 0,
            )
            if not at:
                self._told = channels

    def _period_after(self, now_ns: int) -> int:
        """When the device's own clock comes to the next whole period of STATUS since boot."""
        period = self.heartbeat_ms * CLK_HZ // 1000
        due = (self.ticks(now_ns) // period + 1) * period
        return self._boot_ns + math.ceil(due * (1_000_000_000 // CLK_HZ) / self._rate)

    def _tell_test(self, now_ns: int) -> None:
        """A channel that is not as it should be fails, whatever is tested."""
        self._tested_ns = None
        channels = self._channels(self.streams[0], now_ns)
        failed = [at for at, state in enumerate(channels) if state & ~_USABLE]
        body = EVENT.pack(EventCode.SELF_TEST, self.streams[0].index) + TESTED.pack(self._tests)
        self._send(FrameType.EVENT, body + pack_bits(failed, len(channels)), now_ns)

    def _fifo_bytes(self, fifo_s: float) -> int:
        size, most = 0.0, 0
        for stream in self.streams:
            width = 3 if stream.form == 0x03 else 4
            data = self.frame_samples * stream.n_channels * width
            frame_bytes = 24 + 16 + (stream.n_channels + 7) // 8 + data + 4
            size += frame_bytes * stream.sfreq / self.frame_samples
            most = max(most, frame_bytes)
        return max(2 * most, math.ceil(size * fifo_s))

    def _describe(self, kind: str, serial_number: str) -> bytes:
        streams: list[Any] = [
            StreamDescription(
                id=stream.number,
                name=stream.name,
                sfreq=stream.sfreq,
                format=stream.form,
                channels=stream.source.channels,
                trigger=stream.has_words,
            )
            for stream in self.streams
        ]
        return pack_descriptor(
            Descriptor(
                kind=kind,
                clk_hz=CLK_HZ,
                streams=tuple(streams),
                serial_number=serial_number,
                firmware="emulator 1",
                hardware="none",
                emulated=True,
            )
        )
