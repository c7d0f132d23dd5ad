"""Optical helmet (fNIRS): BFP/1 over USB CDC, TCP or UDP (docs/bfp.md).

Protocol: our own. Quirks: two streams of one device, `flow` and `flux`, each with a channel for every
pair of optodes and wavelength; which they are stands in the descriptor, channel by channel.
Runs in: acquire process, pull thread; commands in a thread of their own.
"""

from typing import Annotated, Any

import msgspec

from brainforge_edge.core.clock import Clock
from brainforge_edge.core.errors import DeviceError
from brainforge_edge.core.stream import StreamInfo
from brainforge_edge.devices.base import DeviceCommand, Transport
from brainforge_edge.devices.bfp import PayloadType, Register
from brainforge_edge.devices.bfp_commands import bad_argument, only
from brainforge_edge.devices.bfp_driver import BfpDriver
from brainforge_edge.devices.bfp_health import Health
from brainforge_edge.devices.bfp_registers import Registers

IDENTITY = 0xBF02
_SETTERS = {
    "set_led_power": ("led_power", Register.LED_POWER, "source"),
    "set_detector_gain": ("detector_gain", Register.DETECTOR_GAIN, "detector"),
}

Level = Annotated[int, msgspec.Meta(ge=0, le=255)]


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[device.settings]` of kind "fnirs"."""

    port: Annotated[str, msgspec.Meta(min_length=1)]  # /dev/…, tcp://host:port or udp://host:port
    baud: Annotated[int, msgspec.Meta(ge=50, le=12_000_000)] = 115_200  # USB CDC ignores it
    # Without samples for this long the link is made anew.
    silent_s: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] = 1.0
    serial_number: str = ""  # refuse any other one; "" takes the one that answers
    led_power: Level | None = None  # of every source; None leaves what the device has
    detector_gain: Level | None = None  # of every detector


def make_driver(config: Config, *, device: str, clock: Clock) -> BfpDriver:
    def open_transport() -> Transport:
        from brainforge_edge.devices.transport import open_port  # noqa: PLC0415  pyserial on use

        return open_port(config.port, baud=config.baud)

    part = FnirsPart(config)
    return BfpDriver(part, config, device=device, clock=clock, open_transport=open_transport)


class FnirsPart:
    """What an optical helmet has beside other devices of ours; see `bfp_driver.Part`."""

    identity = IDENTITY
    noun = "optical helmet"
    has_states = False

    def __init__(self, config: Config) -> None:
        self._config = config
        self._counts: dict[str, int] = {}

    def prepare(
        self, registers: Registers, infos: tuple[StreamInfo, ...], health: Health
    ) -> tuple[StreamInfo, ...]:
        details = [
            c.detail for info in infos for c in info.channels if c.detail is not msgspec.UNSET
        ]
        self._counts = {
            "source": len({d.source for d in details if d.source}),
            "detector": len({d.detector for d in details if d.detector}),
        }
        for key, register, optode in _SETTERS.values():
            level: int | None = getattr(self._config, key)
            count = self._counts[optode]
            if not count:
                continue
            if level is None:
                data = registers.read(register, PayloadType.U8, count=count)
            else:
                data = registers.write(register, PayloadType.U8, bytes([level] * count))
            health.note({key: list(data)})
        return infos

    def command(
        self, command: DeviceCommand, registers: Registers, health: Health
    ) -> dict[str, Any] | None:
        """`set_led_power`, `set_detector_gain`: one `value` for all, or `values`, one for each."""
        if command.name not in _SETTERS:
            return None
        only(command, "value", "values")
        key, register, optode = _SETTERS[command.name]
        count = self._counts[optode]
        values = command.arguments.get("values", [command.arguments.get("value")] * count)
        if (
            not isinstance(values, list)
            or len(values) != count
            or not all(type(value) is int and 0 <= value <= 255 for value in values)
        ):
            raise bad_argument("values", f"{count} numbers from 0 to 255, one for each {optode}")
        if not count:
            raise DeviceError(
                "no_optodes",
                "the command was not done",
                why=f"the device's description names no {optode}",
                remedy="Update the device's firmware",
            )
        in_force = list(registers.write(register, PayloadType.U8, bytes(values)))
        health.note({key: in_force})
        return {key: in_force}
