"""OPM helmet: BFP/1 over USB CDC-ACM (docs/bfp.md).

Protocol: our own. Quirks: the helmet keeps running when the box goes away, so a helmet that
already streams is joined, not restarted: its sample index goes on and a gap is exact.
Runs in: acquire process, pull thread; `command` and `close` also from its main thread.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec

from brainforge_edge.core.block import BlockFlag, SampleBlock
from brainforge_edge.core.clock import Clock
from brainforge_edge.core.clockfit import ClockState
from brainforge_edge.core.errors import DeviceError
from brainforge_edge.core.stream import DeviceInfo, StreamInfo
from brainforge_edge.devices.base import (
    DeviceCommand,
    DeviceReply,
    LinkCounters,
    Transport,
    silent,
    unsupported,
)
from brainforge_edge.devices.bfp import (
    FORMATS,
    NOT_STARTED,
    TIME_REPLY,
    TIME_REQUEST,
    WHO_AM_I,
    Descriptor,
    FrameType,
    PayloadType,
    Register,
    build_frame,
    event_of,
    status_of,
    unpack_descriptor,
)
from brainforge_edge.devices.bfp_decoder import BfpDecoder
from brainforge_edge.devices.bfp_registers import Registers
from brainforge_edge.kernels.crc import crc32c

IDENTITY = 0xBF01
_PROBES = 6
_PROBE_S = 0.1


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[device.settings]` of kind "opm"."""

    port: Annotated[str, msgspec.Meta(min_length=1)]
    baud: Annotated[int, msgspec.Meta(ge=50, le=12_000_000)] = 115_200  # USB CDC ignores it
    silent_s: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] = (
        2.0  # without samples for this long the link is made anew
    )
    serial_number: str = ""  # refuse any other helmet; "" takes the one that answers


def make_driver(config: Config, *, device: str, clock: Clock) -> "OpmDriver":
    def open_transport() -> Transport:
        from brainforge_edge.devices.transport import open_serial  # noqa: PLC0415  pyserial on use

        return open_serial(config.port, baud=config.baud)

    return OpmDriver(config, device=device, clock=clock, open_transport=open_transport)


