"""An OpenBCI Ganglion on an emulated radio, firmware 2 or 3. Paced by the wall clock.

A board codes what it measures with losses: `GanglionSource` is what a perfect client can know.
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
from brainforge_edge.emulators.ledger import Ledger, Run
from brainforge_edge.emulators.source import PulseTrain, RowSource, ready_source, synthetic

SERVICE = "FE84"
NOTIFY = "2d30c082-f39f-4ce6-923f-3484ea480596"
WRITE = "2d30c083-f39f-4ce6-923f-3484ea480596"
SOFTWARE = "00002a28-0000-1000-8000-00805f9b34fb"
_SFREQ = 200.0
_SCALE = 1.2 / (8_388_607 * 1.5 * 51)
_IMPEDANCES = (5_000, 12_000, 800, 150_000, 6_000)


@dataclass(slots=True)
class GanglionSwitches:
    lost: set[int] = field(default_factory=set)  # packet numbers
    is_silent: bool = False
    is_stalled: bool = False  # silent until the next start
    is_wide: bool = False  # 19 bits, without the accelerometer


def ganglion_source(seed: int = 1) -> RowSource:
    channels = tuple(ChannelInfo(f"EEG{n + 1}", "eeg", "V", _SCALE) for n in range(4))
    return synthetic(channels, sfreq=200.0, seed=seed, noise=400.0, counter_channel=None)


def accelerated(packet: int) -> int:
    """The last byte of packet `packet`, whatever axis it stands for."""
    return packet * 7 % 251 - 125


def coded(numbers: NDArray[Any], bits: int) -> tuple[bytes, NDArray[Any]]:
    """(packed most significant bit first, what a client makes of it) of eight signed numbers.

    The lowest bit is overwritten with the sign.
    """
    most = 1 << (bits - 1)
    cut = np.clip(numbers, -most, most - 1).astype(np.int64) & ~1
    flat = ((cut | (cut < 0)) & ((1 << bits) - 1)).reshape(-1)
    field_of_bits = (flat[:, None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(field_of_bits.astype(np.uint8).reshape(-1)).tobytes(), cut


class Coder:
    """Packets of a board from the first one on, with the rows a client can know of each."""

    def __init__(self, source: RowSource, *, firmware: int, is_wide: bool = False) -> None:
        self.source = source
        self.firmware = firmware
        self.bits = 19 if is_wide else 18
        self.has_accelerometer = False
        self.number = 0
        self.next_row = 0
        self._last: NDArray[Any] = np.zeros(4, np.int64)

    @property
    def ready_row(self) -> int:
        """The row after those of the next packet: when it is measured, the packet can go."""
        is_single = self.firmware < 3 and self.number % 101 == 0
        return self.next_row + (1 if is_single else 2)

    def next(self) -> tuple[bytes, int, NDArray[Any]]:
        """(notification, first row, rows that can be known)."""
        per_round = 100 if self.firmware >= 3 else 101
        place = self.number % per_round
        self.number += 1
        first = self.next_row
        if self.firmware >= 3:
            rows = self.source.rows(first, 2)
            body, cut = coded(rows >> (24 - self.bits), self.bits)
            known = cut << (24 - self.bits)
            kind = place + (100 if self.bits == 19 else 0)
        elif place == 0:
            known = self.source.rows(first, 1).astype(np.int64)
            body = known.astype(">i4").view(np.uint8).reshape(4, 4)[:, 1:].tobytes()
            self._last = known[0]
            kind = 0
        else:
            measured = self.source.rows(first, 2)
            # The board follows what the client knows, so that errors do not add up.
            _, one = coded(np.concatenate([self._last - measured[0]] * 2), self.bits)
            after = self._last - one[:4]
            both = np.concatenate([self._last - measured[0], after - measured[1]])
            body, cut = coded(both, self.bits)
            known = np.stack([after, after - cut[4:]])
            self._last = known[1]
            kind = place + (100 if self.bits == 19 else 0)
        self.next_row = first + len(known)
        data = bytes([kind]) + body.ljust(19, b"\0")
        if self.has_accelerometer and self.bits == 18 and (self.firmware >= 3 or place):
            data = data[:19] + accelerated(self.number - 1).to_bytes(1, "big", signed=True)
        return data, first, known.reshape(-1, 4)


class Ganglion:
    """One board on `link`. `known` holds what a client can know of each row that was sent.

    `speed`: of its rate.
    """

    def __init__(
        self,
        link: LocalLink,
        source: RowSource,
        *,
        ledger: Ledger,
        clock: Clock,
        firmware: str = "3.0.2",
        name: str = "Ganglion-bf01",
        address: str = "F0:0D:00:00:9A:01",
        switches: GanglionSwitches | None = None,
        pulses: PulseTrain | None = None,
        speed: float = 1.0,
    ) -> None:
        self.source = source
        self.ledger = ledger
        self.switches = switches or GanglionSwitches()
        self.commands: list[str] = []
        self.known: dict[int, NDArray[Any]] = {}
        self._clock = clock
        self._speed = speed
        self._firmware = int(firmware[0])
        self._has_accelerometer = False
        self._pulses = pulses
        self.peripheral = Peripheral(
            link,
            name=name,
            address=address,
            service=SERVICE,
            notifying=(NOTIFY,),
            writable=(WRITE,),
            write=self._written,
            readable={SOFTWARE: firmware.encode()},
        )

    async def _written(self, _: str, data: bytes) -> None:
        text = data.decode("ascii", "replace")
        self.commands.append(text)
        if text in {"n", "N"}:
            self._has_accelerometer = text == "n"
        elif text == "b":
            self.switches.is_stalled = False
            await self.peripheral.stream(self._stream())
        elif text == "z":
            await self.peripheral.stream(self._measure_impedance())
        elif text in {"s", "Z"}:
            await self.peripheral.halt()

    async def _stream(self) -> None:
        began = self._clock.monotonic_ns()
        run = self.ledger.start(f"ganglion-{len(self.ledger.runs)}", began)
        self.known.clear()
        source = ready_source(self.source, self._pulses, began)
        coder = Coder(source, firmware=self._firmware, is_wide=self.switches.is_wide)
        coder.has_accelerometer = self._has_accelerometer
        while True:
            seconds = (self._clock.monotonic_ns() - began) / 1e9 * self._speed
            while coder.ready_row <= seconds * _SFREQ:
                await self._send(run, coder)
            await asyncio.sleep(0.005 / self._speed)

    async def _send(self, run: Run, coder: Coder) -> None:
        number = coder.number
        data, first, known = coder.next()
        run.rows = first + len(known)
        self.known |= {first + at: row for at, row in enumerate(known)}
        is_silent = self.switches.is_silent or self.switches.is_stalled
        if is_silent or number in self.switches.lost:
            run.drop(first, len(known))
        else:
            await self.peripheral.notify(NOTIFY, data)

    async def _measure_impedance(self) -> None:
        while True:
            for kind, ohm in enumerate(_IMPEDANCES, start=201):
                text = f"{ohm}Z".encode()
                await self.peripheral.notify(NOTIFY, bytes([kind]) + text.ljust(19, b"\0"))
            await asyncio.sleep(0.1)
