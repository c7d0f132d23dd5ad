"""Interaxon Muse (2016, 2, S, S Athena) over Bluetooth LE (docs/devices/muse.md).

Protocol: read in muse-lsl, muse-js, BrainFlow and OpenMuse; not published by the vendor. Quirks: the
headset stops silently after minutes without a keep-alive; replies to two commands mix, so one is
asked at a time; both generations advertise `Muse…`: characteristic 0013 tells them apart.
Runs in: acquire process, pull thread; `command` and `close` also from its main thread.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from brainforge_edge.core.block import SampleBlock
from brainforge_edge.core.clock import Clock
from brainforge_edge.core.clockfit import ClockState
from brainforge_edge.core.config import wrong_setting
from brainforge_edge.core.errors import DeviceError
from brainforge_edge.core.stream import DeviceInfo, StreamInfo
from brainforge_edge.devices import athena_decoder as athena
from brainforge_edge.devices import gatt, raw_packets
from brainforge_edge.devices import muse_decoder as classic
from brainforge_edge.devices.base import (
    DeviceCommand,
    DeviceReply,
    LinkCounters,
    Notice,
    unsupported,
)
from brainforge_edge.devices.bfp_commands import bad_argument, only
from brainforge_edge.devices.ble_config import BleConfig, delayed, make_link
from brainforge_edge.devices.ble_health import BleHealth
from brainforge_edge.devices.ble_opening import Opening
from brainforge_edge.devices.gatt import GattLink, Packet, Target
from brainforge_edge.devices.muse_control import Control, command
from brainforge_edge.devices.silence import Silence

if TYPE_CHECKING:
    from brainforge_edge.devices.ble import Backend

SERVICE = "0000fe8d-0000-1000-8000-00805f9b34fb"
CONTROL = classic.CONTROL
MuseDecoder = classic.MuseDecoder | athena.AthenaDecoder
_HALT, _START = command("h"), (command("d"),)
_START_ATHENA = (command("dc001"), command("dc001"), command("L1"))  # one alone does not start it


class Config(BleConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[device.settings]` of kind "muse"."""

    generation: Literal["auto", "classic", "athena"] = "auto"
    preset: str = ""  # "" takes p21, p20 with aux, p50 with ppg, p1041 of an Athena
    aux: bool = False  # classic: the fifth electrode
    ppg: tuple[Literal["ambient", "infrared", "red"], ...] = ()  # classic: a stream for each
    keep_alive_s: float = 30.0
    eeg_zero: int = 8192  # Athena: BrainFlow and muse-lsl subtract it, OpenMuse does not
    raw: bool = True  # Athena: also keep each notification as it came
    optics_scale: float = 1.0  # Athena: OpenMuse takes 1/32768
    battery_divisor: float = 256.0  # Athena: BrainFlow and muse-lsl take 512


def make_driver(
    config: Config,
    *,
    device: str,
    clock: Clock,
    run: Path | None = None,
    backend: "Backend | None" = None,
) -> "MuseDriver":
    if not 0 < config.keep_alive_s <= 60:
        why = f"keep_alive_s is {config.keep_alive_s:g}, allowed are more than 0 and at most 60"
        raise wrong_setting(device, why, "keep_alive_s", code="out_of_range")
    target = Target("Muse", ("Muse",), SERVICE, config.address, config.name)
    link = make_link(config, target, device=device, clock=clock, run=run, backend=backend)
    return MuseDriver(config, device=device, clock=clock, target=target, link=link)


