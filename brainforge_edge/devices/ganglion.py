"""OpenBCI Ganglion over Bluetooth LE (docs/devices/ganglion.md).

Protocol: read in BrainFlow's driver. Quirks: two firmware generations code samples differently; the
lowest bit of each number is overwritten with its sign; while impedance is measured no samples come.
Runs in: acquire process, pull thread; `command` and `close` also from its main thread.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from brainforge_edge.core.block import Marker, SampleBlock
from brainforge_edge.core.clock import Clock
from brainforge_edge.core.clockfit import ClockState
from brainforge_edge.core.config import check_names
from brainforge_edge.core.errors import DeviceError
from brainforge_edge.core.stream import ChannelInfo, DeviceInfo, StreamInfo
from brainforge_edge.devices import ganglion_accel, gatt
from brainforge_edge.devices.base import (
    DeviceCommand,
    DeviceReply,
    LinkCounters,
    Notice,
    protected,
    unsupported,
)
from brainforge_edge.devices.bfp_commands import flag, only
from brainforge_edge.devices.ble_config import BleConfig, delayed, make_link
from brainforge_edge.devices.ble_health import BleHealth
from brainforge_edge.devices.ble_opening import Opening
from brainforge_edge.devices.ganglion_accel import Accelerometer, Axes
from brainforge_edge.devices.ganglion_decoder import (
    N_CHANNELS,
    GanglionDecoder,
    rails,
    round_s,
    stream,
)
from brainforge_edge.devices.ganglion_impedance import Impedances
from brainforge_edge.devices.gatt import GattLink, Target
from brainforge_edge.devices.silence import Silence

if TYPE_CHECKING:
    from brainforge_edge.devices.ble import Backend

SERVICE = "0000fe84-0000-1000-8000-00805f9b34fb"
NOTIFY = "2d30c082-f39f-4ce6-923f-3484ea480596"
WRITE = "2d30c083-f39f-4ce6-923f-3484ea480596"
SOFTWARE = "00002a28-0000-1000-8000-00805f9b34fb"
_STOP, _START = b"s", b"b"


class Config(BleConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[device.settings]` of kind "ganglion"."""

    firmware: Literal["auto", "2", "3"] = "auto"
    ch_names: tuple[str, ...] = ()  # EEG1 … by default
    accelerometer: bool = True
    accelerometer_axes: Axes = "brainflow"  # which id holds which axis: sources disagree


def make_driver(
    config: Config,
    *,
    device: str,
    clock: Clock,
    run: Path | None = None,
    backend: "Backend | None" = None,
) -> "GanglionDriver":
    check_names(config.ch_names, (N_CHANNELS,), device)
    target = Target("Ganglion", ("Ganglion", "Simblee"), SERVICE, config.address, config.name)
    link = make_link(config, target, device=device, clock=clock, run=run, backend=backend)
    return GanglionDriver(config, device=device, clock=clock, target=target, link=link)


