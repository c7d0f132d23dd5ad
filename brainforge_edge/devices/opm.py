"""OPM helmet: BFP/1 over USB CDC, TCP or UDP, with its start-up and field zeroing (docs/bfp.md).

Protocol: our own. Quirks: samples flow on while it starts up and zeroes, flagged, so that a reader of
the recording sees no unexplained hole; a new calibration means a new description of its streams.
Runs in: acquire process, pull thread; commands in a thread of their own.
"""

import struct
from typing import Annotated, Any

import msgspec

from brainforge_edge.core.clock import Clock
from brainforge_edge.core.stream import StreamInfo
from brainforge_edge.devices.base import DeviceCommand, Transport
from brainforge_edge.devices.bfp import OpmState, PayloadType, Register, pack_bits
from brainforge_edge.devices.bfp_commands import bad_argument, disturb, only, seconds
from brainforge_edge.devices.bfp_description import calibrated
from brainforge_edge.devices.bfp_driver import BfpDriver
from brainforge_edge.devices.bfp_health import Health
from brainforge_edge.devices.bfp_registers import Registers

IDENTITY = 0xBF01
MOST_WAIT_S = 600.0
PROCEDURES = {
    "start_up": OpmState.RESTART,
    "zero": OpmState.COARSE_ZERO,
    "fine_zero": OpmState.FINE_ZERO,
    "calibrate": OpmState.CALIBRATE,
    "switch_off": OpmState.OFF,
}
_ENDS = frozenset({"ready", "fault", "off"})
_BEGINS_S = 2.0  # until a helmet that took a command must have left its old state


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[device.settings]` of kind "opm"."""

    port: Annotated[str, msgspec.Meta(min_length=1)]  # /dev/…, tcp://host:port or udp://host:port
    baud: Annotated[int, msgspec.Meta(ge=50, le=12_000_000)] = 115_200  # USB CDC ignores it
    # Without samples for this long the link is made anew.
    silent_s: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] = 1.0
    serial_number: str = ""  # refuse any other one; "" takes the one that answers
    start_up: bool = True  # begin the start-up of a helmet that is found switched off


def make_driver(config: Config, *, device: str, clock: Clock) -> BfpDriver:
    def open_transport() -> Transport:
        from brainforge_edge.devices.transport import open_port  # noqa: PLC0415  pyserial on use

        return open_port(config.port, baud=config.baud)

    part = OpmPart(config, device=device, clock=clock)
    return BfpDriver(part, config, device=device, clock=clock, open_transport=open_transport)


class OpmPart:
    """What a helmet has beside other devices of ours; see `bfp_driver.Part`."""

    identity = IDENTITY
    noun = "OPM helmet"
    has_states = True

    def __init__(self, config: Config, *, device: str, clock: Clock) -> None:
        self._config = config
        self._device = device
        self._clock = clock
        self._infos: tuple[StreamInfo, ...] = ()

    def prepare(
        self, registers: Registers, infos: tuple[StreamInfo, ...], health: Health
    ) -> tuple[StreamInfo, ...]:
        first = infos[0]
        data = registers.read(Register.CALIBRATION, PayloadType.F32, count=first.n_channels)
        form = struct.Struct(f"<{first.n_channels}f")
        if len(data) == form.size:
            told = form.unpack(form.pack(*(channel.scale for channel in first.channels)))
            date = registers.read_number(Register.CALIBRATED, PayloadType.U64)
            first = calibrated(first, form.unpack(data), calibrated_utc_s=date, told=told)
            health.note({"calibrated_utc_s": date})
        self._infos = (first, *infos[1:])
        state = registers.read_number(Register.OPM_STATE, PayloadType.U8)
        if state == OpmState.OFF and self._config.start_up:
            self._tell_date(registers)
            registers.write_number(Register.OPM_STATE, PayloadType.U8, OpmState.RESTART)
        return self._infos

    def command(
        self, command: DeviceCommand, registers: Registers, health: Health
    ) -> dict[str, Any] | None:
        """`start_up`, `zero`, `fine_zero`, `calibrate`, `switch_off` (channels, force, wait_s),
        `set_loop` (mode)."""
        if command.name == "set_loop":
            return self._set_loop(command, registers)
        wanted = PROCEDURES.get(command.name)
        if wanted is None:
            return None
        only(command, "channels", "wait_s")
        wait_s = seconds(command.arguments, "wait_s", 0.0, MOST_WAIT_S)
        mask = self._mask(command.arguments.get("channels"))
        registers.write(Register.CHANNEL_MASK, PayloadType.U8, mask)
        self._tell_date(registers)
        before = health.status.get("state")
        disturb(command, registers, Register.OPM_STATE, wanted, device=self._device)
        if not wait_s:
            return {"state": str(health.status.get("state", ""))}
        # First away from where it was, then to an end; a quick one may have done both.
        health.wait_for(lambda status: status.get("state") != before, min(wait_s, _BEGINS_S))
        is_done = health.wait_for(lambda status: status.get("state") in _ENDS, wait_s)
        status = health.status
        return {
            "state": str(status.get("state", "")),
            "passed": is_done and status["state"] != "fault",
        }

    def _tell_date(self, registers: Registers) -> None:
        """The helmet has no calendar: it keeps this as the date of its next calibration."""
        now = (self._clock.utc_ns() or 0) // 1_000_000_000  # 0: the box does not know
        registers.write(Register.CALIBRATED, PayloadType.U64, now.to_bytes(8, "little"))

    def _mask(self, channels: object) -> bytes:
        """Bits of the channels that are named; all of them for None."""
        names = self._infos[0].ch_names
        if channels is None:
            return pack_bits(range(len(names)), len(names))
        if not isinstance(channels, list) or not set(channels) <= set(names):
            raise bad_argument("channels", "a list of names of the helmet's channels")
        return pack_bits([names.index(name) for name in channels], len(names))

    def _set_loop(self, command: DeviceCommand, registers: Registers) -> dict[str, Any]:
        only(command, "mode")
        modes = {"open": 0, "closed": 1}
        mode = command.arguments.get("mode")
        if mode not in modes:
            raise bad_argument("mode", "open or closed")
        disturb(command, registers, Register.LOOP_MODE, modes[str(mode)], device=self._device)
        return {"mode": mode}
