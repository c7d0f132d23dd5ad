"""Accelerometer hat: BFP/1 over USB CDC, TCP or UDP (docs/bfp.md).

Protocol: our own. Quirks: each sensor is a stream of its own with three axes, all on the hat's clock.
Runs in: acquire process, pull thread; commands in a thread of their own.
"""

from typing import Annotated, Any

import msgspec

from brainforge_edge.core.clock import Clock
from brainforge_edge.core.stream import StreamInfo
from brainforge_edge.devices.base import DeviceCommand, Transport
from brainforge_edge.devices.bfp_driver import BfpDriver
from brainforge_edge.devices.bfp_health import Health
from brainforge_edge.devices.bfp_registers import Registers

IDENTITY = 0xBF03


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[device.settings]` of kind "accel_hat"."""

    port: Annotated[str, msgspec.Meta(min_length=1)]  # /dev/…, tcp://host:port or udp://host:port
    baud: Annotated[int, msgspec.Meta(ge=50, le=12_000_000)] = 115_200  # USB CDC ignores it
    # Without samples for this long the link is made anew.
    silent_s: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] = 1.0
    serial_number: str = ""  # refuse any other one; "" takes the one that answers


def make_driver(config: Config, *, device: str, clock: Clock) -> BfpDriver:
    def open_transport() -> Transport:
        from brainforge_edge.devices.transport import open_port  # noqa: PLC0415  pyserial on use

        return open_port(config.port, baud=config.baud)

    part = HatPart()
    return BfpDriver(part, config, device=device, clock=clock, open_transport=open_transport)


class HatPart:
    """A hat has nothing beside what all devices of ours have; see `bfp_driver.Part`."""

    identity = IDENTITY
    noun = "accelerometer hat"
    has_states = False

    def prepare(
        self,
        registers: Registers,  # noqa: ARG002  part of the protocol
        infos: tuple[StreamInfo, ...],
        health: Health,  # noqa: ARG002
    ) -> tuple[StreamInfo, ...]:
        return infos

    def command(
        self,
        command: DeviceCommand,  # noqa: ARG002
        registers: Registers,  # noqa: ARG002
        health: Health,  # noqa: ARG002
    ) -> dict[str, Any] | None:
        return None
