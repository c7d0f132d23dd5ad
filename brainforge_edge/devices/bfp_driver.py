"""What our own devices have in common: BFP/1 over serial, TCP or UDP (docs/bfp.md).

Protocol: our own. Quirks: a device keeps running when the box goes away, so one that already
streams is joined, not restarted: its sample index goes on and a gap is exact.
Runs in: acquire process, pull thread; `command` and `close` also from others.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from brainforge_edge.core.block import BlockFlag, Marker, SampleBlock
from brainforge_edge.core.clock import Clock
from brainforge_edge.core.clockfit import ClockState
from brainforge_edge.core.errors import DeviceError
from brainforge_edge.core.stream import DeviceInfo, StreamInfo
from brainforge_edge.devices import bfp_commands as commands
from brainforge_edge.devices.base import (
    DeviceCommand,
    DeviceReply,
    LinkCounters,
    Notice,
    Transport,
    not_open,
    silent,
)
from brainforge_edge.devices.bfp import (
    NOT_STARTED,
    Descriptor,
    EventCode,
    FrameType,
    PayloadType,
    Register,
    event_of,
    samples_per_packet,
    unpack_descriptor,
)
from brainforge_edge.devices.bfp_beside import (
    Residuals,
    Triggers,
    residual_info,
    trigger_info,
)
from brainforge_edge.devices.bfp_clock import Probes, RoundTrip
from brainforge_edge.devices.bfp_decoder import BfpDecoder
from brainforge_edge.devices.bfp_description import stream_infos
from brainforge_edge.devices.bfp_handshake import check_identity, check_serial, no_time
from brainforge_edge.devices.bfp_health import Health
from brainforge_edge.devices.bfp_registers import Registers
from brainforge_edge.devices.network import is_datagram
from brainforge_edge.kernels.crc import crc32c

_PROBES = 6
_PROBE_S = 0.1
_ALIVE_S = 3.0  # a device in start-up or standby tells its status each second


class Settings(Protocol):
    """What the `Config` of each kind has."""

    @property
    def port(self) -> str: ...
    @property
    def baud(self) -> int: ...
    @property
    def silent_s(self) -> float: ...
    @property
    def serial_number(self) -> str: ...


class Part(Protocol):
    """What one kind has beside the others."""

    identity: int
    noun: str
    has_states: bool  # a start-up machine

    def prepare(
        self, registers: Registers, infos: tuple[StreamInfo, ...], health: Health
    ) -> tuple[StreamInfo, ...]:
        """Set registers before the streams are switched on; the streams as they will be."""
        ...

    def command(
        self, command: DeviceCommand, registers: Registers, health: Health
    ) -> dict[str, Any] | None:
        """Values of the reply; None for a command that this kind does not know."""
        ...


class BfpDriver:
    """One device; see `devices.base.Driver`."""

    def __init__(
        self,
        part: Part,
        config: Settings,
        *,
        device: str,
        clock: Clock,
        open_transport: Callable[[], Transport],
    ) -> None:
        self.info: DeviceInfo | None = None
        self.events: deque[tuple[int, int, bytes]] = deque(maxlen=1000)  # code, sample index, body
        self._part = part
        self._config = config
        self._device = device
        self._clock = clock
        self._open_transport = open_transport
        self._transport: Transport | None = None
        self._decoder = BfpDecoder({}, clk_hz=1e7, schema=0, flags=BlockFlag(0))  # control
        self._health = Health({}, has_states=part.has_states)
        self._probes = Probes()
        self._marks: list[Marker] = []
        self._early: list[tuple[bytes, int]] = []  # read during the handshake, decoded after it
        self._ready: list[SampleBlock] = []
        self._beside: list[SampleBlock] = []  # told between samples
        self._registers: Registers | None = None
        self._is_streaming = False
        self._last_data_ns = self._heard_ns = self._read_ns = 0
        self._is_changed = False
        self._pace_hz = 0.0  # of the only stream of a link: its reader may rest between frames

    @property
    def counters(self) -> LinkCounters:
        return self._decoder.counters

    def open(self) -> tuple[StreamInfo, ...]:
        self._transport = transport = self._open_transport()
        token = self._clock.monotonic_ns() >> 10
        registers = Registers(transport, clock=self._clock, token=token, pump=self._pump)
        self._registers = registers
        check_identity(registers, self._part.identity, self._part.noun, self._config.port)
        packed = registers.read_descriptor()
        descriptor = unpack_descriptor(packed)
        check_serial(descriptor, self._config.serial_number, self._part.noun, self._config.port)
        infos = stream_infos(descriptor, self._device)
        numbers = [stream.id for stream in descriptor.streams]
        self._health = Health(
            dict(zip(numbers, infos, strict=True)), has_states=self._part.has_states
        )
        infos = self._part.prepare(registers, infos, self._health)
        start_ticks = self._switch_on(registers, descriptor)
        trip = self._round_trip(transport)
        decoder = self._make_decoder(descriptor, infos, crc32c(packed) & 0xFFFF)
        beside = self._add_beside(decoder, descriptor, infos, registers)
        if len(infos) == 1 and not is_datagram(self._config.port):
            self._pace_hz = infos[0].sfreq
            decoder.scanner.pace(self._pace_hz)
        if start_ticks != NOT_STARTED:
            for number in numbers:
                decoder.seed(
                    number,
                    boot=trip.boot,
                    start_ticks=start_ticks,
                    ticks=trip.ticks,
                    host_ns=trip.host_ns,
                )
            decoder.probe(trip.ticks, trip.host_ns, trip.rtt_ns, boot=trip.boot)
        self._decoder = decoder  # nothing is asked any more: all bytes go to it, in their order
        self.info = DeviceInfo(
            who_am_i=self._part.noun,
            serial_number=descriptor.serial_number,
            hardware_version=descriptor.hardware,
            firmware_version=descriptor.firmware,
            operation_mode="active",
        )
        self._last_data_ns = self._heard_ns = self._clock.monotonic_ns()
        for data, arrived_ns in self._early:
            self._ready += decoder.feed(data, arrived_ns)
        self._early.clear()
        decoder.control()  # answered above
        self._is_streaming = True
        return (*infos, *beside)

    def read(self, timeout_s: float) -> Sequence[SampleBlock]:
        transport = self._transport
        if transport is None:
            raise not_open(self._device)
        decoder = self._decoder
        if decoder.needs_descriptor or self._is_changed:
            raise _changed(self._device)
        if self._ready:
            blocks, self._ready = self._ready, []
            return blocks
        if self._read_ns >= self._probes.due_ns:
            self._ask_time(transport)  # before the read: a link that is lost takes no rows with it
        n_bytes = transport.fill(decoder.scanner, timeout_s)
        self._read_ns = now = self._clock.monotonic_ns()
        blocks = decoder.found(decoder.scanner.items(), n_bytes, now) if n_bytes else []
        if blocks:
            self._last_data_ns = now
        if decoder.has_control:
            self._take_control(now)
        if not blocks:
            self._refuse_silence(now)
        elif self._beside:  # alone they would look as if samples came
            blocks += self._beside
            self._beside = []
        return blocks

    @property
    def waits_for(self) -> str:
        return self._health.waits_for

    @property
    def status(self) -> dict[str, Any]:
        """Figures of the device; another thread may read them."""
        return self._health.status

    def markers(self) -> list[Marker]:
        """Stretches that are no measurement, and results of tests; each is told as a notice too."""
        ended = self._decoder.spans.take()
        for marker in ended:
            self._health.tell_span(marker)
        if self._marks:
            ended, self._marks = ended + self._marks, []
        return ended

    def notices(self) -> list[Notice]:
        return self._health.take()

    def proof(self, stream_id: str) -> str:
        return self._decoder.proof(stream_id)

    def clock(self, stream_id: str) -> ClockState | None:
        return self._decoder.fit(stream_id).state

    def command(self, command: DeviceCommand) -> DeviceReply:
        """What every kind can do, in `bfp_commands`, and what its part can."""
        registers = self._registers
        if registers is None or not self._is_streaming:
            raise not_open(self._device)
        values = self._part.command(command, registers, self._health)
        if values is None:
            values = commands.common(
                command, registers, self._decoder, self._health, device=self._device
            )
        return DeviceReply(name=command.name, values=values)

    def guard(self, *, is_recorded: bool) -> None:
        """PROTECTED: the device refuses by itself, whoever asks. Older firmware has no such register."""
        registers = self._registers
        if registers is None or not self._is_streaming:
            raise not_open(self._device)
        is_known = commands.protect(registers, is_recorded=is_recorded)
        self._health.note({"protected": is_known and is_recorded})

    def close(self) -> None:
        transport = self._transport
        if transport is not None:
            transport.close()
        self._health.end()
        self._decoder.spans.end()

    def _switch_on(self, registers: Registers, descriptor: Descriptor) -> int:
        """Let the streams run; when sample 0 was, in ticks."""
        n_streams = len(descriptor.streams)
        if is_datagram(self._config.port):
            with contextlib.suppress(DeviceError):  # a device that runs may refuse
                most = samples_per_packet(descriptor)
                if registers.read_number(Register.FRAME_SAMPLES, PayloadType.U16) > most:
                    registers.write_number(Register.FRAME_SAMPLES, PayloadType.U16, most)
        registers.write_number(Register.KEEP_RUNNING, PayloadType.U8, 1)
        registers.write(Register.STREAM_EN, PayloadType.U8, b"\x01" * n_streams)
        registers.write_number(Register.OPERATION, PayloadType.U8, 1)
        return registers.read_number(Register.STREAM_START, PayloadType.U64)

    def _make_decoder(
        self, descriptor: Descriptor, infos: tuple[StreamInfo, ...], schema: int
    ) -> BfpDecoder:
        return BfpDecoder(
            {
                stream.id: (info, stream.format)
                for stream, info in zip(descriptor.streams, infos, strict=True)
            },
            clk_hz=descriptor.clk_hz,
            schema=schema,
            flags=BlockFlag.EMULATED if descriptor.emulated else BlockFlag(0),
        )

    def _add_beside(
        self,
        decoder: BfpDecoder,
        descriptor: Descriptor,
        infos: tuple[StreamInfo, ...],
        registers: Registers,
    ) -> list[StreamInfo]:
        """Streams of what comes with the samples, or between them."""
        for stream, info in zip(descriptor.streams, infos, strict=True):
            if stream.trigger and not decoder.triggers:  # one cable for all streams of a device
                decoder.triggers[stream.id] = Triggers(trigger_info(info))
        if self._part.has_states:
            period_ms = 0
            with contextlib.suppress(DeviceError):  # older firmware does not say
                period_ms = registers.read_number(Register.HEARTBEAT, PayloadType.U16)
            if period_ms:
                info = residual_info(infos[0], period_ms)
                flags = BlockFlag.EMULATED if descriptor.emulated else BlockFlag(0)
                decoder.residuals = Residuals(info, clk_hz=descriptor.clk_hz, flags=flags)
        beside = [words.info for words in decoder.triggers.values()]
        return beside + ([decoder.residuals.info] if decoder.residuals is not None else [])

    def _pump(self, timeout_s: float) -> None:
        """Bring answers: read the link while opening, else wait for the pull thread."""
        registers, transport = self._registers, self._transport
        assert registers is not None
        assert transport is not None
        if self._is_streaming:
            registers.answered.wait(timeout_s)
            return
        data = transport.read(timeout_s)
        now = self._clock.monotonic_ns()
        self._early.append((data, now))
        self._decoder.feed(data, now)
        self._take_control(now)

    def _refuse_silence(self, now: int) -> None:
        """A device that has no samples to give yet is well for as long as it says so."""
        if now - self._last_data_ns <= self._config.silent_s * 1e9:
            return
        if not self._health.waits_for:
            raise silent(self._device, self._config.silent_s)
        if now - max(self._heard_ns, self._last_data_ns) > _ALIVE_S * 1e9:
            raise silent(self._device, _ALIVE_S)

    def _take_control(self, now: int) -> None:
        for kind, stream, boot, ticks, payload in self._decoder.control():
            self._heard_ns = now
            if kind == FrameType.REP and self._registers is not None:
                self._registers.answer(payload)
            elif kind == FrameType.STATUS:
                fields_pt = self._health.take_status(stream, payload)
                self._beside += self._decoder.residual(fields_pt, ticks, boot)
            elif kind == FrameType.EVENT:
                self._take_event(payload, ticks, boot)
            elif kind == FrameType.TIME:
                self._take_time(payload, boot, now)
            elif kind == FrameType.HELLO and self._is_streaming:
                self._is_changed = True

    def _take_event(self, payload: bytes, ticks: int, boot: int) -> None:
        event = event_of(payload)
        if event is None:
            return
        code, _, body = event
        self.events.append(event)
        if code == EventCode.SELF_TEST:
            told = self._health.take_test(body)
            t_ns = self._decoder.box_ns(ticks, boot)
            if told and t_ns is not None:
                self._marks.append(Marker(t_ns, 0.0, told))
            return
        before = self._health.status.get("state")
        self._health.take_event(code, body)
        if (before, self._health.status.get("state")) == ("calibrate", "ready"):
            self._is_changed = self._is_streaming  # new scales: a new description of the streams

    def _take_time(self, payload: bytes, boot: int, now: int) -> None:
        trip = self._probes.answer(payload, boot, now)
        if trip is None or not self._is_streaming:
            return
        self._decoder.scanner.pace(self._pace_hz)
        self._decoder.probe(trip.ticks, trip.host_ns, trip.rtt_ns, boot=boot)
        self._health.note(self._decoder.figures() | {"rtt_us": trip.rtt_ns // 1000})

    def _ask_time(self, transport: Transport) -> None:
        self.counters.dropped_packets = transport.dropped_packets
        self._decoder.scanner.pace(0.0)  # an answer is not to wait for the next frame
        try:
            transport.write(self._probes.ask(self._clock.monotonic_ns()))
        except DeviceError as error:
            if error.code != "device.link_stuck":
                raise  # … one that streams but does not listen is no reason to cut

    def _round_trip(self, transport: Transport) -> RoundTrip:
        """The quickest of some."""
        probes = self._probes
        probes.seen.clear()
        for _ in range(_PROBES):
            sent = self._clock.monotonic_ns()
            transport.write(probes.question(sent))
            have = len(probes.seen)
            until = sent + round(_PROBE_S * 1e9)
            while len(probes.seen) == have and self._clock.monotonic_ns() < until:
                self._pump(_PROBE_S)
        if not probes.seen:
            raise no_time(self._device, _PROBES)
        return min(probes.seen)


def _changed(device: str) -> DeviceError:
    return DeviceError(
        "restarted",
        f"{device} has restarted or describes itself anew",
        why="its boot id, calibration or descriptor changed while it was streaming",
        remedy="The connection is made anew by itself",
        transient=True,
    )
