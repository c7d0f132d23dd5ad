"""OpenBCI Ganglion over Bluetooth LE (docs/devices/ganglion.md).

Protocol: read in BrainFlow's driver. Quirks: two firmware generations code samples differently; the
lowest bit of each number is overwritten with its sign; while impedance is measured no samples come.
Runs in: acquire process, pull thread; `command` and `close` also from its main thread.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from brainforge_edge.core.block import SampleBlock
from brainforge_edge.core.clock import Clock
from brainforge_edge.core.clockfit import ClockState
from brainforge_edge.core.errors import ConfigError, DeviceError
from brainforge_edge.core.stream import ChannelInfo, DeviceInfo, StreamInfo
from brainforge_edge.devices import gatt
from brainforge_edge.devices.base import (
    DeviceCommand,
    DeviceReply,
    LinkCounters,
    silent,
    unsupported,
)
from brainforge_edge.devices.ganglion_decoder import N_CHANNELS, GanglionDecoder, stream
from brainforge_edge.devices.gatt import GattLink, Target

if TYPE_CHECKING:
    from brainforge_edge.devices.ble import Backend

SERVICE = "0000fe84-0000-1000-8000-00805f9b34fb"
NOTIFY = "2d30c082-f39f-4ce6-923f-3484ea480596"
WRITE = "2d30c083-f39f-4ce6-923f-3484ea480596"
SOFTWARE = "00002a28-0000-1000-8000-00805f9b34fb"


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[device.settings]` of kind "ganglion"."""

    address: str = ""  # of the board; "" takes the one that `name` says, or the only one
    name: str = ""  # "Ganglion-1a2b"
    adapter: str = ""  # "hci1"; "" takes the system's
    firmware: Literal["auto", "2", "3"] = "auto"
    ch_names: tuple[str, ...] = ()  # EEG1 … by default
    silent_s: float = 2.0  # without a packet for this long the link is made anew
    find_s: float = 10.0
    bias_ms: float = 2.5  # by which even the quickest packet is late
    acquire_notify: bool = False  # BlueZ: a socket for each characteristic, not a D-Bus message


def make_driver(
    config: Config,
    *,
    device: str,
    clock: Clock,
    run: Path | None = None,
    backend: "Backend | None" = None,
) -> "GanglionDriver":
    if config.ch_names and len(config.ch_names) != N_CHANNELS:
        raise ConfigError(
            "invalid",
            f"{device} has a wrong setting",
            why=f"ch_names has {len(config.ch_names)} names, the board has {N_CHANNELS} channels",
            remedy="Correct `ch_names` in the device's settings",
        )
    target = Target("Ganglion", ("Ganglion", "Simblee"), SERVICE, config.address, config.name)

    def make_link() -> GattLink:
        from brainforge_edge.devices.ble import BleLink  # noqa: PLC0415  bleak on use

        return BleLink(
            target,
            clock=clock,
            run=run,
            adapter=config.adapter,
            find_s=config.find_s,
            acquire_notify=config.acquire_notify,
            backend=backend,
        )

    return GanglionDriver(config, device=device, clock=clock, target=target, link=make_link())


class GanglionDriver:
    """One board; see `devices.base.Driver`. `status` holds the impedances that were measured last."""

    def __init__(
        self, config: Config, *, device: str, clock: Clock, target: Target, link: GattLink
    ) -> None:
        self.counters = LinkCounters()
        self.info: DeviceInfo | None = None
        self.status: dict[str, Any] = {}
        self._config = config
        self._device = device
        self._clock = clock
        self._target = target
        self._link = link
        self._decoder: GanglionDecoder | None = None
        self._last_ns = 0

    def open(self) -> tuple[StreamInfo, ...]:
        found = self._link.open((NOTIFY, WRITE))
        version = ""
        if self._link.has(SOFTWARE):
            version = self._link.read_value(SOFTWARE).decode("ascii", "replace").strip("\0 \r\n")
        firmware = self._firmware(version)
        info = self._describe()
        self._decoder = GanglionDecoder(
            info,
            self.counters,
            firmware=firmware,
            bias_ns=round(self._config.bias_ms * 1e6),
        )
        self._link.subscribe(NOTIFY)
        self._link.write(WRITE, b"b")
        self.status = {"rssi_dbm": found.rssi, "adapter": found.adapter, "address": found.address}
        self.info = DeviceInfo(
            who_am_i="OpenBCI Ganglion",
            firmware_version=version or str(firmware),
            operation_mode="streaming",
            address=found.address,
        )
        self._last_ns = self._clock.monotonic_ns()
        return (info,)

    def read(self, timeout_s: float) -> Sequence[SampleBlock]:
        decoder = self._decoder
        if decoder is None:
            raise gatt.closed(self._target)
        packets = self._link.read(timeout_s)
        blocks: list[SampleBlock] = []
        for packet in packets:
            blocks += decoder.feed(packet)
            self._last_ns = packet.arrived_ns
        self.counters.dropped_packets = self._link.dropped
        if decoder.impedance_ohm:
            self.status["impedance_ohm"] = dict(decoder.impedance_ohm)
        is_late = self._clock.monotonic_ns() - self._last_ns > self._config.silent_s * 1e9
        if not packets and is_late:
            raise silent(self._device, self._config.silent_s)
        return blocks

    def proof(self, stream_id: str) -> str:  # noqa: ARG002  a Ganglion proves nothing
        return ""

    def clock(self, stream_id: str) -> ClockState | None:  # noqa: ARG002  it has one stream
        return self._decoder.clock if self._decoder is not None else None

    def command(self, command: DeviceCommand) -> DeviceReply:
        """`impedance` with `on`: measures electrodes instead of samples, until it is switched off."""
        if command.name != "impedance":
            raise unsupported(self._device, command)
        is_on = bool(command.arguments.get("on", True))
        for text in (b"s", b"z") if is_on else (b"Z", b"b"):
            self._link.write(WRITE, text)
        return DeviceReply(name=command.name, values={"on": is_on})

    def close(self) -> None:
        self._link.close((WRITE, b"s"))

    def _firmware(self, version: str) -> int:
        wanted = self._config.firmware
        if wanted != "auto":
            return int(wanted)
        if version[:1] in {"2", "3"}:
            return int(version[0])
        raise DeviceError(
            "unknown_firmware",
            f"cannot tell how {self._device} codes its samples",
            why=f"it says its firmware is {version!r}",
            remedy='Write `firmware = "2"` or `firmware = "3"` into the device\'s settings',
            answered=version,
        )

    def _describe(self) -> StreamInfo:
        info = stream(self._device)
        if not self._config.ch_names:
            return info
        scale = info.channels[0].scale
        channels = tuple(ChannelInfo(name, "eeg", "V", scale) for name in self._config.ch_names)
        return msgspec.structs.replace(info, channels=channels)
