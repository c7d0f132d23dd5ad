"""The loop that every emulated device runs in. Runs in: emulator process.

Pacing is absolute: what is due by the wall clock is made, never what the host is ready for.
"""

import select
from collections.abc import Callable
from typing import Protocol

from brainforge_edge.core.clock import Clock
from brainforge_edge.emulators.ledger import Ledger
from brainforge_edge.emulators.pty import DeviceFifo

_LEDGER_NS = 500_000_000
_IDLE_S = 0.25
QUIET_TURNS = 20  # of 20 ms
_DRAIN_S = 2.0


class Port(Protocol):
    """The device's end of a link; `select` is asked about it. Hung up by the other side, it is unplugged by itself."""

    @property
    def is_plugged(self) -> bool: ...
    def fileno(self) -> int: ...
    def plug(self) -> None: ...
    def unplug(self) -> None: ...
    def read(self) -> bytes:
        """What the host has sent; empty if nothing."""
        ...

    def write(self, data: bytes | memoryview) -> int:
        """Bytes taken, 0 when there is no room."""
        ...

    def unread(self) -> int:
        """Bytes that the host has not read yet, as far as this end knows."""
        ...


class EmulatedDevice(Protocol):
    """A device's firmware: told the time, asked for nothing."""

    fifo: DeviceFifo

    def produce(self, now_ns: int) -> None:
        """Put all that is due into the FIFO, or count it as dropped."""
        ...

    def next_due_ns(self) -> int | None:
        """When `produce` has something to do again; None while nothing streams."""
        ...

    def receive(self, data: bytes, now_ns: int) -> None: ...
    def plugged(self, now_ns: int) -> None: ...
    def unplugged(self, now_ns: int) -> None: ...
    def restart(self, now_ns: int) -> None:
        """Power off and on: all state is lost."""
        ...


class Switches:
    """What the outside asks for; set by signal handlers and tests, read by the loop."""

    def __init__(self) -> None:
        self.stop = False
        self.unplug = False
        self.replug = False
        self.restart = False


def run(
    device: EmulatedDevice,
    port: Port,
    *,
    ledger: Ledger,
    clock: Clock,
    switches: Switches,
    seconds: float | None = None,
    plugged: Callable[[], None] | None = None,
) -> None:
    """Until `switches.stop`, or for `seconds`. At the end the host may still read what was made."""
    now = clock.monotonic_ns()
    end = None if seconds is None else now + round(seconds * 1e9)
    port.plug()
    device.plugged(now)
    ledger.write()
    if plugged is not None:
        plugged()
    next_ledger = now + _LEDGER_NS
    while not switches.stop and (end is None or now < end):
        _obey(device, port, switches, now)
        device.produce(now)
        if port.is_plugged:
            device.fifo.send(port)
            _notice(device, port, now)
        if now >= next_ledger:
            ledger.write()
            next_ledger = now + _LEDGER_NS
        is_spoken_to = _wait(device, port, clock)
        now = clock.monotonic_ns()
        if is_spoken_to:
            data = port.read()
            if not _notice(device, port, now) and data:
                device.receive(data, now)
    ledger.write()
    if port.is_plugged:
        _drain(device.fifo, port, clock)
    ledger.write(is_final=True)
    port.unplug()


def _obey(device: EmulatedDevice, port: Port, switches: Switches, now: int) -> None:
    if switches.unplug:
        switches.unplug = False
        port.unplug()
        device.unplugged(now)
    if switches.replug:
        switches.replug = False
        port.plug()
        device.plugged(now)
    if switches.restart:
        switches.restart = False
        device.restart(now)


def _notice(device: EmulatedDevice, port: Port, now: int) -> bool:
    """Whether the other side has hung up; tells the device."""
    if port.is_plugged:
        return False
    device.unplugged(now)
    return True


def _wait(device: EmulatedDevice, port: Port, clock: Clock) -> bool:
    """Until something is due or the port can be used; whether the host has written.

    `select` waits to the microsecond; `poll` would make each frame up to a millisecond late, and so
    would a look at the clock before the last frame was made.
    """
    due = device.next_due_ns()
    now = clock.monotonic_ns()
    timeout = _IDLE_S if due is None else min(_IDLE_S, max(0.0, (due - now) / 1e9))
    if port.is_plugged:
        return bool(select.select([port], [port] if device.fifo else [], [], timeout)[0])
    select.select([], [], [], timeout)
    return False


def _drain(fifo: DeviceFifo, port: Port, clock: Clock) -> None:
    """A closing pty throws away what was not read: wait until the reader has it, if there is one.

    The terminal does not count what it has not handed on to its reader's side yet; on a busy machine
    that takes a while, hence the long quiet.
    """
    until = clock.monotonic_ns() + round(_DRAIN_S * 1e9)
    quiet = 0
    while quiet < QUIET_TURNS and clock.monotonic_ns() < until:
        fifo.send(port)
        if not port.is_plugged:
            return
        quiet = 0 if fifo or port.unread() else quiet + 1
        select.select([], [port] if fifo else [], [], 0.02)
