"""OpenBCI Cyton, alone or with Daisy, over its USB dongle (serial, 115200 8N1; docs/devices.md).

Protocol: firmware 3.1.2. Quirks: the board keeps streaming when the box goes away; its replies end
with `$$$` and come only while it does not stream; a Daisy halves the rate; without `<` a loss of
more than 255 packets could not be counted.
Runs in: acquire process, pull thread; `close` also from its main thread.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Annotated

import msgspec

from brainforge_edge.core.block import SampleBlock
from brainforge_edge.core.clock import Clock
from brainforge_edge.core.clockfit import ClockState
from brainforge_edge.core.errors import ConfigError, DeviceError
from brainforge_edge.core.stream import ChannelInfo, DeviceInfo, Dtype, StreamInfo
from brainforge_edge.devices.base import (
    DeviceCommand,
    DeviceReply,
    LinkCounters,
    Transport,
    silent,
    unsupported,
)
from brainforge_edge.devices.openbci_decoder import PACKET_HZ, CytonDecoder

END = b"$$$"
GAINS = (1, 2, 4, 6, 8, 12, 24)  # the place in this list is the code of `x`
CHANNELS = "12345678QWERTYUI"
V_REF = 4.5
_QUIET_S = 0.15
_DRAIN_S = 2.0
_REPLY_S = 1.0


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[device.settings]` of kind "openbci"."""

    port: Annotated[str, msgspec.Meta(min_length=1)]
    baud: Annotated[int, msgspec.Meta(ge=50, le=12_000_000)] = 115_200
    gain: int = 24
    daisy: bool | None = None  # None takes what answers, true and false refuse the other
    ch_names: tuple[str, ...] = ()  # EEG1 … by default
    silent_s: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] = (
        1.0  # without samples for this long the link is made anew
    )
    answer_s: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] = (
        5.0  # a board needs this long after power-on
    )


