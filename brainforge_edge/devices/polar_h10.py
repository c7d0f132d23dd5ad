"""Polar H10 chest strap over Bluetooth LE: ECG, accelerometer, heart rate (docs/devices/polar_h10.md).

Protocol: read in public decoders of Polar's measurement service. Quirks: commands are written with
response and answered by an indication; a notification of 73 samples needs an MTU of 232; the strap
streams only while it is worn.
Runs in: acquire process, pull thread; `command` and `close` also from its main thread.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from brainforge_edge.core.block import SampleBlock
from brainforge_edge.core.clock import Clock
from brainforge_edge.core.clockfit import ClockState
from brainforge_edge.core.config import wrong_setting
from brainforge_edge.core.errors import DeviceError
from brainforge_edge.core.stream import DeviceInfo, StreamInfo
from brainforge_edge.devices import gatt
from brainforge_edge.devices import polar_decoder as polar
from brainforge_edge.devices.base import (
    DeviceCommand,
    DeviceReply,
    LinkCounters,
    Notice,
    unsupported,
)
from brainforge_edge.devices.ble_config import SILENT_S, BleConfig, Seconds, delayed, make_link
from brainforge_edge.devices.ble_health import BleHealth
from brainforge_edge.devices.ble_opening import Opening
from brainforge_edge.devices.gatt import GattLink, Target
from brainforge_edge.devices.silence import Silence

if TYPE_CHECKING:
    from brainforge_edge.devices.ble import Backend

SERVICE = "0000180d-0000-1000-8000-00805f9b34fb"  # heart rate: what a strap advertises
CONTROL = "fb005c81-02e7-f387-1cad-8acd2d8df0c8"
MIN_MTU = 232
_ANSWER_S = 3.0
_HOLD_NS = 1_500_000_000  # three notifications of the ECG
_ECG_ALONE_S = 4.0  # a notification each 0.56 s: a lost one or two are no silence
_ANSWER = 0xF0
_START_ECG = bytes.fromhex("02 00 00 01 82 00 01 01 0e 00")  # 130 Hz, 14 bit
_STOP_ECG, _STOP_ACC = b"\x03\x00", b"\x03\x02"
_ALREADY = 6
_REFUSED = (
    "", "no such command", "no such measurement", "not supported", "wrong length",
    "wrong parameter", "it does that already", "wrong resolution", "wrong sampling rate", "wrong range",
    "the MTU is too small", "wrong number of channels", "wrong state: the strap is not worn",
)  # fmt: skip


class Config(BleConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[device.settings]` of kind "polar_h10"."""

    acc_hz: Literal[0, 25, 50, 100, 200] = 200  # 0: no accelerometer
    silent_s: Seconds = 0.0  # not given: 2, without the accelerometer 4


def make_driver(
    config: Config,
    *,
    device: str,
    clock: Clock,
    run: Path | None = None,
    backend: "Backend | None" = None,
) -> "PolarDriver":
    if not config.acc_hz and 0 < config.silent_s < _ECG_ALONE_S:
        why = (
            f"silent_s is {config.silent_s:g}, and without the accelerometer (acc_hz = 0) "
            f"it is at least {_ECG_ALONE_S:g}"
        )
        raise wrong_setting(device, why, "silent_s", code="out_of_range")
    target = Target("Polar H10", ("Polar H10",), "", config.address, config.name)
    link = make_link(config, target, device=device, clock=clock, run=run, backend=backend)
    return PolarDriver(config, device=device, clock=clock, target=target, link=link)