class OpmDriver:
    """One helmet; see `devices.base.Driver`."""

    def __init__(
        self,
        config: Config,
        *,
        device: str,
        clock: Clock,
        open_transport: Callable[[], Transport],
    ) -> None:
        self.counters = LinkCounters()
        self.info: DeviceInfo | None = None
        self.status: dict[str, Any] = {}
        self.events: deque[tuple[int, int, str]] = deque(maxlen=1000)  # code, sample index, text
        self._config = config
        self._device = device
        self._clock = clock
        self._open_transport = open_transport
        self._transport: Transport | None = None
        self._decoder = BfpDecoder({}, clk_hz=1e7, schema=0, flags=BlockFlag(0))  # control
        self._early: list[tuple[bytes, int]] = []  # read during the handshake, decoded after it
        self._ready: list[SampleBlock] = []
        self._registers: Registers | None = None
        self._time_replies: list[tuple[int, int, int, int]] = []
        self._is_streaming = False
        self._last_data_ns = 0
        self._restarted = False

    def open(self) -> tuple[StreamInfo, ...]:
        self._transport = self._open_transport()
        token = self._clock.monotonic_ns() >> 10
        registers = Registers(self._transport, clock=self._clock, token=token, pump=self._pump)
        self._registers = registers
        self._check_identity(registers)
        packed = registers.read_descriptor()
        descriptor = unpack_descriptor(packed)
        self._check_serial(descriptor)
        infos = self._describe(descriptor)
        registers.write_number(Register.KEEP_RUNNING, PayloadType.U8, 1)
        registers.write_number(Register.STREAM_EN, PayloadType.U8, 1)
        registers.write_number(Register.OPERATION, PayloadType.U8, 1)
        start_ticks = registers.read_number(Register.STREAM_START, PayloadType.U64)
        ticks, host_ns, boot = self._round_trip(self._transport)
        self._decoder = BfpDecoder(
            {
                stream.id: (info, stream.format)
                for stream, info in zip(descriptor.streams, infos, strict=True)
            },
            clk_hz=descriptor.clk_hz,
            schema=crc32c(packed) & 0xFFFF,
            flags=BlockFlag.EMULATED if descriptor.emulated else BlockFlag(0),
            counters=self.counters,
        )
        if start_ticks != NOT_STARTED:
            for stream in descriptor.streams:
                self._decoder.seed(
                    stream.id, boot=boot, start_ticks=start_ticks, ticks=ticks, host_ns=host_ns
                )
        self.info = DeviceInfo(
            who_am_i=WHO_AM_I[IDENTITY],
            serial_number=descriptor.serial_number,
            hardware_version=descriptor.hardware,
            firmware_version=descriptor.firmware,
            operation_mode="active",
        )
        self._last_data_ns = self._clock.monotonic_ns()
        for data, arrived_ns in self._early:
            self._ready += self._decoder.feed(data, arrived_ns)
        self._early.clear()
        self._decoder.control()  # answered above
        self._is_streaming = True
        return infos

    def read(self, timeout_s: float) -> Sequence[SampleBlock]:
        transport = self._transport
        if transport is None:
            raise _not_open(self._device)
        if self._decoder.needs_descriptor or self._restarted:
            raise _changed(self._device)
        if self._ready:
            blocks, self._ready = self._ready, []
            return blocks
        decoder = self._decoder
        n_bytes = transport.fill(decoder.scanner, timeout_s)
        now = self._clock.monotonic_ns()
        blocks = decoder.found(decoder.scanner.items(), n_bytes, now) if n_bytes else []
        if blocks:
            self._last_data_ns = now
        elif now - self._last_data_ns > self._config.silent_s * 1e9:
            raise silent(self._device, self._config.silent_s)
        self._take_control(now)
        return blocks

    def proof(self, stream_id: str) -> str:
        return self._decoder.proof(stream_id)

    def clock(self, stream_id: str) -> ClockState | None:
        return self._decoder.fit(stream_id).state

    def command(self, command: DeviceCommand) -> DeviceReply:
        """`read_register` and `write_register`: address, size (1, 2, 4, 8), and count or value."""
        registers = self._registers
        if registers is None:
            raise _not_open(self._device)
        arguments = command.arguments
        if command.name == "read_register":
            kind = PayloadType(int(arguments.get("size", 1)))
            data = registers.read(int(arguments["address"]), kind, count=arguments.get("count", 1))
            return DeviceReply(name=command.name, values={"data": data})
        if command.name == "write_register":
            kind = PayloadType(int(arguments.get("size", 1)))
            value = registers.write_number(int(arguments["address"]), kind, int(arguments["value"]))
            return DeviceReply(name=command.name, values={"value": value})
        raise unsupported(self._device, command)

    def close(self) -> None:
        transport = self._transport
        if transport is not None:
            transport.close()

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

    def _take_control(self, now: int) -> None:
        for kind, boot, _, payload in self._decoder.control():
            if kind == FrameType.REP and self._registers is not None:
                self._registers.answer(payload)
            elif kind == FrameType.STATUS:
                self.status = status_of(payload)
            elif kind == FrameType.EVENT:
                event = event_of(payload)
                if event is not None:
                    self.events.append(event)
            elif kind == FrameType.TIME and len(payload) == TIME_REPLY.size:
                t1, t2, t3 = TIME_REPLY.unpack(payload)
                self._time_replies.append((now - t1, (t2 + t3) // 2, (t1 + now) // 2, boot))
            elif kind == FrameType.HELLO and self._is_streaming:
                self._restarted = True

    def _round_trip(self, transport: Transport) -> tuple[int, int, int]:
        """(device ticks, box time, boot id) of the quickest of some probes."""
        self._time_replies.clear()
        for _ in range(_PROBES):
            sent = self._clock.monotonic_ns()
            transport.write(build_frame(FrameType.TIME, TIME_REQUEST.pack(sent)))
            have = len(self._time_replies)
            until = sent + round(_PROBE_S * 1e9)
            while len(self._time_replies) == have and self._clock.monotonic_ns() < until:
                self._pump(_PROBE_S)
        if not self._time_replies:
            raise DeviceError(
                "no_answer",
                f"{self._device} does not tell its time",
                why=f"{_PROBES} questions were left without an answer",
                remedy="Switch the device off and on",
                transient=True,
            )
        _, ticks, host_ns, boot = min(self._time_replies)
        return ticks, host_ns, boot

    def _check_identity(self, registers: Registers) -> None:
        identity = registers.read_number(Register.WHO_AM_I, PayloadType.U16)
        if identity != IDENTITY:
            known = WHO_AM_I.get(identity, "unknown device")
            raise DeviceError(
                "wrong_device",
                f"{self._config.port} is not the OPM helmet {self._device!r}",
                why=f"a {known} (0x{identity:04X}) answers there",
                remedy="Plug the helmet into this port, or correct `port` or `kind`",
                answered=f"0x{identity:04X}",
            )

    def _check_serial(self, descriptor: Descriptor) -> None:
        wanted = self._config.serial_number
        if wanted and descriptor.serial_number != wanted:
            raise DeviceError(
                "wrong_device",
                f"{self._config.port} is not the OPM helmet {self._device!r}",
                why=f"helmet {descriptor.serial_number} answers there, {wanted} is expected",
                remedy="Plug the right helmet in, or correct `serial_number`",
                answered=descriptor.serial_number,
            )

    def _describe(self, descriptor: Descriptor) -> tuple[StreamInfo, ...]:
        infos = []
        for stream in descriptor.streams:
            dtype = FORMATS.get(stream.format)
            if dtype is None or not stream.channels or not stream.sfreq > 0:
                raise DeviceError(
                    "bad_descriptor",
                    f"{self._device} describes a stream that cannot be decoded",
                    why=f"stream {stream.name!r}: format 0x{stream.format:02X},"
                    f" {len(stream.channels)} channels at {stream.sfreq:g} Hz",
                    remedy="Update this software: the helmet's firmware is newer",
                )
            infos.append(
                StreamInfo(
                    stream_id=f"{self._device}-{stream.name}",
                    device=self._device,
                    sfreq=stream.sfreq,
                    dtype=dtype,
                    channels=stream.channels,
                )
            )
        return tuple(infos)


def _not_open(device: str) -> DeviceError:
    return DeviceError(
        "not_open",
        f"{device} is not connected",
        why="it was not opened, or was closed",
        remedy="Wait until it is connected",
    )


def _changed(device: str) -> DeviceError:
    return DeviceError(
        "restarted",
        f"{device} has restarted or describes itself anew",
        why="its boot id or descriptor changed while it was streaming",
        remedy="The connection is made anew by itself",
        transient=True,
    )