def make_driver(config: Config, *, device: str, clock: Clock) -> "CytonDriver":
    if config.gain not in GAINS:
        raise ConfigError(
            "out_of_range",
            f"{device} has a wrong setting",
            why=f"gain is {config.gain}, the board knows {', '.join(map(str, GAINS))}",
            remedy="Correct `gain` in the device's settings",
        )

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
        self._decoder: CytonDecoder | None = None
        self._last_data_ns = 0

    def open(self) -> tuple[StreamInfo, ...]:
        transport = self._open_transport()
        self._transport = transport
        transport.write(b"s")
        self._drain(transport)
        transport.write(b"v")
        banner = self._reply(transport, self._config.answer_s)
        self._check_identity(banner)
        has_daisy = "On Daisy" in banner
        self._check_daisy(has_daisy)
        n_channels = 16 if has_daisy else 8
        self._ask(transport, b"d")
        if self._config.gain != GAINS[-1]:
            code = GAINS.index(self._config.gain)
            for channel in CHANNELS[:n_channels]:
                self._ask(transport, f"x{channel}0{code}0110X".encode())
        self._ask(transport, b"<")
        info = self._describe(n_channels)
        self._decoder = CytonDecoder(info, daisy=has_daisy, counters=self.counters)
        self.info = DeviceInfo(
            who_am_i="OpenBCI Cyton with Daisy" if has_daisy else "OpenBCI Cyton",
            firmware_version=_after(banner, "Firmware: "),
            hardware_version=_after(banner, "OpenBCI "),
            operation_mode="streaming",
        )
        transport.write(b"b")
        self._last_data_ns = self._clock.monotonic_ns()
        return (info,)

    def read(self, timeout_s: float) -> Sequence[SampleBlock]:
        transport, decoder = self._transport, self._decoder
        if transport is None or decoder is None:
            raise DeviceError(
                "not_open",
                f"{self._device} is not connected",
                why="it was not opened, or was closed",
                remedy="Wait until it is connected",
            )
        data = transport.read(timeout_s)
        now = self._clock.monotonic_ns()
        blocks = decoder.feed(data, now) if data else []
        if blocks:
            self._last_data_ns = now
        elif now - self._last_data_ns > self._config.silent_s * 1e9:
            raise silent(self._device, self._config.silent_s)
        return blocks

    def proof(self, stream_id: str) -> str:  # noqa: ARG002  a Cyton proves nothing
        return ""

    def clock(self, stream_id: str) -> ClockState | None:  # noqa: ARG002  it has one stream
        return self._decoder.fit.state if self._decoder is not None else None

    def command(self, command: DeviceCommand) -> DeviceReply:
        raise unsupported(self._device, command)

    def close(self) -> None:
        transport = self._transport
        if transport is not None:
            with contextlib.suppress(DeviceError):  # the link may be gone already
                transport.write(b"s")
            transport.close()

    def _drain(self, transport: Transport) -> None:
        until = self._clock.monotonic_ns() + round(_DRAIN_S * 1e9)
        while transport.read(_QUIET_S) and self._clock.monotonic_ns() < until:
            continue

    def _reply(self, transport: Transport, within_s: float) -> str:
        """Text up to `$$$`; DeviceError `no_answer` if it does not come."""
        got = bytearray()
        until = self._clock.monotonic_ns() + round(within_s * 1e9)
        while END not in got:
            left = (until - self._clock.monotonic_ns()) / 1e9
            if left <= 0 or len(got) > 65_536:
                raise self._no_answer(bytes(got), within_s)
            got += transport.read(left)
        return got[: got.index(END)].decode("ascii", "replace")

    def _ask(self, transport: Transport, command: bytes) -> str:
        transport.write(command)
        reply = self._reply(transport, _REPLY_S)
        if reply.lstrip().startswith("Failure"):
            raise DeviceError(
                "refused",
                f"{self._device} refuses the command {command.decode()!r}",
                why=_shown(reply),
                remedy="Switch the board off and on; if this repeats, update its firmware to 3.1.2",
                transient=True,
            )
        return reply

    def _check_identity(self, banner: str) -> None:
        if banner.lstrip().startswith("Failure"):
            raise DeviceError(
                "no_board",
                f"the dongle on {self._config.port} answers, but no board behind it",
                why=_shown(banner),
                remedy="Switch the board on, near the dongle, and charge its battery",
                transient=True,
            )
        if "OpenBCI" not in banner or "Ganglion" in banner:
            raise DeviceError(
                "wrong_device",
                f"{self._config.port} is not the Cyton {self._device!r}",
                why=f"it answers {_shown(banner)!r}",
                remedy="Plug the Cyton's dongle into this port, or correct `port` or `kind`",
                answered=_shown(banner),
            )

    def _check_daisy(self, has_daisy: bool) -> None:
        wanted = self._config.daisy
        if wanted is not None and wanted != has_daisy:
            raise DeviceError(
                "wrong_device",
                f"{self._config.port} is not the board that {self._device!r} expects",
                why="it has a Daisy" if has_daisy else "it has no Daisy",
                remedy="Connect the other board, or correct `daisy` in the device's settings",
            )

    def _no_answer(self, got: bytes, within_s: float) -> DeviceError:
        if got.strip():
            text = _shown(got.decode("ascii", "replace"))
            return DeviceError(
                "wrong_device",
                f"{self._config.port} is not the Cyton {self._device!r}",
                why=f"it answers {text!r}",
                remedy="Plug the Cyton's dongle into this port, or correct `port` or `kind`",
                transient=True,
                answered=text,
            )
        return DeviceError(
            "no_answer",
            f"the Cyton on {self._config.port} does not answer",
            why=f"nothing came within {within_s:g} s",
            remedy="Check that the dongle is in this port and the board is switched on",
            transient=True,
        )

    def _describe(self, n_channels: int) -> StreamInfo:
        names = self._config.ch_names or tuple(f"EEG{n + 1}" for n in range(n_channels))
        if len(names) != n_channels:
            raise ConfigError(
                "invalid",
                f"{self._device} has a wrong setting",
                why=f"ch_names has {len(names)} names, the board has {n_channels} channels",
                remedy="Correct `ch_names` in the device's settings",
            )
        scale = V_REF / self._config.gain / (2**23 - 1)
        return StreamInfo(
            stream_id=f"{self._device}-eeg",
            device=self._device,
            sfreq=PACKET_HZ * 8 / n_channels,
            dtype=Dtype.I24,
            channels=tuple(ChannelInfo(name, "eeg", "V", scale) for name in names),
        )


def _after(text: str, label: str) -> str:
    _, found, rest = text.partition(label)
    return rest.splitlines()[0].strip() if found and rest else ""


def _shown(text: str) -> str:
    """The first line of what a device said, fit for a sentence."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(printable.split())[:80]
