"""A classic Muse 2 on an emulated radio: command framing, EEG, motion, PPG and telemetry.

Runs in: emulator process, thread "radio". Paced by the wall clock: what is due is sent, whether the
client follows or not.
"""

import asyncio
import json
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from bumble.link import LocalLink
from numpy.typing import NDArray

from brainforge_edge.core.clock import Clock
from brainforge_edge.core.stream import ChannelInfo
from brainforge_edge.emulators.ble import Peripheral
from brainforge_edge.emulators.ledger import Ledger, Run
from brainforge_edge.emulators.source import (
    LoopSource,
    PulseTrain,
    RowSource,
    ready_source,
    synthetic,
)

SERVICE = "FE8D"
_PER_PACKET = 12
_SFREQ = 256.0
_ROUND = 65_536
_SLOWER = {"motion": (52.0, 3), "ppg": (64.0, 6)}  # rate, samples a packet
_UV = 0.48828125e-6


def uuid(number: int) -> str:
    return f"273e{number:04x}-4c4d-454d-96be-f03bac821358"


CONTROL, GYRO, ACC, TELEMETRY = (uuid(n) for n in (0x01, 0x09, 0x0A, 0x0B))
EEG = tuple(uuid(n) for n in (3, 4, 5, 6, 7))
PPG = tuple(uuid(n) for n in (0x0F, 0x10, 0x11))


@dataclass(slots=True)
class MuseSwitches:
    """What the outside asks for; read when the next packets are due."""

    lost: set[tuple[int, int]] = field(default_factory=set)  # (packet number, EEG channel)
    is_silent: bool = False  # connected, and nothing comes any more
    is_stalled: bool = False  # silent until the next start
    is_mute: bool = False  # no command is answered
    battery_percent: float = 87.0
    first_index: int = 0  # of the packet counters, after the next start

    @property
    def sends_nothing(self) -> bool:
        return self.is_silent or self.is_stalled


def muse_channels(n_channels: int = 4) -> tuple[ChannelInfo, ...]:
    names = ("TP9", "AF7", "AF8", "TP10", "AUX")[:n_channels]
    return tuple(ChannelInfo(name, "eeg", "V", _UV, -2048 * _UV) for name in names)


def muse_source(seed: int = 1, n_channels: int = 4) -> LoopSource:
    """12-bit counts around 2048, rails included."""
    channels = muse_channels(n_channels)
    signed = synthetic(channels, sfreq=_SFREQ, seed=seed, noise=12.0, counter_channel=None)
    counts = np.clip(signed.rows(0, signed.loop_rows) + 2048, 0, 4095)
    return LoopSource(counts, sfreq=_SFREQ, channels=channels)


def motion_rows(packet: int) -> NDArray[Any]:
    """What accelerometer and gyroscope measure in packet `packet`: int16 (3, 3)."""
    base = np.arange(packet * 9, packet * 9 + 9) % 30_000
    return (base - 15_000).reshape(3, 3).astype(np.int16)


def ppg_rows(packet: int, colour: int) -> NDArray[Any]:
    """Six 24-bit counts of colour 0, 1 or 2: int32 (6,)."""
    return (np.arange(packet * 6, packet * 6 + 6) * 2003 + colour * 5_000_000) % (1 << 24)


