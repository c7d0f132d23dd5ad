"""Commands that every BFP/1 device knows, and what the commands of all kinds share.

Runs in: acquire process, a thread of its own for each command, while the pull thread reads.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from brainforge_edge.core.errors import DeviceError
from brainforge_edge.core.stream import Dtype, StreamInfo
from brainforge_edge.devices.base import DeviceCommand, protected, unsupported
from brainforge_edge.devices.bfp import (
    ALL_TESTS,
    FORCED,
    FORCED_TEST,
    PayloadType,
    Register,
    TestSignal,
)
from brainforge_edge.devices.bfp_decoder import BfpDecoder
from brainforge_edge.devices.bfp_health import Health
from brainforge_edge.devices.bfp_registers import NO_SUCH_REGISTER, WRONG_STATE, Registers
from brainforge_edge.devices.bfp_test_signal import n_wrong

TEST_S = 1.0
CHANNEL_TEST_S = 10.0
_MOST_CHANNEL_TEST_S = 120.0
_MOST_TEST_S = 5.0
_MOST_COUNT = 4_096
_LATE_S = 2.0
WRONG_TYPE = 2  # of REGISTER_ERRORS
_SIZES = {1: PayloadType.U8, 2: PayloadType.U16, 4: PayloadType.U32, 8: PayloadType.U64}


def common(
    command: DeviceCommand,
    registers: Registers,
    decoder: BfpDecoder,
    health: Health,
    *,
    device: str,
) -> dict[str, Any]:
    """`read_register`, `write_register` (address, size 1, 2, 4 or 8, count or value), `self_test`,
    `channel_test` (tests, wait_s)."""
    arguments = command.arguments
    if command.name == "read_register":
        only(command, "address", "size", "count")
        size = _SIZES[_size(arguments)]
        address = integer(arguments, "address", None, 0, 0xFFFF)
        count = integer(arguments, "count", 1, 1, _MOST_COUNT)
        with _size_named(address, size):
            return {"data": registers.read(address, size, count=count).hex()}
    if command.name == "write_register":
        only(command, "address", "size", "value")
        size = _SIZES[_size(arguments)]
        address = integer(arguments, "address", None, 0, 0xFFFF)
        value = integer(arguments, "value", None, 0, (1 << 8 * size) - 1)
        with _size_named(address, size):
            return {"value": registers.write_number(address, size, value)}
    if command.name == "self_test":
        return _self_test(command, registers, decoder, device=device)
    if command.name == "channel_test":
        return _channel_test(command, registers, health, device=device)
    raise unsupported(device, command)


def disturb(
    command: DeviceCommand,
    registers: Registers,
    register: Register,
    value: int,
    *,
    device: str,
    payload_type: PayloadType = PayloadType.U8,
    forced: int = FORCED,
) -> None:
    """Write what spoils samples. While a recording is open the device refuses it unless forced."""
    is_forced = flag(command.arguments, "force")
    is_known = protect(registers, is_recorded=bool(command.recording))
    if not is_known and command.recording and not is_forced:  # the box says it
        raise protected(device, command)
    try:
        registers.write_number(register, payload_type, value | (forced if is_forced else 0))
    except DeviceError as error:
        if error.facts.get("error") == WRONG_STATE and command.recording and not is_forced:
            raise protected(device, command) from error
        raise


def protect(registers: Registers, *, is_recorded: bool) -> bool:
    """Tell the device that a recording is open, or that none is; False for firmware that cannot know."""
    try:
        registers.write_number(Register.PROTECTED, PayloadType.U8, int(is_recorded))
    except DeviceError as error:
        if error.facts.get("error") != NO_SUCH_REGISTER:
            raise
        return False
    return True


def only(command: DeviceCommand, *known: str) -> None:
    """DeviceError `bad_argument` for one that is not `known`: unseen, a typing error would do nothing."""
    unknown = sorted(set(command.arguments) - {*known, "force"})
    if unknown:
        raise DeviceError(
            "bad_argument",
            "the command was not done",
            why=f"{command.name} knows no {unknown[0]!r}, only {', '.join(known)} and force",
            remedy="Correct or leave out that argument; brainforge_edge/docs/devices.md lists them",
        )


def integer(arguments: dict[str, Any], key: str, default: int | None, least: int, most: int) -> int:
    """DeviceError `bad_argument`; without a default it must be there."""
    value = arguments.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise bad_argument(key, f"a whole number from {least} to {most}")
    return value


def seconds(
    arguments: dict[str, Any], key: str, default: float, most: float, *, least: float = 0.0
) -> float:
    value = arguments.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise bad_argument(key, f"a number of seconds from {least:g} to {most:g}")
    return float(value)


def flag(arguments: dict[str, Any], key: str) -> bool:
    value = arguments.get(key, False)
    if not isinstance(value, bool):
        raise bad_argument(key, "true or false")
    return value


def bad_argument(key: str, wanted: str) -> DeviceError:
    return DeviceError(
        "bad_argument",
        "the command was not done",
        why=f"{key} must be {wanted}",
        remedy="Correct that argument; brainforge_edge/docs/devices.md lists them",
    )


def _size(arguments: dict[str, Any]) -> int:
    size = integer(arguments, "size", 1, 1, 8)
    if size not in _SIZES:
        raise bad_argument("size", "1, 2, 4 or 8")
    return size


@contextlib.contextmanager
def _size_named(address: int, size: PayloadType) -> Iterator[None]:
    """A device that refuses the type was asked for another size than its register has."""
    try:
        yield
    except DeviceError as error:
        if error.facts.get("error") != WRONG_TYPE:
            raise
        raise DeviceError(
            "register",
            f"the device refuses register {address}",
            why=f"it holds no whole numbers of {8 * size.item_bytes} bits",
            remedy="Name its `size`: 1, 2, 4 or 8; brainforge_edge/docs/bfp.md lists the registers",
            error=WRONG_TYPE,
        ) from error


class _Comparison:
    """Counts what the pull thread sees of a test signal; the commanding thread waits."""

    def __init__(self, signal: TestSignal, streams: dict[int, StreamInfo], wanted_s: float) -> None:
        self._signal = signal
        self._streams = streams
        self._wanted = {number: info.sfreq * wanted_s for number, info in streams.items()}
        self._done = threading.Condition()
        self.samples = dict.fromkeys(streams, 0)
        self.wrong = dict.fromkeys(streams, 0)

    def see(self, stream: int, index: int, rows: NDArray[Any]) -> None:
        wrong = n_wrong(self._signal, index, rows, self._streams[stream].dtype)
        with self._done:
            self.samples[stream] += len(rows)
            self.wrong[stream] += wrong
            self._done.notify_all()

    def wait(self, timeout_s: float) -> None:
        with self._done:
            self._done.wait_for(
                lambda: all(self.samples[key] >= n for key, n in self._wanted.items()), timeout_s
            )


def _self_test(
    command: DeviceCommand, registers: Registers, decoder: BfpDecoder, *, device: str
) -> dict[str, Any]:
    """Let the device send a known signal, compare it bit for bit; the stretch is marked BAD."""
    only(command, "signal", "seconds")
    named = command.arguments.get("signal", "ramp")
    known = {signal.name.lower(): signal for signal in TestSignal if signal}
    if named not in known:
        raise bad_argument("signal", f"one of {', '.join(known)}")
    if named == "prbs31" and any(info.dtype is Dtype.F32 for info in decoder.infos.values()):
        raise bad_argument("signal", "another one: bits are not sent as floating-point numbers")
    wanted_s = seconds(command.arguments, "seconds", TEST_S, _MOST_TEST_S)
    comparison = _Comparison(known[named], decoder.infos, wanted_s)
    decoder.on_test = comparison.see
    try:
        disturb(command, registers, Register.TEST_SIGNAL, known[named], device=device)
        comparison.wait(wanted_s + _LATE_S)
    finally:
        decoder.on_test = None
        registers.write_number(Register.TEST_SIGNAL, PayloadType.U8, FORCED | TestSignal.OFF)
    streams = {
        info.stream_id: {"samples": comparison.samples[number], "wrong": comparison.wrong[number]}
        for number, info in decoder.infos.items()
    }
    passed = all(found["samples"] and not found["wrong"] for found in streams.values())
    return {"signal": named, "passed": passed, "streams": streams}


def _channel_test(
    command: DeviceCommand, registers: Registers, health: Health, *, device: str
) -> dict[str, Any]:
    """Let the device test its own channels; the answer comes with its EVENT."""
    only(command, "tests", "wait_s")
    tests = integer(command.arguments, "tests", ALL_TESTS, 1, FORCED_TEST - 1)
    wait_s = seconds(command.arguments, "wait_s", CHANNEL_TEST_S, _MOST_CHANNEL_TEST_S)
    before = health.tested
    disturb(
        command,
        registers,
        Register.SELF_TEST,
        tests,
        device=device,
        payload_type=PayloadType.U32,
        forced=FORCED_TEST,
    )
    if not health.wait_for(lambda _: health.tested > before, wait_s):
        raise DeviceError(
            "no_answer",
            f"{device} does not tell what its test found",
            why=f"nothing came within {wait_s:g} s",
            remedy="Allow more with wait_s; if this repeats, switch the device off and on",
            transient=True,
        )
    found: dict[str, Any] = health.status["channel_test"]
    return found