class GanglionDriver:
    """One board; see `devices.base.Driver`. `status` holds the impedances that were measured last."""

    def __init__(
        self, config: Config, *, device: str, clock: Clock, target: Target, link: GattLink
    ) -> None:
        self.counters = LinkCounters()
        self.info: DeviceInfo | None = None
        self._config = config
        self._device = device
        self._clock = clock
        self._target = target
        self._link = link
        self._health = BleHealth()
        self._silence = Silence(device, silent_s=config.silent_s, restart=(_STOP, _START))
        self._decoder: GanglionDecoder | None = None
        self._opening: Opening | None = None
        self._impedances = Impedances(self._describe().ch_names, device=device, clock=clock)

    @property
    def status(self) -> dict[str, Any]:
        return self._health.status

    def open(self) -> tuple[StreamInfo, ...]:
        config = self._config
        found = self._link.open((NOTIFY, WRITE))
        version = ""
        if self._link.has(SOFTWARE):
            version = self._link.read_value(SOFTWARE).decode("ascii", "replace").strip("\0 \r\n")
        firmware = self._firmware(version)
        info = self._describe()
        self._health.watch(info, rails(firmware))
        infos = [info]
        if config.accelerometer:
            axes = config.accelerometer_axes
            moved = ganglion_accel.stream(self._device, round_s=round_s(firmware), axes=axes)
            infos.append(moved)

        def make(counters: LinkCounters) -> GanglionDecoder:
            latency = config.latency_ns
            accelerometer: Accelerometer | None = None
            if config.accelerometer:
                axes = config.accelerometer_axes
                accelerometer = Accelerometer(infos[1], counters, axes=axes, bias_ns=latency)
            return GanglionDecoder(
                info,
                counters,
                firmware=firmware,
                bias_ns=latency,
                accelerometer=accelerometer,
            )

        self._decoder = make(self.counters)
        self._opening = Opening(self._decoder, make)
        self._link.subscribe(NOTIFY)
        self._link.write(WRITE, b"n" if config.accelerometer else b"N")
        self._link.write(WRITE, _START)
        self._health.connected(found, self._link.mtu)
        self.info = DeviceInfo(
            who_am_i="OpenBCI Ganglion",
            firmware_version=version or str(firmware),
            operation_mode="streaming",
            address=found.address,
        )
        self._silence.expect((NOTIFY,), self._clock.monotonic_ns())
        return tuple(infos)

    def read(self, timeout_s: float) -> Sequence[SampleBlock]:
        decoder, opening = self._decoder, self._opening
        if decoder is None or opening is None:
            raise gatt.closed(self._target)
        packets = self._link.read(timeout_s)
        for packet in packets:
            self._silence.heard(NOTIFY, packet.arrived_ns)
        self.counters.dropped_packets = self._link.dropped
        now = self._clock.monotonic_ns()
        blocks = opening.feed(packets, now)
        if not packets:
            self._watch(opening, now)
        self._impedances.told(decoder.impedance_ohm)
        said: dict[str, Any] = {}
        if decoder.impedance_ohm:
            said["impedance_ohm"] = dict(decoder.impedance_ohm)
        self._health.take(blocks, now, rows=decoder.rows, said=said)
        return blocks

    def notices(self) -> list[Notice]:
        return self._health.take_notices()

    def proof(self, stream_id: str) -> str:  # noqa: ARG002  a Ganglion proves nothing
        return ""

    def clock(self, stream_id: str) -> ClockState | None:
        return self._decoder.clock(stream_id) if self._decoder is not None else None

    def command(self, command: DeviceCommand) -> DeviceReply:
        """`impedance` (seconds, force), or with `on` until it is switched off: no samples come then."""
        if command.name != "impedance":
            raise unsupported(self._device, command)
        only(command, "seconds", "on")
        if "on" not in command.arguments:
            values = self._impedances.run(command, self._switch_impedance)
            return DeviceReply(name=command.name, values=values)
        is_on = flag(command.arguments, "on")
        if is_on and command.recording and not flag(command.arguments, "force"):
            raise protected(self._device, command)
        self._switch_impedance(is_on)
        return DeviceReply(name=command.name, values={"on": is_on})

    def markers(self) -> list[Marker]:
        return self._impedances.take()

    def _switch_impedance(self, is_on: bool) -> None:
        for text in (b"s", b"z") if is_on else (b"Z", b"b"):
            self._link.write(WRITE, text)

    def close(self) -> None:
        self._link.close((WRITE, b"s"))

    def _watch(self, opening: Opening, now: int) -> None:
        step = self._silence.look(now)
        if step is None:
            return
        if step.is_first:
            self._health.restarted(self._silence.restarts)
            opening.restart()
        self._link.post(WRITE, step.command)

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
        if self._config.ch_names:
            scale = info.channels[0].scale
            channels = tuple(ChannelInfo(name, "eeg", "V", scale) for name in self._config.ch_names)
            info = msgspec.structs.replace(info, channels=channels)
        return delayed(info, self._config)