class PolarDriver:
    """One strap; see `devices.base.Driver`. `status`: heart rate, contact, battery, radio."""

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
        moved = (_STOP_ACC, _start_acc(config.acc_hz)) if config.acc_hz else ()
        restart = (_STOP_ECG, *moved[:1], _START_ECG, *moved[1:])
        silent_s = config.silent_s or (SILENT_S if config.acc_hz else _ECG_ALONE_S)
        self._silence = Silence(device, silent_s=silent_s, restart=restart)
        self._decoder: polar.PolarDecoder | None = None
        self._opening: Opening | None = None

    @property
    def status(self) -> dict[str, Any]:
        return self._health.status

    def open(self) -> tuple[StreamInfo, ...]:
        config = self._config
        found = self._link.open((CONTROL, polar.DATA))
        mtu = self._link.mtu
        if mtu is not None and mtu < MIN_MTU:
            raise _too_small(self._device, mtu)
        infos = polar.streams(self._device, config.acc_hz)
        infos = {kind: delayed(info, config) for kind, info in infos.items()}

        def make(counters: LinkCounters) -> polar.PolarDecoder:
            return polar.PolarDecoder(infos, counters, bias_ns=config.latency_ns)

        self._decoder = make(self.counters)
        self._opening = Opening(self._decoder, make, hold_ns=_HOLD_NS)
        if self._link.has(polar.BATTERY):
            level = self._link.read_value(polar.BATTERY)
            self._health.note({"battery_percent": float(level[0])} if level else {})
        for characteristic in (CONTROL, polar.DATA, polar.HEART_RATE, polar.BATTERY):
            if self._link.has(characteristic):
                self._link.subscribe(characteristic)
        self._ask(_START_ECG)
        if config.acc_hz:
            self._ask(_start_acc(config.acc_hz))
        self._health.connected(found, mtu)
        self.info = DeviceInfo(
            who_am_i="Polar H10",
            serial_number=found.name.rpartition(" ")[2],
            operation_mode="streaming",
        )
        self._silence.expect((polar.DATA,), self._clock.monotonic_ns())
        return tuple(infos.values())

    def read(self, timeout_s: float) -> Sequence[SampleBlock]:
        decoder, opening = self._decoder, self._opening
        if decoder is None or opening is None:
            raise gatt.closed(self._target)
        packets = [
            packet for packet in self._link.read(timeout_s) if packet.characteristic != CONTROL
        ]
        for packet in packets:
            self._silence.heard(packet.characteristic, packet.arrived_ns)
        self.counters.dropped_packets = self._link.dropped
        now = self._clock.monotonic_ns()
        blocks = opening.feed(packets, now)
        if not blocks:
            self._watch(opening, now)
        self._health.take(blocks, now, rows=decoder.rows, said=decoder.telemetry)
        return blocks

    def notices(self) -> list[Notice]:
        return self._health.take_notices()

    def proof(self, stream_id: str) -> str:  # noqa: ARG002  a strap proves nothing
        return ""

    def clock(self, stream_id: str) -> ClockState | None:
        return self._decoder.clock(stream_id) if self._decoder is not None else None

    def command(self, command: DeviceCommand) -> DeviceReply:
        raise unsupported(self._device, command)

    def close(self) -> None:
        self._link.close()  # a strap stops by itself when the connection ends

    def _watch(self, opening: Opening, now: int) -> None:
        step = self._silence.look(now)
        if step is None:
            return
        if step.is_first:
            self._health.restarted(self._silence.restarts)
            opening.restart()
        self._link.post(CONTROL, step.command, response=True)

    def _ask(self, command: bytes) -> None:
        """Write and wait for its answer; DeviceError `refused` or `no_answer`."""
        self._link.write(CONTROL, command, response=True)
        until = self._clock.monotonic_ns() + round(_ANSWER_S * 1e9)
        while (left := (until - self._clock.monotonic_ns()) / 1e9) > 0:
            for packet in self._link.read(left):
                data = packet.data
                if packet.characteristic == CONTROL and data[:3] == bytes([_ANSWER]) + command[:2]:
                    return self._judge(command, data[3] if len(data) > 3 else 1)
        raise DeviceError(
            "no_answer",
            f"{self._device} does not answer",
            why=f"nothing came within {_ANSWER_S:g} s after it was told to start",
            remedy="Moisten the electrodes, put the strap on, and disconnect it from phones and watches",
            transient=True,
        )

    def _judge(self, command: bytes, status: int) -> None:
        if status in {0, _ALREADY}:
            return
        why = _REFUSED[status] if status < len(_REFUSED) else f"it answers {status}"
        if _REFUSED.index("the MTU is too small") == status:
            raise _too_small(self._device, self._link.mtu or 23)
        raise DeviceError(
            "refused",
            f"{self._device} does not start to measure",
            why=f"{why} (command {command.hex(' ')})",
            remedy="Moisten the electrodes and put the strap on; correct `acc_hz` if that is named",
            transient=True,
        )


def _start_acc(hz: int) -> bytes:
    """16 bit, ± 8 g."""
    return bytes.fromhex("02 02 00 01") + bytes([hz, 0]) + bytes.fromhex("01 01 10 00 02 01 08 00")


def _too_small(device: str, mtu: int) -> DeviceError:
    return DeviceError(
        "mtu_too_small",
        f"{device} cannot send its samples over this connection",
        why=f"its packets need an MTU of {MIN_MTU}, the Bluetooth service agreed to {mtu}",
        remedy="Set ExchangeMTU = 517 under [GATT] in /etc/bluetooth/main.conf, or use another adapter",
        mtu=mtu,
    )
