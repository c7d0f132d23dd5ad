"""Interaxon Muse (2016, 2, S, S Athena) over Bluetooth LE (docs/devices/muse.md).

Protocol: read in muse-lsl, muse-js, BrainFlow and OpenMuse; not published by the vendor. Quirks: the
headset stops silently after minutes without a keep-alive; replies to two commands mix, so one is
asked at a time; both generations advertise `Muse…`: characteristic 0013 tells them apart.
Runs in: acquire process, pull thread; `command` and `close` also from its main thread.
"""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from brainforge_edge.core.block import SampleBlock
from brainforge_edge.core.clock import Clock
from brainforge_edge.core.clockfit import ClockState
from brainforge_edge.core.errors import ConfigError, DeviceError
from brainforge_edge.core.ids import checked_name
from brainforge_edge.core.stream import DeviceInfo, StreamInfo
from brainforge_edge.devices import athena_decoder as athena
from brainforge_edge.devices import gatt
from brainforge_edge.devices import muse_decoder as classic
from brainforge_edge.devices.base import DeviceCommand, DeviceReply, LinkCounters, unsupported
from brainforge_edge.devices.gatt import GattLink, Packet, Target
from brainforge_edge.devices.muse_control import Replies, command

if TYPE_CHECKING:
    from brainforge_edge.devices.ble import Backend

