"""Asks a port who is there, and lets go of it: our own devices by BFP/1, a Cyton by its banner.

Registers are only read, so a device that streams goes on. A Cyton is asked by `v`, which resets the
board: it is never sent to a port that the daemon has. Runs in: the command line.
"""

from collections.abc import Callable
from typing import NamedTuple

from brainforge_edge.core.block import BlockFlag
from brainforge_edge.core.clock import Clock
from brainforge_edge.core.errors import DeviceError
from brainforge_edge.core.identity import identity_of
from brainforge_edge.core.stream import DeviceInfo
from brainforge_edge.devices.base import Transport
from brainforge_edge.devices.bfp import (
    WHO_AM_I,
    FrameType,
    PayloadType,
    Register,
    unpack_descriptor,
)
from brainforge_edge.devices.bfp_decoder import BfpDecoder
from brainforge_edge.devices.bfp_registers import Registers

KINDS = {0xBF01: "opm", 0xBF02: "fnirs", 0xBF03: "accel_hat"}
_END = b"$$$"
_BANNER_S = 2.0
_QUIET_S = 0.15


class Answer(NamedTuple):
    kind: str
    basis: str
    identity: str
    name: str
    detail: dict[str, str]


def ask(
    port: str,
    kind: str,
    *,
    clock: Clock,
    open_transport: Callable[[str], Transport] | None = None,
) -> Answer:
    """Who answers at a serial port, tcp:// or udp://. `kind`: as guessed. DeviceError, ConfigError."""
    if open_transport is None:
        from brainforge_edge.devices.transport import open_port  # noqa: PLC0415  pyserial on use

        open_transport = open_port
    transport = open_transport(port)
    try:
        # The bytes of our own protocol would be commands to a Cyton.
        return _cyton(transport, port, clock) if kind == "openbci" else _ours(transport, clock)
    finally:
        transport.close()


def _ours(transport: Transport, clock: Clock) -> Answer:
    decoder = BfpDecoder({}, clk_hz=1e7, schema=0, flags=BlockFlag(0))

    def pump(timeout_s: float) -> None:
        decoder.feed(transport.read(timeout_s), clock.monotonic_ns())
        for frame_type, _, _, _, payload in decoder.control():
            if frame_type == FrameType.REP:
                registers.answer(payload)

    token = clock.monotonic_ns() >> 10
    registers = Registers(transport, clock=clock, token=token, pump=pump)
    number = registers.read_number(Register.WHO_AM_I, PayloadType.U16)
    descriptor = unpack_descriptor(registers.read_descriptor())
    kind = KINDS.get(number, "")
    info = DeviceInfo(WHO_AM_I.get(number, "unknown device"), descriptor.serial_number)
    return Answer(
        kind=kind,
        basis=f"its answer, WHO_AM_I 0x{number:04X}",
        identity=identity_of(kind or "bfp", info, place="") if descriptor.serial_number else "",
        name=info.who_am_i,
        detail={
            "serial": descriptor.serial_number,
            "firmware": descriptor.firmware,
            "hardware": descriptor.hardware,
            "emulated": "yes" if descriptor.emulated else "no",
        },
    )


def _cyton(transport: Transport, port: str, clock: Clock) -> Answer:
    def until(seconds: float) -> Callable[[], float]:
        end = clock.monotonic_ns() + round(seconds * 1e9)
        return lambda: (end - clock.monotonic_ns()) / 1e9

    transport.write(b"s")  # it replies only while it does not stream
    left = until(_BANNER_S)
    while transport.read(_QUIET_S) and left() > 0:
        continue
    transport.write(b"v")
    left = until(_BANNER_S)
    said = b""
    while _END not in said and left() > 0 and len(said) < 65_536:
        said += transport.read(left())
    banner = said.partition(_END)[0].decode("ascii", "replace")
    if "OpenBCI" not in banner:
        raise DeviceError(
            "no_answer",
            f"no OpenBCI board answers at {port}",
            why="nothing like its banner came",
            remedy="Switch the board on, near its dongle",
            transient=True,
        )
    return Answer(
        kind="openbci",
        basis="its banner",
        identity="",  # a board tells none; its dongle has a serial number
        name="OpenBCI Cyton with Daisy" if "On Daisy" in banner else "OpenBCI Cyton",
        detail={"firmware": banner.partition("Firmware: ")[2].split("\n")[0].strip()},
    )
