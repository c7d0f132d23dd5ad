"""What stands before the converters of an emulated Cyton: channel settings, electrodes, test current.

Register names and bits are those of the ADS1299; the text of `?` is as firmware 3.1.2 prints it.
Runs in: emulator process, its only thread.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RAIL = 2**23 - 1
GAINS = (1, 2, 4, 6, 8, 12, 24)
LETTERS = "12345678QWERTYUI"
OFF_LETTERS = "12345678qwertyui"
ON_LETTERS = "!@#$%^&*QWERTYUI"
V_REF = 4.5
TEST_A = 6e-9  # amplitude of the current
TEST_HZ = 31.2
SERIES_OHM = 2_200.0  # in the lead of each channel
_PER_CHIP = 8


@dataclass(slots=True)
class Channel:
    """One input; the defaults are those of `d`."""

    ohm: float  # of its electrode
    is_off: bool = False
    gain: int = 24
    input: int = 0
    bias: bool = True
    srb2: bool = True
    srb1: bool = False
    tests_p: bool = False
    tests_n: bool = False


class FrontEnd:
    """`ohms` come round over the channels."""

    def __init__(self, n_channels: int, ohms: Sequence[float]) -> None:
        self._ohms = [ohms[at % len(ohms)] for at in range(n_channels)]
        self.reset()

    def reset(self) -> None:
        """`d`, and what a reset does."""
        self.channels = [Channel(ohm) for ohm in self._ohms]

    def command(self, text: str) -> str | None:
        """Reply to `x…X`, `z…Z`, or a channel switched on or off; None if it is none of these."""
        if text[0] == "x":
            return self._settings(text)
        if text[0] == "z":
            return self._test(text)
        for letters, is_off in ((OFF_LETTERS, True), (ON_LETTERS, False)):
            at = letters.find(text)
            if 0 <= at < len(self.channels):
                self.channels[at].is_off = is_off
                return ""  # the board says nothing to these
        return None

    def registers(self) -> str:
        """What `?` prints of the converters."""
        lines: list[str] = []
        for chip in range(len(self.channels) // _PER_CHIP):
            own = self.channels[chip * _PER_CHIP : (chip + 1) * _PER_CHIP]
            lines += ["", "Daisy ADS Registers" if chip else "Board ADS Registers"]
            lines.append(_printed("ADS_ID", 0x00, 0x3E))
            lines.append(_printed("CONFIG1", 0x01, 0xB6 if chip == 0 else 0x96))
            for at, channel in enumerate(own):
                value = channel.is_off << 7 | GAINS.index(channel.gain) << 4
                value |= channel.srb2 << 3 | channel.input
                lines.append(_printed(f"CH{at + 1}SET", 0x05 + at, value))
            bias = sum(channel.bias << at for at, channel in enumerate(own))
            for name, address, value in (
                ("BIAS_SENSP", 0x0D, bias),
                ("BIAS_SENSN", 0x0E, bias),
                ("LOFF_SENSP", 0x0F, sum(c.tests_p << at for at, c in enumerate(own))),
                ("LOFF_SENSN", 0x10, sum(c.tests_n << at for at, c in enumerate(own))),
                ("MISC1", 0x15, any(channel.srb1 for channel in own) << 5),
            ):
                lines.append(_printed(name, address, value))
        return "\r\n".join([*lines, "", "LIS3DH Registers", "0x0F 33", ""])

    @property
    def is_plain(self) -> bool:
        """Whether what the source measures goes out as it is."""
        return all(
            not (c.is_off or c.input or c.tests_p or c.tests_n) and c.gain == GAINS[-1]
            for c in self.channels
        )

    def measured(self, rows: NDArray[Any], first: int, sfreq: float) -> NDArray[Any]:
        """What the converters make of `rows`, counts (n, n_channels) at gain 24 from sample `first` on."""
        if self.is_plain:
            return rows
        seconds = (np.arange(first, first + len(rows)) + 1) / sfreq
        # Of a sample that is the mean of two, 4 ms apart, a part of the amplitude is left.
        left = math.cos(math.pi * TEST_HZ / 250.0) if sfreq < 250.0 else 1.0
        wave = TEST_A * left * np.sin(2 * np.pi * TEST_HZ * seconds)
        made = np.zeros(rows.shape)
        for at, channel in enumerate(self.channels):
            if channel.is_off or channel.input:
                continue
            made[:, at] = rows[:, at] * (channel.gain / GAINS[-1])
            sides = channel.tests_p + channel.tests_n
            volts = sides * (channel.ohm + SERIES_OHM) * wave
            made[:, at] += volts * channel.gain / V_REF * RAIL
        return np.clip(np.rint(made), -RAIL, RAIL).astype(np.int32)

    def _settings(self, text: str) -> str:
        at = LETTERS.find(text[1])
        if text[-1] != "X":
            return "Failure: 9th char not X"
        if not 0 <= at < len(self.channels) or not text[2:8].isdigit() or int(text[3]) > 6:
            return "Failure: Err: wrong channel settings"
        off, gain, kind, bias, srb2, srb1 = (int(digit) for digit in text[2:8])
        channel = self.channels[at]
        channel.is_off, channel.gain, channel.input = bool(off), GAINS[gain], kind & 7
        channel.bias, channel.srb2, channel.srb1 = bool(bias), bool(srb2), bool(srb1)
        return f"Success: Channel set for {at + 1}"

    def _test(self, text: str) -> str:
        at = LETTERS.find(text[1])
        if text[-1] != "Z":
            return "Failure: 5th char not Z"
        if not 0 <= at < len(self.channels):
            return "Failure: Err: too many chars"
        self.channels[at].tests_p, self.channels[at].tests_n = text[2] == "1", text[3] == "1"
        return f"Success: Lead off set for {at + 1}"


def _printed(name: str, address: int, value: int) -> str:
    bits = ", ".join(f"{value:08b}")
    return f"{name}, {address:02X}, {value:02X}, {bits}"
