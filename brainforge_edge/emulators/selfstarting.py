"""Devices that stream from power-on and hear nothing: FreeEEG32, and NeuroSky's ThinkGear.

Runs in: emulator process, its only thread. What nobody reads is dropped when the FIFO is full.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.stream import ChannelInfo
from brainforge_edge.emulators.ledger import Ledger, Run
from brainforge_edge.emulators.pty import DeviceFifo
from brainforge_edge.emulators.source import (
    LoopSource,
    PulsedSource,
    PulseTrain,
    RowSource,
    synthetic,
)

FRAME_BYTES = 106  # of a FreeEEG32's firmware as BrainFlow's emulator knows it
FREEEEG_SFREQ = THINKGEAR_SFREQ = 512.0
_BATCH_NS = 4_000_000  # what USB or a radio hands over together
_RAIL_16 = 2**15 - 1
_PULSE_16 = 10_000.0
# Each second: contact, band powers, attention, meditation.
_SUMMARY = bytes((0x02, 0, 0x83, 24, *range(24), 0x04, 50, 0x05, 60))

MakeFrame = Callable[[int, NDArray[Any]], bytes]


def freeeeg_source(seed: int) -> LoopSource:
    scale = 2.5 / 8 / (2**23 - 1)
    channels = tuple(ChannelInfo(f"EEG{n + 1}", "eeg", "V", scale) for n in range(32))
    return synthetic(channels, sfreq=FREEEEG_SFREQ, seed=seed, noise=30.0)


def thinkgear_source(seed: int) -> LoopSource:
    channel = ChannelInfo("EEG1", "eeg", "V", 1.8 / 4096 / 2000)
    made = synthetic((channel,), sfreq=THINKGEAR_SFREQ, seed=seed, noise=4.0, counter_channel=None)
    data = np.clip(made.rows(0, made.loop_rows), -_RAIL_16, _RAIL_16)
    return LoopSource(data, sfreq=THINKGEAR_SFREQ, channels=(channel,))


def freeeeg_frame(index: int, row: NDArray[Any]) -> bytes:
    """A0, counter, 32 × i24 big-endian, seven bytes of no meaning, C0."""
    samples = row.astype(">i4").view(np.uint8).reshape(-1, 4)[:, 1:].tobytes()
    return bytes((0xA0, index & 0xFF)) + samples + bytes(FRAME_BYTES - 99) + b"\xc0"


def thinkgear_frame(index: int, row: NDArray[Any]) -> bytes:
    """AA AA, length, payload, inverted sum: a sample, and after each 512th the summary of a second."""
    value = int(np.clip(row[0], -_RAIL_16 - 1, _RAIL_16))
    frame = thinkgear_packet(bytes((0x80, 2)) + value.to_bytes(2, "big", signed=True))
    if index % 512 == 511:
        frame += thinkgear_packet(_SUMMARY)
    return frame


def thinkgear_packet(payload: bytes) -> bytes:
    return bytes((0xAA, 0xAA, len(payload))) + payload + bytes((~sum(payload) & 0xFF,))


class SelfStarting:
    """See `device.EmulatedDevice`. One run from power-on to the next."""

    def __init__(
        self,
        source: RowSource,
        make_frame: MakeFrame,
        *,
        ledger: Ledger,
        now_ns: int,
        speed: float = 1.0,
        fifo_s: float = 1.0,
        pulses: PulseTrain | None = None,
    ) -> None:
        self.source = source
        self.ledger = ledger
        self._make_frame = make_frame
        self._pulses = pulses
        self._sample_ns = 1e9 / source.sfreq / speed
        size = len(make_frame(0, source.rows(0, 1)[0]))
        self.fifo = DeviceFifo(math.ceil(source.sfreq * speed * size * fifo_s))
        self._is_plugged = False
        self._rows: RowSource = source
        self._is_on = False
        self._taken = 0  # samples made in this run
        self._boot(now_ns)

    def produce(self, now_ns: int) -> None:
        taken = int((now_ns - self._start_ns) / self._sample_ns)
        if taken <= self._taken:
            return
        rows = self._rows.rows(self._taken, taken - self._taken)
        for index, row in zip(range(self._taken, taken), rows, strict=True):
            frame = self._make_frame(index, row)
            if not (self._is_plugged and self.fifo.put(frame, first=index, rows=1)):
                self._run.drop(index, 1)
        self._taken = taken
        self._run.rows = taken

    def next_due_ns(self) -> int | None:
        return self._start_ns + math.ceil((self._taken + 1) * self._sample_ns) + _BATCH_NS

    def receive(self, data: bytes, now_ns: int) -> None:
        """It hears nothing."""

    def plugged(self, now_ns: int) -> None:
        """The cable is its supply."""
        self._is_plugged = True
        if not self._is_on:
            self._boot(now_ns)

    def unplugged(self, now_ns: int) -> None:  # noqa: ARG002  part of the protocol
        self._is_plugged = self._is_on = False
        self._forget()

    def restart(self, now_ns: int) -> None:
        self._forget()
        self._boot(now_ns)

    def _boot(self, now_ns: int) -> None:
        self._is_on = True
        self._start_ns, self._taken = now_ns, 0
        if self._pulses is not None:
            first_ns = now_ns + round(self._sample_ns)
            self._rows = PulsedSource(
                self.source, self._pulses, first_ns=first_ns, sample_ns=self._sample_ns
            )
        self._run: Run = self.ledger.start(f"on:{len(self.ledger.runs)}", now_ns)

    def _forget(self) -> None:
        for _, first, n in self.fifo.clear():
            self._run.drop(first, n)


def pulses_16(train: PulseTrain | None) -> PulseTrain | None:
    """The same train, as high as 16 bits hold."""
    return None if train is None else train._replace(amplitude=_PULSE_16)
