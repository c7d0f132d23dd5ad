"""Which registers an emulated BFP/1 device has. Runs in: emulator process, its only thread."""

import struct
from typing import Protocol

from brainforge_edge.devices.bfp import (
    ALL_TESTS,
    FORCED,
    FORCED_TEST,
    PayloadType,
    Register,
    TestSignal,
)
from brainforge_edge.emulators.bfp_registers import (
    OUT_OF_RANGE,
    WRONG_STATE,
    Cell,
    array,
    number,
    switch,
    text,
)
from brainforge_edge.emulators.bfp_stream import EmulatedStream
from brainforge_edge.emulators.opm_machine import OpmMachine
from brainforge_edge.kernels.crc import crc32c

_MOST_FRAME = 64


class Registered(Protocol):
    """What the registers read and do."""

    streams: tuple[EmulatedStream, ...]
    identity: int
    descriptor: bytes
    frame_samples: int
    machine: OpmMachine | None
    arrays: dict[int, bytearray]
    keep_running: int
    is_enabled: int
    is_active: int
    is_protected: int
    heartbeat_ms: int
    test: TestSignal

    def ticks(self, now_ns: int) -> int: ...
    @property
    def start_ticks(self) -> int: ...
    def start(self, now_ns: int) -> None: ...
    def stand_by(self, now_ns: int) -> None: ...
    def restart(self, now_ns: int) -> None: ...
    def begin_test(self, tests: int, now_ns: int) -> None: ...
    def protect(self, value: int) -> None: ...


def cells_of(device: Registered) -> dict[int, Cell]:
    """Address → register."""
    u8, u16, u32, u64 = PayloadType.U8, PayloadType.U16, PayloadType.U32, PayloadType.U64
    cells: dict[int, Cell] = {
        Register.WHO_AM_I: number(u16, lambda _: device.identity),
        Register.TIME: number(u64, device.ticks),
        Register.OPERATION: switch(
            lambda: device.is_active, lambda value, now: _run(device, now, active=value)
        ),
        Register.RESET: switch(
            lambda: 0, lambda value, now: device.restart(now) if value else None
        ),
        Register.NAME: text(b"emulated device", 32),
        Register.UID: text(b"BF-EMU-1", 16),
        Register.TAG: text(b"emulator", 8),
        Register.HEARTBEAT: switch(
            lambda: device.heartbeat_ms,
            lambda value, _: _beat(device, value),
            kind=u16,
            most=0xFFFF,
        ),
        Register.VERSION: text(b"BFP/1 emulator", 32),
        Register.KEEP_RUNNING: switch(
            lambda: device.keep_running, lambda value, _: setattr(device, "keep_running", value)
        ),
        Register.DESC_SIZE: number(u32, lambda _: len(device.descriptor)),
        Register.DESC_CRC: number(u32, lambda _: crc32c(device.descriptor)),
        Register.STREAM_EN: Cell(
            u8,
            lambda _: bytes([device.is_enabled]) * len(device.streams),
            lambda data, now: _run(device, now, enabled=int(any(data))),
        ),
        Register.FRAME_SAMPLES: switch(
            lambda: device.frame_samples,
            lambda value, _: _frame(device, value),
            kind=u16,
            most=_MOST_FRAME,
        ),
        Register.STREAM_START: number(u64, lambda _: device.start_ticks),
        Register.TEST_SIGNAL: switch(
            lambda: device.test, lambda value, _: _test(device, value), most=0xFF
        ),
        Register.SELF_TEST: switch(
            lambda: 0, lambda value, now: _self_test(device, value, now), kind=u32, most=2**32 - 1
        ),
        Register.PROTECTED: switch(
            lambda: device.is_protected, lambda value, _: device.protect(value)
        ),
    }
    if device.machine is not None:
        cells |= _opm(device.machine)
    cells |= {Register(address): array(values) for address, values in device.arrays.items()}
    return cells


def _opm(machine: OpmMachine) -> dict[int, Cell]:
    def keep_date(data: bytes, now_ns: int) -> int:  # noqa: ARG001  part of the protocol
        machine.next_date_utc_s = struct.unpack("<Q", data)[0]
        return 0

    def set_loop(value: int, now_ns: int) -> int:  # noqa: ARG001
        if machine.is_protected and not value & FORCED:
            return WRONG_STATE
        if value & ~FORCED > 1:
            return OUT_OF_RANGE
        machine.loop_mode = value & ~FORCED
        return 0

    return {
        Register.OPM_STATE: switch(lambda: machine.state, machine.begin, most=0xFF),
        Register.CHANNEL_MASK: array(machine.mask),
        Register.LOOP_MODE: switch(lambda: machine.loop_mode, set_loop, most=0xFF),
        Register.CALIBRATION: Cell(PayloadType.F32, lambda _: machine.calibration.tobytes()),
        Register.CALIBRATED: Cell(
            PayloadType.U64, lambda _: struct.pack("<Q", machine.calibrated_utc_s), keep_date
        ),
    }


def _run(device: Registered, now_ns: int, *, active: int = -1, enabled: int = -1) -> int:
    device.is_active = device.is_active if active < 0 else active
    device.is_enabled = device.is_enabled if enabled < 0 else enabled
    if device.is_enabled and device.is_active:
        device.start(now_ns)
    else:
        device.stand_by(now_ns)
    return 0


def _beat(device: Registered, value: int) -> int:
    if not value:
        return OUT_OF_RANGE
    device.heartbeat_ms = value
    return 0


def _frame(device: Registered, value: int) -> int:
    if not value:
        return OUT_OF_RANGE
    device.frame_samples = value
    return 0


def _test(device: Registered, value: int) -> int:
    wanted = value & ~FORCED
    if wanted not in list(TestSignal):
        return OUT_OF_RANGE
    if device.is_protected and not value & FORCED:
        return WRONG_STATE
    device.test = TestSignal(wanted)
    return 0


def _self_test(device: Registered, value: int, now_ns: int) -> int:
    tests = value & ~FORCED_TEST
    if not tests or tests & ~ALL_TESTS:
        return OUT_OF_RANGE
    if device.is_protected and not value & FORCED_TEST:
        return WRONG_STATE
    device.begin_test(tests, now_ns)
    return 0
