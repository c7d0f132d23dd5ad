"""Serial devices that stream from the moment they are switched on and hear nothing.

What answers is known by its frames alone: `open` reads until some of them are whole, and refuses a
port where something else talks.
Runs in: acquire process, pull thread; `close` also from others.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from brainforge_edge.core.block import Marker, SampleBlock
from brainforge_edge.core.clock import Clock
from brainforge_edge.core.clockfit import ClockState
from brainforge_edge.core.errors import DeviceError
from brainforge_edge.core.stream import DeviceInfo, StreamInfo
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
from brainforge_edge.devices.channel_quality import ChannelQuality
from brainforge_edge.devices.rows import Rows

_KNOWN_FRAMES = 10  # that make it certain who talks
_OLD_S = 0.1  # what lay in the port before: its times mean nothing


class Settings(Protocol):
    """What the `Config` of each kind has."""

    @property
    def port(self) -> str: ...
    @property
    def silent_s(self) -> float: ...
    @property
    def answer_s(self) -> float: ...


class FrameDecoder(Protocol):
    """Bytes to blocks of one stream."""

    counters: LinkCounters
    rows: Rows

    def feed(self, data: bytes, arrived_ns: int) -> list[SampleBlock]: ...
    def said(self) -> dict[str, Any]:
        """Figures that the device told beside samples."""
        ...

    def markers(self) -> list[Marker]: ...
    def notices(self) -> list[Notice]: ...


class SelfStartingDriver:
    """One device; see `devices.base.Driver`. `noun` is for sentences and identity."""

    def __init__(
        self,
        config: Settings,
        *,
        noun: str,
        device: str,
        clock: Clock,
        open_transport: Callable[[], Transport],
        make_decoder: Callable[[LinkCounters], FrameDecoder],
        rails: tuple[int, int],
    ) -> None:
        self.counters = LinkCounters()
        self.info: DeviceInfo | None = None
        self.status: dict[str, Any] = {}
        self._config = config
        self._noun = noun
        self._device = device
        self._clock = clock
        self._open_transport = open_transport
        self._make_decoder = make_decoder
        self._rails = rails
        self._transport: Transport | None = None
        self._decoder: FrameDecoder | None = None
        self._quality: ChannelQuality | None = None
        self._notices: list[Notice] = []
        self._ready: list[SampleBlock] = []
        self._last_data_ns = 0
        self._told_ns = 0

    def open(self) -> tuple[StreamInfo, ...]:
        self._transport = transport = self._open_transport()
        until = self._clock.monotonic_ns() + round(_OLD_S * 1e9)
        while (left := until - self._clock.monotonic_ns()) > 0:
            transport.read(left / 1e9)
        decoder = self._make_decoder(self.counters)
        until = self._clock.monotonic_ns() + round(self._config.answer_s * 1e9)
        while self.counters.frames < _KNOWN_FRAMES:
            left = until - self._clock.monotonic_ns()
            if left <= 0:
                raise self._unknown()
            data = transport.read(left / 1e9)
            self._ready += decoder.feed(data, self._clock.monotonic_ns()) if data else []
        self._decoder = decoder
        self._quality = ChannelQuality(decoder.rows.info, rails=self._rails)
        self.info = DeviceInfo(who_am_i=self._noun, operation_mode="streaming")
        self._last_data_ns = self._clock.monotonic_ns()
        return (decoder.rows.info,)

    def read(self, timeout_s: float) -> Sequence[SampleBlock]:
        transport, decoder, quality = self._transport, self._decoder, self._quality
        if transport is None or decoder is None or quality is None:
            raise not_open(self._device)
        blocks, self._ready = self._ready, []
        data = b"" if blocks else transport.read(timeout_s)
        now = self._clock.monotonic_ns()
        if data:
            blocks += decoder.feed(data, now)
        if blocks:
            self._last_data_ns = now
        elif now - self._last_data_ns > self._config.silent_s * 1e9:
            raise silent(self._device, self._config.silent_s)
        self._notices += quality.take(blocks) + decoder.notices()
        if now - self._told_ns > 1_000_000_000:
            self._told_ns = now
            self.status = {
                **decoder.said(),
                "packets": self.counters.frames,
                "lost_samples": self.counters.lost_samples,
                "arrivals_ms": decoder.rows.lateness_ms,
                "channels": quality.counted,
            }
        return blocks

    def markers(self) -> list[Marker]:
        return self._decoder.markers() if self._decoder is not None else []

    def notices(self) -> list[Notice]:
        notices, self._notices = self._notices, []
        return notices

    def proof(self, stream_id: str) -> str:  # noqa: ARG002  nothing names a run of its counter
        return ""

    def clock(self, stream_id: str) -> ClockState | None:  # noqa: ARG002  it has one stream
        return self._decoder.rows.fit.state if self._decoder is not None else None

    def command(self, command: DeviceCommand) -> DeviceReply:
        raise unsupported(self._device, command)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _unknown(self) -> DeviceError:
        within_s = self._config.answer_s
        if self.counters.bytes_read:
            return DeviceError(
                "wrong_device",
                f"{self._config.port} is not the {self._noun} {self._device!r}",
                why=f"something talks there, but not in its frames ({within_s:g} s)",
                remedy="Plug it into this port, or correct `port`, `baud` or `kind`",
                transient=True,
            )
        return DeviceError(
            "no_answer",
            f"the {self._noun} on {self._config.port} does not answer",
            why=f"nothing came within {within_s:g} s",
            remedy="Check that it is plugged into this port, switched on and paired",
            transient=True,
        )