SERVICE = "0000fe8d-0000-1000-8000-00805f9b34fb"
CONTROL = classic.CONTROL
_REPLY_S = 2.0
_TRIES = 3
_TOLD_S = 0.5


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[device.settings]` of kind "muse"."""

    address: str = ""  # of the headset; "" takes the one that `name` says, or the only one
    name: str = ""  # "Muse-1A2B"
    adapter: str = ""  # "hci1"; "" takes the system's
    generation: Literal["auto", "classic", "athena"] = "auto"
    preset: str = ""  # "" takes p21, p20 with aux, p50 with ppg, p1041 of an Athena
    aux: bool = False  # classic: the fifth electrode
    ppg: tuple[Literal["ambient", "infrared", "red"], ...] = ()  # classic: a stream for each
    keep_alive_s: float = 30.0
    silent_s: float = 2.0  # without a packet of some kind for this long the link is made anew
    find_s: float = 10.0
    bias_ms: float = 2.5  # by which even the quickest packet is late
    acquire_notify: bool = False  # BlueZ: a socket for each characteristic, not a D-Bus message
    eeg_zero: int = 8192  # Athena: BrainFlow and muse-lsl subtract it, OpenMuse does not
    optics_scale: float = 1.0  # Athena: OpenMuse takes 1/32768
    battery_divisor: float = 256.0  # Athena: BrainFlow and muse-lsl take 512
    subject: str = ""  # pseudonym of who wears it, when several do


def make_driver(
    config: Config,
    *,
    device: str,
    clock: Clock,
    run: Path | None = None,
    backend: "Backend | None" = None,
) -> "MuseDriver":
    if not 0 < config.keep_alive_s <= 60:
        raise ConfigError(
            "out_of_range",
            f"{device} has a wrong setting",
            why=f"keep_alive_s is {config.keep_alive_s:g}, allowed are more than 0 and at most 60",
            remedy="Correct `keep_alive_s` in the device's settings",
        )
    if config.subject:
        checked_name(config.subject, "the subject")
    target = Target("Muse", ("Muse",), SERVICE, config.address, config.name)

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

    return MuseDriver(config, device=device, clock=clock, target=target, link=make_link())


class MuseDriver:
    """One headset; see `devices.base.Driver`. `status`: battery and what else it says of itself."""

    def __init__(
        self, config: Config, *, device: str, clock: Clock, target: Target, link: GattLink
    ) -> None:
        self.counters = LinkCounters()
        self.info: DeviceInfo | None = None
        self.status: dict[str, Any] = {"subject": config.subject} if config.subject else {}
        self._config = config
        self._device = device
        self._clock = clock
        self._target = target
        self._link = link
        self._replies = Replies()
        self._heard: list[dict[str, Any]] = []
        self._answered = threading.Condition()
        self._asking = threading.Lock()
        self._decoder: classic.MuseDecoder | athena.AthenaDecoder | None = None
        self._early: list[Packet] = []  # data that came during the start
        self._unasked = 0  # replies to come that nobody waits for
        self._is_streaming = False
        self._last_ns: dict[str, int] = {}  # by characteristic that must send
        self._kept_alive_ns = 0

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
                answered=found.name,
            )
        self._link.subscribe(CONTROL)
        version = self._ask("v6" if is_athena else "v1")
        infos = self._start_athena() if is_athena else self._start_classic()
        self.status |= {"rssi_dbm": found.rssi, "adapter": found.adapter, "address": found.address}
        self.info = DeviceInfo(
            who_am_i="Muse Athena" if is_athena else "Muse",
            serial_number=str(self.status.get("sn", "")),
            hardware_version=str(version.get("hw", "")),
            firmware_version=str(version.get("fw", "")),
            operation_mode="streaming",
            address=found.address,
        )
        self._is_streaming = True
        return infos

    def read(self, timeout_s: float) -> Sequence[SampleBlock]:
        decoder = self._decoder
        if decoder is None:
            raise gatt.closed(self._target)
        blocks: list[SampleBlock] = []
        packets, self._early = self._early, []
        for packet in packets or self._link.read(timeout_s):
            if packet.characteristic == CONTROL:
                self._take_replies(packet)
            else:
                blocks += decoder.feed(packet)
                self._last_ns[packet.characteristic] = packet.arrived_ns
        self.counters.dropped_packets = self._link.dropped
        self.status |= decoder.telemetry
        now = self._clock.monotonic_ns()
        if now - self._kept_alive_ns > self._config.keep_alive_s * 1e9:
            self._kept_alive_ns = now
            self._unasked += 1
            self._link.post(CONTROL, command("k"))
        if not blocks:
            self._watch(now)
        return blocks

    def proof(self, stream_id: str) -> str:  # noqa: ARG002  its counters begin with each start
        return ""

    def clock(self, stream_id: str) -> ClockState | None:
        return self._decoder.clock(stream_id) if self._decoder is not None else None

    def command(self, command: DeviceCommand) -> DeviceReply:
        """`control` with `text`, such as "s" (status): what the headset answers."""
        if command.name != "control":
            raise unsupported(self._device, command)
        return DeviceReply(name=command.name, values=self._ask(str(command.arguments["text"])))

    def close(self) -> None:
        self._link.close((CONTROL, command("h")))

    # ---- start ---------------------------------------------------------------------------------

    def _start_classic(self) -> tuple[StreamInfo, ...]:
        config = self._config
        preset = config.preset or ("p50" if config.ppg else "p20" if config.aux else "p21")
        infos = classic.streams(self._device, aux=config.aux, ppg=config.ppg)
        self._tell("h")
        self._tell(preset)
        self._ask("s")
        self._decoder = classic.MuseDecoder(infos, self.counters, bias_ns=self._bias_ns)
        sending = [*classic.EEG.values(), *([classic.AUX] if config.aux else [])]
        others = [each for each in infos if each not in sending]
        for each in (*sending, *others, classic.TELEMETRY):
            if each in sending or self._link.has(each):
                self._link.subscribe(each)
        self._tell("d")
        self._watched_from(sending)
        return tuple(infos.values())

    def _start_athena(self) -> tuple[StreamInfo, ...]:
        config = self._config
        preset = config.preset or athena.DEFAULT_PRESET
        infos = athena.streams(
            self._device,
            athena.layout(preset),
            eeg_zero=config.eeg_zero,
            optics_scale=config.optics_scale,
        )
        self._ask("s")
        self._tell("h")
        self._tell(preset)
        self._ask("s")
        self._decoder = athena.AthenaDecoder(
            infos, self.counters, bias_ns=self._bias_ns, battery_divisor=config.battery_divisor
        )
        self._link.subscribe(athena.DATA)
        for text in ("dc001", "dc001", "L1"):  # the first one alone does not start it
            self._tell(text)
        self._watched_from([athena.DATA])
        return tuple(infos.values())

    @property
    def _bias_ns(self) -> int:
        return round(self._config.bias_ms * 1e6)

    def _watched_from(self, characteristics: Sequence[str]) -> None:
        now = self._clock.monotonic_ns()
        self._last_ns = dict.fromkeys(characteristics, now)
        self._kept_alive_ns = now

    def _watch(self, now: int) -> None:
        """Silence of one kind of packet is silence: the headset may stop a part of what it sends."""
        for characteristic, last_ns in self._last_ns.items():
            if characteristic == classic.TELEMETRY:
                continue  # every ten seconds or so
            if now - last_ns > self._config.silent_s * 1e9:
                raise DeviceError(
                    "silent",
                    f"{self._device} has stopped sending",
                    why=f"no packet of characteristic {characteristic[4:8]} came"
                    f" for {self._config.silent_s:g} s",
                    remedy="The connection is made anew by itself; if this repeats, charge the"
                    " headset and switch it off and on",
                    transient=True,
                )

    # ---- commands ------------------------------------------------------------------------------

    def _ask(self, text: str) -> dict[str, Any]:
        """One command and its reply; DeviceError `no_answer` or `refused`."""
        for _ in range(_TRIES):
            reply = self._exchange(text, _REPLY_S)
            if reply is not None:
                return reply
        raise DeviceError(
            "no_answer",
            f"{self._device} does not answer the command {text!r}",
            why=f"nothing came within {_REPLY_S:g} s, {_TRIES} times",
            remedy="Switch the headset off and on",
            transient=True,
        )

    def _tell(self, text: str) -> None:
        """A command that not every firmware answers. DeviceError `refused`."""
        self._exchange(text, _TOLD_S)

    def _exchange(self, text: str, within_s: float) -> dict[str, Any] | None:
        with self._asking:
            self._heard.clear()
            self._link.write(CONTROL, command(text))
            reply = self._await_reply(within_s)
        if reply is not None and reply.get("rc", 0) != 0:
            raise DeviceError(
                "refused",
                f"{self._device} refuses the command {text!r}",
                why=f"it answers rc {reply['rc']}",
                remedy="Correct `preset` in the device's settings, or update the headset",
                transient=True,
            )
        return reply

    def _await_reply(self, within_s: float) -> dict[str, Any] | None:
        until = self._clock.monotonic_ns() + round(within_s * 1e9)
        while (left := (until - self._clock.monotonic_ns()) / 1e9) > 0:
            if self._is_streaming:  # the pull thread reads
                with self._answered:
                    if not self._heard:
                        self._answered.wait(left)
            else:
                for packet in self._link.read(left):
                    if packet.characteristic == CONTROL:
                        self._take_replies(packet)
                    else:
                        self._early.append(packet)
            if self._heard:
                return self._heard[0]
        self._unasked = 0
        return None

    def _take_replies(self, packet: Packet) -> None:
        for reply in self._replies.feed(packet.data):
            if "bp" in reply:
                self.status["battery_percent"] = float(reply["bp"])
            self.status |= {key: reply[key] for key in ("sn", "hn", "ps") if key in reply}
            with self._answered:
                if self._unasked:
                    self._unasked -= 1
                    continue
                self._heard.append(reply)
                del self._heard[:-8]
                self._answered.notify_all()
