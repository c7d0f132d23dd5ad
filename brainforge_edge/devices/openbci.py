"""OpenBCI Cyton, alone or with Daisy, over its USB dongle (serial, 115200 8N1; docs/devices/cyton.md).

Protocol: firmware 3.1.2. Quirks: the board keeps streaming when the box goes away; its replies end
with `$$$` and come only while it does not stream; a Daisy halves the rate; without `<` a loss of
more than 255 packets could not be counted.
Runs in: acquire process, pull thread; `command` in a thread of its own, `close` also from others.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec

from brainforge_edge.core.block import Marker, SampleBlock
from brainforge_edge.core.clock import Clock
from brainforge_edge.core.clockfit import ClockState
from brainforge_edge.core.config import check_names, check_serial_port
from brainforge_edge.core.errors import DeviceError
from brainforge_edge.core.stream import DeviceInfo, Dtype, StreamInfo
from brainforge_edge.devices.base import (
    DeviceCommand,
    DeviceReply,
    LinkCounters,
    Notice,
    Transport,
    not_open,
    silent,
    unsupported,
)
from brainforge_edge.devices.bfp_commands import only
from brainforge_edge.devices.openbci_board import Board, after
from brainforge_edge.devices.openbci_decoder import PACKET_HZ, CytonDecoder
from brainforge_edge.devices.openbci_health import Health, latency_timer_ms
from brainforge_edge.devices.openbci_impedance import SPAN, ImpedanceTests
from brainforge_edge.devices.openbci_marks import Marks
from brainforge_edge.devices.openbci_motion import motion_stream
from brainforge_edge.devices.openbci_settings import COUNTS, Channel, Settings, check

Seconds = Annotated[float, msgspec.Meta(ge=0.1, le=3600)]


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[device.settings]` of kind "openbci"."""

    port: Annotated[str, msgspec.Meta(min_length=1)]
    baud: Annotated[int, msgspec.Meta(ge=50, le=12_000_000)] = 115_200
    gain: int = 24
    daisy: bool | None = None  # None takes what answers, true and false refuse the other
    ch_names: tuple[str, ...] = ()  # EEG1 … by default
    channels: tuple[Channel, ...] = ()  # those that differ
    srb1: bool = False  # the chip joins it to all its channels
    markers: bool = False  # instead of the accelerometer
    time_stamps: bool = True  # false for boards that know no `<`
    bias_ms: Annotated[float, msgspec.Meta(ge=0, le=100)] = 0.0  # even the quickest packet is late
    silent_s: Seconds = 1.0  # without samples for this long the link is made anew
    answer_s: Seconds = 5.0  # a board needs this long after power-on


def make_driver(config: Config, *, device: str, clock: Clock) -> "CytonDriver":
    check_serial_port(config.port, device)
    has = {None: COUNTS, False: COUNTS[:1], True: COUNTS[1:]}[config.daisy]
    check_names(config.ch_names, has, device)
    check(config.channels, config.gain, device)

    def open_transport() -> Transport:
        from brainforge_edge.devices.transport import open_serial  # noqa: PLC0415  pyserial on use

        return open_serial(config.port, baud=config.baud)

    return CytonDriver(config, device=device, clock=clock, open_transport=open_transport)


