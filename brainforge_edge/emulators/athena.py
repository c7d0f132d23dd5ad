"""A Muse S Athena on an emulated radio: one multiplexed characteristic, preset p1041.

Runs in: emulator process, thread "radio". Paced by the wall clock. Reserved bytes are zero: what
they mean is not known.
"""

import asyncio
import json
from typing import Any

import numpy as np
from bumble.link import LocalLink
from numpy.typing import NDArray

from brainforge_edge.core.clock import Clock
from brainforge_edge.core.stream import ChannelInfo
from brainforge_edge.emulators.ble import Peripheral
from brainforge_edge.emulators.ledger import Ledger, Run
from brainforge_edge.emulators.muse import CONTROL, SERVICE, uuid
from brainforge_edge.emulators.source import (
    LoopSource,
    PulseTrain,
    RowSource,
    ready_source,
    synthetic,
)

DATA = uuid(0x0013)
EEG, OPTICS, MOTION, BATTERY = 0x12, 0x36, 0x47, 0x98
_KINDS = {EEG: (256.0, 2), OPTICS: (64.0, 1), MOTION: (52.0, 3)}  # rate, samples a block
_TICKS = 256_000
_MOST_BYTES = 230
_SCALE_V = 1450e-6 / 16_383


def athena_source(seed: int = 1) -> LoopSource:
    """8 columns of 14-bit counts around 8192."""
    names = ("TP9", "AF7", "AF8", "TP10", "AUX1", "AUX2", "AUX3", "AUX4")
    channels = tuple(ChannelInfo(n, "eeg", "V", _SCALE_V, -8192 * _SCALE_V) for n in names)
    signed = synthetic(channels, sfreq=256.0, seed=seed, noise=40.0, counter_channel=None)
    counts = np.clip(signed.rows(0, signed.loop_rows) + 8192, 0, 16_383)
    return LoopSource(counts, sfreq=256.0, channels=channels)


def motion_row(sample: int) -> NDArray[Any]:
    """Accelerometer and gyroscope: int16 (6,)."""
    return (np.arange(6) * 100 + sample % 20_000 - 10_000).astype(np.int16)


def optics_row(sample: int) -> NDArray[Any]:
    """Sixteen 20-bit counts: int64 (16,)."""
    return (np.arange(16) * 50_021 + sample * 17) % (1 << 20)


def pack_bits(numbers: NDArray[Any], bits: int) -> bytes:
    """Unsigned numbers, least significant bit first."""
    flat = (np.asarray(numbers, np.int64).reshape(-1, 1) >> np.arange(bits)) & 1
    return np.packbits(flat.astype(np.uint8).reshape(-1), bitorder="little").tobytes()


class Packets:
    """Blocks in the order of their time, as packets. Counts of each kind begin at `first_number`."""

    def __init__(self, source: RowSource, *, first_number: int = 0) -> None:
        self.source = source
        self.sent = dict.fromkeys((*_KINDS, BATTERY), 0)
        self._first = first_number
        self._packets = 0

    def until(self, seconds: float, *, battery_raw: int = 0) -> list[bytes]:
        """Packets of all blocks that are due at `seconds` and were not made before."""
        due: list[tuple[float, int, int, bytes]] = []
        for tag, (sfreq, n) in _KINDS.items():
            while (self.sent[tag] + 1) * n / sfreq <= seconds:
                number = self.sent[tag]
                due.append(((number + 1) * n / sfreq, tag, number, self._body(tag, number)))
                self.sent[tag] += 1
        if self.sent[BATTERY] <= seconds:
            number = self.sent[BATTERY]
            body = battery_raw.to_bytes(2, "little").ljust(20, b"\0")
            due.append((seconds, BATTERY, number, body))
            self.sent[BATTERY] += 1
        packets: list[bytes] = []
        rest = sorted(due)
        while rest:
            data = b""
            at_s = rest[0][0]
            while rest and len(data) + 5 + len(rest[0][3]) <= _MOST_BYTES - 9:
                _, tag, number, body = rest.pop(0)
                reserved = bytes(3)
                data += bytes([tag, (self._first + number) & 255]) + reserved + body
            ticks = round(at_s * _TICKS) & 0xFFFFFFFF
            head = bytes([9 + len(data), self._packets & 255]) + ticks.to_bytes(4, "little")
            packets.append(head + bytes(3) + data)
            self._packets += 1
        return packets

    def _body(self, tag: int, number: int) -> bytes:
        _, n = _KINDS[tag]
        if tag == EEG:
            return pack_bits(self.source.rows(number * n, n), 14)
        if tag == OPTICS:
            return pack_bits(optics_row(number), 20)
        rows = [motion_row(number * n + at) for at in range(n)]
        return np.stack(rows).astype("<i2").tobytes()


class Athena:
    """One headset on `link`."""

    def __init__(
        self,
        link: LocalLink,
        source: RowSource,
        *,
        ledger: Ledger,
        clock: Clock,
        name: str = "MuseS-BF01",
        address: str = "F0:0D:00:00:A7:01",
        pulses: PulseTrain | None = None,
    ) -> None:
        self.source = source
        self.ledger = ledger
        self.commands: list[str] = []
        self.lost: set[int] = set()  # notifications, counted from the start
        self.battery_raw = 20_000
        self.is_silent = False  # connected, and nothing comes any more
        self.is_stalled = False  # the same, until the next start
        self._clock = clock
        self._name = name
        self._pulses = pulses
        self.peripheral = Peripheral(
            link,
            name=name,
            address=address,
            service=SERVICE,
            notifying=(CONTROL, DATA),
            writable=(CONTROL,),
            write=self._written,
        )

    async def _written(self, _: str, data: bytes) -> None:
        text = data[1 : 1 + data[0]].rstrip(b"\n").decode("ascii", "replace")
        self.commands.append(text)
        if text == "dc001" and self.commands[-2:-1] == ["dc001"]:  # once is not enough
            self.is_stalled = False
            await self.peripheral.stream(self._stream())
        elif text == "h":
            await self.peripheral.halt()
        said = {"rc": 0, "fw": "3.0.5", "hw": "10.1"} if text == "v6" else {"rc": 0}
        if text == "s":
            said |= {"hn": self._name, "sn": "5001-ATHN-BF01", "bp": 78.1}
        whole = json.dumps(said, separators=(",", ":")).encode()
        for at in range(0, len(whole), 19):
            piece = whole[at : at + 19]
            await self.peripheral.notify(CONTROL, bytes([len(piece)]) + piece.ljust(19, b"\0"))

    async def _stream(self) -> None:
        began = self._clock.monotonic_ns()
        run: Run = self.ledger.start(f"{self._name}-{len(self.ledger.runs)}", began)
        packets = Packets(ready_source(self.source, self._pulses, began, limits=(0, 16_383)))
        n = 0
        while True:
            seconds = (self._clock.monotonic_ns() - began) / 1e9
            for data in packets.until(seconds, battery_raw=self.battery_raw):
                if n not in self.lost and not (self.is_silent or self.is_stalled):
                    await self.peripheral.notify(DATA, data)
                n += 1
            run.rows = packets.sent[EEG] * 2
            await asyncio.sleep(0.03)
