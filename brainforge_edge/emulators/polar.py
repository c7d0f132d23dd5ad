"""A Polar H10 on an emulated radio: ECG, accelerometer, heart rate, battery. Paced by the wall clock.

Runs in: emulator process, thread "radio".
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from bumble.link import LocalLink
from numpy.typing import NDArray

from brainforge_edge.core.clock import Clock
from brainforge_edge.core.stream import ChannelInfo
from brainforge_edge.emulators.ble import Peripheral
from brainforge_edge.emulators.ledger import Ledger
from brainforge_edge.emulators.source import (
    LoopSource,
    PulseTrain,
    RowSource,
    ready_source,
    synthetic,
)

SERVICE = "180D"
CONTROL = "fb005c81-02e7-f387-1cad-8acd2d8df0c8"
DATA = "fb005c82-02e7-f387-1cad-8acd2d8df0c8"
HEART_RATE = "00002a37-0000-1000-8000-00805f9b34fb"
BATTERY = "00002a19-0000-1000-8000-00805f9b34fb"
ECG, ACC = 0, 2
_PER_PACKET = {ECG: 73, ACC: 36}
_SFREQ = {ECG: 130.0, ACC: 200.0}
_CLOCK_NS = 820_000_000_000_000_000  # since 2000, when a run begins
_NOT_WORN = 12


@dataclass(slots=True)
class PolarSwitches:
    lost: set[tuple[int, int]] = field(default_factory=set)  # (measurement, packet number)
    is_silent: bool = False
    is_stalled: bool = False  # silent until the next start
    is_worn: bool = True
    battery_percent: int = 77
    rate_error: float = 0.0005  # of its clock: 130.06 Hz was measured on a strap


def ecg_source(seed: int = 1) -> LoopSource:
    """One column of microvolts."""
    channels = (ChannelInfo("ECG", "ecg", "V", 1e-6),)
    return synthetic(channels, sfreq=_SFREQ[ECG], seed=seed, noise=10.0, counter_channel=None)


def acc_rows(first: int, n: int) -> NDArray[Any]:
    """Thousandths of g: int16 (n, 3)."""
    index = np.arange(first, first + n)[:, None]
    return ((index * [3, 5, 7]) % 4001 - 2000).astype(np.int16)


def ecg_packet(last_ns: int, rows: NDArray[Any]) -> bytes:
    body = rows[:, 0].astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    return bytes([ECG]) + last_ns.to_bytes(8, "little") + b"\0" + body


def acc_packet(last_ns: int, rows: NDArray[Any]) -> bytes:
    return bytes([ACC]) + last_ns.to_bytes(8, "little") + b"\1" + rows.astype("<i2").tobytes()


class Polar:
    """One strap on `link`."""

    def __init__(
        self,
        link: LocalLink,
        source: RowSource,
        *,
        ledger: Ledger,
        clock: Clock,
        name: str = "Polar H10 BF010203",
        address: str = "F0:0D:00:00:10:01",
        switches: PolarSwitches | None = None,
        pulses: PulseTrain | None = None,
    ) -> None:
        self.source = source
        self.ledger = ledger
        self.switches = switches or PolarSwitches()
        self.commands: list[bytes] = []
        self._clock = clock
        self._name = name
        self._pulses = pulses
        self._measures: set[int] = set()
        self.peripheral = Peripheral(
            link,
            name=name,
            address=address,
            service=SERVICE,
            notifying=(DATA, HEART_RATE, BATTERY),
            writable=(),
            write=self._written,
            readable={BATTERY: bytes([self.switches.battery_percent])},
            confirmed=(CONTROL,),
        )

    async def _written(self, _: str, data: bytes) -> None:
        self.commands.append(data)
        op, kind = data[0], data[1]
        status = 0
        if op == 2 and not self.switches.is_worn:
            status = _NOT_WORN
        elif op == 2:
            self.switches.is_stalled = False
            self._measures.add(kind)
            if kind == ECG:
                await self.peripheral.stream(self._stream())
        elif op == 3:
            self._measures.discard(kind)
            if not self._measures:
                await self.peripheral.halt()
        # An indication waits for the client, and the client for the answer to its write.
        self.peripheral.later(CONTROL, bytes([0xF0, op, kind, status, 0]))

    async def _stream(self) -> None:
        began = self._clock.monotonic_ns()
        run = self.ledger.start(f"{self._name}-{len(self.ledger.runs)}", began)
        source = ready_source(self.source, self._pulses, began)
        faster = 1 + self.switches.rate_error
        sent = {ECG: 0, ACC: 0}
        beats = 0
        while True:
            seconds = (self._clock.monotonic_ns() - began) / 1e9
            for kind, n in _PER_PACKET.items():
                while (sent[kind] + 1) * n <= seconds * _SFREQ[kind] * faster:
                    number = sent[kind]
                    sent[kind] += 1
                    if kind == ECG:
                        run.rows = sent[kind] * n
                    if kind in self._measures and self._is_sent(kind, number):
                        await self.peripheral.notify(DATA, self._packet(source, kind, number))
                    elif kind == ECG:
                        run.drop(number * n, n)
            if beats <= seconds and self._is_sent(-1, beats):
                await self.peripheral.notify(HEART_RATE, bytes([0x16, 60 + beats % 20, 0, 4]))
                beats += 1
            await asyncio.sleep(0.005)

    def _is_sent(self, kind: int, number: int) -> bool:
        switches = self.switches
        return not (switches.is_silent or switches.is_stalled or (kind, number) in switches.lost)

    def _packet(self, source: RowSource, kind: int, number: int) -> bytes:
        n = _PER_PACKET[kind]
        faster = 1 + self.switches.rate_error
        last_ns = _CLOCK_NS + round((number + 1) * n / _SFREQ[kind] / faster * 1e9)
        if kind == ECG:
            return ecg_packet(last_ns, source.rows(number * n, n))
        return acc_packet(last_ns, acc_rows(number * n, n))