class CytonDriver:
    """One board; see `devices.base.Driver`."""

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
        self._config = config
        self._device = device
        self._clock = clock
        self._open_transport = open_transport
        self._transport: Transport | None = None
        self._board: Board | None = None
        self._decoder: CytonDecoder | None = None
        self._health: Health | None = None
        self._tests: ImpedanceTests | None = None
        self._marks = Marks(device)
        self._spans: list[Marker] = []
        self._last_data_ns = 0
        self._kept: list[SampleBlock] = []  # rows that came while the board was spoken to
        self._failure: DeviceError | None = None  # told after them

    def open(self) -> tuple[StreamInfo, ...]:
        config = self._config
        self._transport = transport = self._open_transport()
        board = Board(transport, clock=self._clock, port=config.port, device=self._device)
        self._board = board
        transport.write(b"s")
        board.drain()
        banner = board.banner(config.answer_s)
        has_daisy = "On Daisy" in banner
        self._check_daisy(has_daisy)
        settings = Settings(
            config.channels,
            n_channels=16 if has_daisy else 8,
            gain=config.gain,
            srb1=config.srb1,
            names=config.ch_names,
            device=self._device,
        )
        board.ask("d")  # also ends a test that a killed process began
        for command in settings.commands():
            board.ask(command)
        is_verified = settings.verify(board.ask("?"))
        if config.markers:
            board.ask("/4")
        if config.time_stamps:
            board.ask("<")
        n_channels = len(settings.channels)
        info = StreamInfo(
            stream_id=f"{self._device}-eeg",
            device=self._device,
            sfreq=PACKET_HZ * 8 / n_channels,
            dtype=Dtype.I24,
            channels=settings.described(),
        )
        motion = None
        if not config.markers:
            motion = motion_stream(self._device, has_stamps=config.time_stamps)
        self._decoder = CytonDecoder(
            info,
            daisy=has_daisy,
            counters=self.counters,
            motion=motion,
            has_markers=config.markers,
            bias_ns=round(config.bias_ms * 1e6),
        )
        self._health = Health(
            info,
            [at for at, channel in enumerate(settings.channels) if channel.on],
            self.counters,
            latency_ms=latency_timer_ms(config.port),
            facts={"settings_verified": is_verified},
        )
        self._tests = ImpedanceTests(info, settings.channels, device=self._device)
        self.info = DeviceInfo(
            who_am_i="OpenBCI Cyton with Daisy" if has_daisy else "OpenBCI Cyton",
            firmware_version=after(banner, "Firmware: "),
            hardware_version=after(banner, "OpenBCI "),
            operation_mode="streaming",
        )
        self._go(transport)
        return (info,) if motion is None else (info, motion)

    def read(self, timeout_s: float) -> Sequence[SampleBlock]:
        transport, decoder, health, tests = (
            self._transport,
            self._decoder,
            self._health,
            self._tests,
        )
        if transport is None or decoder is None or health is None or tests is None:
            raise not_open(self._device)
        if self._failure is not None:
            raise self._failure
        if tests.asked is not None:
            return self._kept_over(lambda: self._begin_test(tests, transport, decoder))
        data = transport.read(timeout_s)
        now = self._clock.monotonic_ns()
        blocks = decoder.feed(data, now) if data else []
        if data:
            health.arrived(decoder.late_ns, now)
            self._last_data_ns = now if blocks else self._last_data_ns
        if not blocks and now - self._last_data_ns > self._config.silent_s * 1e9:
            raise silent(self._device, self._config.silent_s)
        if not tests.has_begun:
            health.see(blocks)
        elif tests.see(blocks, now):
            self._kept = blocks
            return self._kept_over(lambda: self._end_test(tests, transport, decoder))
        return blocks

    def _kept_over(self, speak: Callable[[], None]) -> list[SampleBlock]:
        """Rows that came so far and meanwhile: a link that is lost in it takes none of them with it."""
        try:
            speak()
        except DeviceError as error:
            if not self._kept:
                raise
            self._failure = error
        blocks, self._kept = self._kept, []
        return blocks

    @property
    def status(self) -> dict[str, Any]:
        """Figures of link and electrodes; another thread may read them."""
        return self._health.status if self._health is not None else {}

    @property
    def waits_for(self) -> str:
        """Samples stop for a moment at both ends of an impedance test."""
        return "impedance" if self._tests is not None and self._tests.has_begun else ""

    def markers(self) -> list[Marker]:
        """Those that came back from the board, and stretches that are no measurement."""
        came: list[Marker] = []
        if self._decoder is not None and self._decoder.markers:
            came, self._decoder.markers = self._marks.named(self._decoder.markers), []
        spans, self._spans = self._spans, []
        for span in spans:
            if self._health is not None:
                self._health.tell_span(span)
        return came + spans

    def notices(self) -> list[Notice]:
        return self._health.take() if self._health is not None else []

    def proof(self, stream_id: str) -> str:  # noqa: ARG002  a Cyton proves nothing
        return ""

    def clock(self, stream_id: str) -> ClockState | None:  # noqa: ARG002  both have one clock
        return self._decoder.fit.state if self._decoder is not None else None

    def command(self, command: DeviceCommand) -> DeviceReply:
        """`impedance` (channels, seconds, force); `mark` (description)."""
        transport, tests, health = self._transport, self._tests, self._health
        if transport is None or tests is None or health is None:
            raise not_open(self._device)
        if command.name == "impedance":
            values = tests.run(command)
            health.measured(values, self._clock.utc_ns())
            return DeviceReply(name=command.name, values=values)
        if command.name == "mark":
            only(command, "description")
            if not self._config.markers:
                raise _no_markers(self._device)
            transport.write(self._marks.make(str(command.arguments.get("description", ""))))
            return DeviceReply(name=command.name)
        raise unsupported(self._device, command)

    def close(self) -> None:
        transport, tests = self._transport, self._tests
        if tests is not None:
            running = tests.running
            if running is not None:
                self._end_span(running.began_ns)
                tests.has_begun = False
            tests.close()
        if transport is not None:
            with contextlib.suppress(DeviceError):  # the link may be gone already
                transport.write(b"s")
            transport.close()

    def _go(self, transport: Transport) -> None:
        transport.write(b"b")
        self._last_data_ns = self._clock.monotonic_ns()

    def _pause(self, transport: Transport, decoder: CytonDecoder) -> None:
        """Stop the stream, so that the board answers; the samples that were under way are kept."""
        assert self._board is not None
        transport.write(b"s")
        for data, arrived_ns in self._board.drain():
            self._kept += decoder.feed(data, arrived_ns)
        self._kept += decoder.restart()

    def _begin_test(
        self, tests: ImpedanceTests, transport: Transport, decoder: CytonDecoder
    ) -> None:
        test = tests.asked
        assert test is not None
        assert self._board is not None
        test.began_ns = self._clock.monotonic_ns()
        tests.has_begun = True
        self._pause(transport, decoder)
        try:
            for command in test.on:
                self._board.ask(command)
        except DeviceError as error:
            test.error = error
            self._end_test(tests, transport, decoder)
            return
        self._go(transport)

    def _end_test(self, tests: ImpedanceTests, transport: Transport, decoder: CytonDecoder) -> None:
        """As it was before; if that fails the link is made anew, which resets the board."""
        test = tests.running
        assert test is not None
        assert self._board is not None
        self._pause(transport, decoder)
        for command in test.off:
            self._board.ask(command)
        self._go(transport)
        self._end_span(test.began_ns)
        tests.finish()

    def _end_span(self, began_ns: int) -> None:
        duration = (self._clock.monotonic_ns() - began_ns) / 1e9
        self._spans.append(Marker(began_ns, duration, SPAN))

    def _check_daisy(self, has_daisy: bool) -> None:
        wanted = self._config.daisy
        if wanted is not None and wanted != has_daisy:
            raise DeviceError(
                "wrong_device",
                f"{self._config.port} is not the board that {self._device!r} expects",
                why="it has a Daisy" if has_daisy else "it has no Daisy",
                remedy="Connect the other board, or correct `daisy` in the device's settings",
                transient=True,
            )


def _no_markers(device: str) -> DeviceError:
    return DeviceError(
        "unsupported",
        f"{device} cannot do 'mark'",
        why="its board is not in marker mode",
        remedy="Write `markers = true` into the device's settings; it then sends no accelerometer",
    )