class MuseDriver:
    """One headset; see `devices.base.Driver`. `status`: battery and what else it says of itself."""

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
        self._control = Control(link, device=device, clock=clock, note=self._health.note)
        self._decoder: MuseDecoder | None = None
        self._opening: Opening | None = None
        self._raw: raw_packets.RawPackets | None = None
        self._silence: Silence | None = None
        self._kept_alive_ns = 0

    @property
    def status(self) -> dict[str, Any]:
        return self._health.status

    def open(self) -> tuple[StreamInfo, ...]:
        found = self._link.open((CONTROL,))
        is_athena = self._link.has(athena.DATA)
        wanted = self._config.generation
        needed = (athena.DATA,) if is_athena else tuple(classic.EEG.values())
        missing = [each for each in needed if not self._link.has(each)]
        if missing:
            raise gatt.wrong_peripheral(found, self._target, missing)
        if wanted != "auto" and (wanted == "athena") != is_athena:
            raise DeviceError(
                "wrong_device",
                f"{found.name} is not the headset that {self._device!r} expects",
                why=f"it is {'an Athena' if is_athena else 'a classic Muse'}",
                remedy="Correct `generation` in the device's settings, or switch the right one on",
                transient=True,
                answered=found.name,
            )
        self._link.subscribe(CONTROL)
        version = self._control.ask("v6" if is_athena else "v1")
        infos = self._start_athena() if is_athena else self._start_classic()
        self._health.connected(found, self._link.mtu)
        self.info = DeviceInfo(
            who_am_i="Muse Athena" if is_athena else "Muse",
            serial_number=str(self.status.get("sn", "")),
            hardware_version=str(version.get("hw", "")),
            firmware_version=str(version.get("fw", "")),
            operation_mode="streaming",
            address=found.address,
        )
        self._control.is_streaming = True
        return infos

    def read(self, timeout_s: float) -> Sequence[SampleBlock]:
        decoder, opening, silence = self._decoder, self._opening, self._silence
        if decoder is None or opening is None or silence is None:
            raise gatt.closed(self._target)
        data: list[Packet] = []
        for packet in self._control.early() or self._link.read(timeout_s):
            if packet.characteristic == CONTROL:
                self._control.take(packet)
            else:
                data.append(packet)
                silence.heard(packet.characteristic, packet.arrived_ns)
        self.counters.dropped_packets = self._link.dropped
        now = self._clock.monotonic_ns()
        blocks = opening.feed(data, now)
        if self._raw is not None:
            blocks += self._raw.take(data, self.counters.dropped_packets)
        if now - self._kept_alive_ns > self._config.keep_alive_s * 1e9:
            self._kept_alive_ns = now
            self._control.post(command("k"))
        if not blocks:
            self._watch(silence, opening, now)
        self._health.take(blocks, now, rows=decoder.rows, said=decoder.telemetry)
        return blocks

    def notices(self) -> list[Notice]:
        return self._health.take_notices()

    def proof(self, stream_id: str) -> str:  # noqa: ARG002  its counters begin with each start
        return ""

    def clock(self, stream_id: str) -> ClockState | None:
        return self._decoder.clock(stream_id) if self._decoder is not None else None

    def command(self, command: DeviceCommand) -> DeviceReply:
        """`control` with `text`, such as "s" (status): what the headset answers."""
        if command.name != "control":
            raise unsupported(self._device, command)
        only(command, "text")
        text = command.arguments.get("text")
        if not isinstance(text, str) or not text.isascii() or not text:
            raise bad_argument("text", "what the headset is to be told, such as s")
        return DeviceReply(name=command.name, values=self._control.ask(text))

    def close(self) -> None:
        self._link.close((CONTROL, command("h")))

    # ---- start ---------------------------------------------------------------------------------

    def _start_classic(self) -> tuple[StreamInfo, ...]:
        config = self._config
        preset = config.preset or ("p50" if config.ppg else "p20" if config.aux else "p21")
        infos = classic.streams(self._device, aux=config.aux, ppg=config.ppg)
        control = self._control
        control.tell("h")
        control.tell(preset)
        control.ask("s")
        infos = {key: delayed(info, config) for key, info in infos.items()}
        self._use(lambda counters: classic.MuseDecoder(infos, counters, bias_ns=config.latency_ns))
        self._health.watch(infos[classic.EEG["TP9"]], classic.RAILS)
        sending = [*classic.EEG.values(), *([classic.AUX] if config.aux else [])]
        others = [each for each in infos if each not in sending]
        for each in (*sending, *others, classic.TELEMETRY):
            if each in sending or self._link.has(each):
                self._link.subscribe(each)
        control.tell("d")
        self._expect(sending, (_HALT, *_START))
        return tuple(infos.values())

    def _start_athena(self) -> tuple[StreamInfo, ...]:
        config, control = self._config, self._control
        preset = config.preset or athena.DEFAULT_PRESET
        infos = athena.streams(
            self._device,
            athena.layout(preset),
            eeg_zero=config.eeg_zero,
            optics_scale=config.optics_scale,
        )
        infos = {key: delayed(info, config) for key, info in infos.items()}
        control.ask("s")
        control.tell("h")
        control.tell(preset)
        control.ask("s")
        self._use(
            lambda counters: athena.AthenaDecoder(
                infos,
                counters,
                bias_ns=config.latency_ns,
                battery_divisor=config.battery_divisor,
            )
        )
        self._health.watch(infos["eeg"], athena.RAILS)
        self._link.subscribe(athena.DATA)
        for text in ("dc001", "dc001", "L1"):
            control.tell(text)
        self._expect([athena.DATA], (_HALT, *_START_ATHENA))
        if not config.raw:
            return tuple(infos.values())
        raw = raw_packets.stream(self._device, athena.packets_per_s(athena.layout(preset)))
        self._raw = raw_packets.RawPackets(raw)
        return (*infos.values(), raw)

    def _expect(self, kinds: Sequence[str], restart: tuple[bytes, ...]) -> None:
        """Silence of one kind of packet is silence: the headset may stop a part of what it sends."""
        now = self._clock.monotonic_ns()
        self._kept_alive_ns = now
        self._silence = Silence(self._device, silent_s=self._config.silent_s, restart=restart)
        self._silence.expect(kinds, now)

    def _use(self, make: Callable[[LinkCounters], MuseDecoder]) -> None:
        self._decoder = make(self.counters)
        self._opening = Opening(self._decoder, make)

    def _watch(self, silence: Silence, opening: Opening, now: int) -> None:
        step = silence.look(now)
        if step is None:
            return
        if step.is_first:
            self._health.restarted(silence.restarts)
            opening.restart()
            if self._raw is not None:
                self._raw.restart()
        self._control.post(step.command)