class Muse:
    """One headset on `link`. `source`: 4 or 5 columns of 12-bit counts; `speed`: of its rates."""

    def __init__(
        self,
        link: LocalLink,
        source: RowSource,
        *,
        ledger: Ledger,
        clock: Clock,
        name: str = "Muse-BF01",
        address: str = "F0:0D:00:00:BF:01",
        switches: MuseSwitches | None = None,
        without: tuple[str, ...] = (),
        pulses: PulseTrain | None = None,
        speed: float = 1.0,
    ) -> None:
        self.source = source
        self._pulses = pulses
        self.ledger = ledger
        self.switches = switches or MuseSwitches()
        self.commands: list[str] = []
        self._clock = clock
        self._name = name
        self._speed = speed
        every = (CONTROL, *EEG, GYRO, ACC, TELEMETRY, *PPG)
        self.peripheral = Peripheral(
            link,
            name=name,
            address=address,
            service=SERVICE,
            notifying=tuple(each for each in every if each not in without),
            writable=(CONTROL,),
            write=self._written,
        )

    async def _written(self, _: str, data: bytes) -> None:
        text = data[1 : 1 + data[0]].rstrip(b"\n").decode("ascii", "replace")
        self.commands.append(text)
        if text == "d":
            self.switches.is_stalled = False
            await self.peripheral.stream(self._stream())
        elif text == "h":
            await self.peripheral.halt()
        if not self.switches.is_mute:
            await self._answer(text)

    async def _answer(self, text: str) -> None:
        said: dict[str, Any] = {"rc": 0}
        if text == "v1":
            said = {"ap": "headset", "sp": "RevE", "tp": "consumer", "hw": "3.1", "bn": 27}
            said |= {"fw": "1.2.13", "bl": "1.2.3", "pv": 1, "rc": 0}
        elif text == "s":
            said = {"hn": self._name, "sn": "2043-ABCD-BF01", "ma": "00-55-da-b0-bf-01"}
            said |= {"bp": self.switches.battery_percent, "ts": 0, "ps": 33, "rc": 0}
        whole = json.dumps(said, separators=(",", ":")).encode()
        for at in range(0, len(whole), 19):
            piece = whole[at : at + 19]
            await self.peripheral.notify(CONTROL, bytes([len(piece)]) + piece.ljust(19, b"\0"))

    async def _stream(self) -> None:
        began = self._clock.monotonic_ns()
        run = self.ledger.start(f"{self._name}-{len(self.ledger.runs)}", began)
        source = ready_source(self.source, self._pulses, began, limits=(0, 4095))
        sent = dict.fromkeys(("eeg", "motion", "ppg", "telemetry"), 0)
        while True:
            seconds = (self._clock.monotonic_ns() - began) / 1e9 * self._speed
            while sent["eeg"] < int(seconds * _SFREQ / _PER_PACKET):
                await self._send_eeg(run, source, sent["eeg"])
                sent["eeg"] += 1
            for kind, (sfreq, n) in _SLOWER.items():
                while sent[kind] < int(seconds * sfreq / n):
                    await self._send_slower(kind, sent[kind])
                    sent[kind] += 1
            if sent["telemetry"] <= seconds and not self.switches.sends_nothing:
                await self._send_telemetry(sent["telemetry"])
                sent["telemetry"] += 1
            await asyncio.sleep(0.005 / self._speed)

    async def _send_eeg(self, run: Run, source: RowSource, packet: int) -> None:
        first = packet * _PER_PACKET
        run.rows = first + _PER_PACKET
        lost = {channel for number, channel in self.switches.lost if number == packet}
        if lost or self.switches.sends_nothing:
            run.drop(first, _PER_PACKET)
        if self.switches.sends_nothing:
            return
        rows = source.rows(first, _PER_PACKET)
        for channel in range(rows.shape[1]):
            if channel not in lost:
                body = pack12(rows[:, channel])
                await self.peripheral.notify(EEG[channel], self._index(packet) + body)

    async def _send_slower(self, kind: str, packet: int) -> None:
        if self.switches.sends_nothing:
            return
        if kind == "motion":
            body = motion_rows(packet).astype(">i2").tobytes()
            for each in (ACC, GYRO):
                await self.peripheral.notify(each, self._index(packet) + body)
            return
        for colour, each in enumerate(PPG[:2]):  # a headset sends two of the three
            numbers = ppg_rows(packet, colour).astype(">u4").view(np.uint8).reshape(6, 4)[:, 1:]
            await self.peripheral.notify(each, self._index(packet) + numbers.tobytes())

    async def _send_telemetry(self, packet: int) -> None:
        battery = round(self.switches.battery_percent * 512)
        body = struct.pack(">4H", battery, 8_000, 3_900, 31).ljust(18, b"\0")
        await self.peripheral.notify(TELEMETRY, self._index(packet) + body)

    def _index(self, packet: int) -> bytes:
        return struct.pack(">H", (self.switches.first_index + packet) % _ROUND)


def pack12(samples: NDArray[Any]) -> bytes:
    """Two 12-bit numbers in three bytes, most significant bit first."""
    a, b = samples[::2].astype(np.uint16), samples[1::2].astype(np.uint16)
    packed = np.stack([a >> 4, (a & 15) << 4 | b >> 8, b & 255], axis=1)
    return packed.astype(np.uint8).tobytes()
