"""Channel settings of a Cyton: from the configuration to `x…X`, checked with `?`, into the description.

Runs in: acquire process, pull thread.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from brainforge_edge.core.config import wrong_setting
from brainforge_edge.core.errors import DeviceError
from brainforge_edge.core.stream import ChannelDetail, ChannelInfo, FrontEnd

COUNTS = (8, 16)  # of channels, without Daisy and with it
GAINS = (1, 2, 4, 6, 8, 12, 24)  # the place in this list is the code of `x`
LETTERS = "12345678QWERTYUI"
V_REF = 4.5
INPUTS = (
    "normal",
    "shorted",
    "bias_measured",
    "supply",
    "temperature",
    "test",
    "bias_positive",
    "bias_negative",
)  # likewise
PER_CHIP = 8
DEFAULT = "060110"  # what `d` sets, as `D` tells it
# The converter's sinc³ filter at 250 Hz: one and a half samples (ADS1299, SBAS499).
_FILTER_US = 6_000.0
# With Daisy a value is the mean of two samples, and the Daisy's pair is one sample older.
_MEAN_US = 2_000.0
_DAISY_US = 4_000.0
_REGISTER = re.compile(r"^\s*(\w+)\s*,\s*(?:0x)?[0-9A-Fa-f]{1,2}\s*,\s*(?:0x)?([0-9A-Fa-f]{1,2})\b")
_SRB1_BIT = 1 << 5
_OFF_BIT = 1 << 7


class Channel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[[device.settings.channels]]`: one that differs from the board's default."""

    number: Annotated[int, msgspec.Meta(ge=1, le=16)]
    on: bool = True
    gain: int | None = None  # the device's `gain`
    input: Literal[
        "normal",
        "shorted",
        "bias_measured",
        "supply",
        "temperature",
        "test",
        "bias_positive",
        "bias_negative",
    ] = "normal"
    bias: bool = True
    srb2: bool = True


def check(channels: Sequence[Channel], gain: int, device: str) -> None:
    """ConfigError for what no board can be set to."""
    wrong = [g for g in (gain, *(c.gain for c in channels)) if g is not None and g not in GAINS]
    if wrong:
        known = ", ".join(map(str, GAINS))
        why = f"gain is {wrong[0]}, the board knows {known}"
        raise wrong_setting(device, why, "gain", code="out_of_range")
    numbers = [channel.number for channel in channels]
    if len(set(numbers)) != len(numbers):
        twice = next(n for n in numbers if numbers.count(n) > 1)
        raise wrong_setting(device, f"channel {twice} is there twice", "channels")


class Settings:
    """All channels of a board as they are to be."""

    def __init__(
        self,
        channels: Sequence[Channel],
        *,
        n_channels: int,
        gain: int,
        srb1: bool,
        names: Sequence[str],
        device: str,
    ) -> None:
        if names and len(names) != n_channels:
            why = f"ch_names has {len(names)} names, the board has {n_channels} channels"
            raise wrong_setting(device, why, "ch_names")
        most = max((channel.number for channel in channels), default=0)
        if most > n_channels:
            why = f"channel {most} is set, the board has {n_channels} channels"
            raise wrong_setting(device, why, "channels")
        given = {channel.number: channel for channel in channels}
        wanted = [given.get(n, Channel(number=n)) for n in range(1, n_channels + 1)]
        self.channels = [
            c if c.gain is not None else msgspec.structs.replace(c, gain=gain) for c in wanted
        ]
        self._srb1 = srb1
        self._device = device
        self._names = tuple(names) or tuple(f"EEG{n + 1}" for n in range(n_channels))

    def commands(self) -> list[str]:
        """For the channels that differ from what `d` sets."""
        made = []
        for letter, c in zip(LETTERS, self.channels, strict=False):
            code = "".join(
                str(int(digit))
                for digit in (
                    not c.on,
                    GAINS.index(c.gain or GAINS[-1]),
                    INPUTS.index(c.input),
                    c.bias,
                    c.srb2,
                    self._srb1,
                )
            )
            if code != DEFAULT:
                made.append(f"x{letter}{code}X")
        return made

    def verify(self, printed: str) -> bool:
        """Whether `?` tells of these settings; False where it says nothing. DeviceError if others."""
        told = _registers(printed)
        if not all(f"CH{at + 1}SET" in chip for chip in told for at in range(PER_CHIP)):
            return False
        if len(told) * PER_CHIP != len(self.channels):
            return False
        for at, channel in enumerate(self.channels):
            chip, place = divmod(at, PER_CHIP)
            value = told[chip][f"CH{place + 1}SET"]
            wanted = GAINS.index(channel.gain or GAINS[-1]) << 4 | channel.srb2 << 3
            wanted |= INPUTS.index(channel.input)
            is_off = bool(value & _OFF_BIT)
            if is_off == channel.on or (channel.on and value != wanted):
                raise self._differs(at, f"its register holds {value:02X}")
        for chip, registers in enumerate(told):
            if bool(registers.get("MISC1", self._srb1 << 5) & _SRB1_BIT) != self._srb1:
                raise self._differs(chip * PER_CHIP, "SRB1 is otherwise")
        return True

    def described(self) -> tuple[ChannelInfo, ...]:
        """What is no brain's voltage is of type misc: a channel that is off, or measures itself."""
        has_daisy = len(self.channels) > PER_CHIP
        made = []
        for at, (name, c) in enumerate(zip(self._names, self.channels, strict=True)):
            gain = c.gain or GAINS[-1]
            delay = _FILTER_US + has_daisy * (_MEAN_US + (at >= PER_CHIP) * _DAISY_US)
            reference = "SRB1" if self._srb1 else "SRB2" if c.srb2 else ""
            front_end = FrontEnd(gain, c.on, c.input, reference, c.bias)
            made.append(
                ChannelInfo(
                    name,
                    "eeg" if c.on and c.input == "normal" else "misc",
                    "V",
                    V_REF / gain / (2**23 - 1),
                    detail=ChannelDetail(group_delay_us=delay, front_end=front_end),
                )
            )
        return tuple(made)

    def _differs(self, at: int, why: str) -> DeviceError:
        return DeviceError(
            "settings_differ",
            f"{self._device} did not take its channel settings",
            why=f"channel {at + 1}: {why}",
            remedy="Switch the board off and on; if this repeats, update its firmware to 3.1.2",
            transient=True,
        )


def _registers(printed: str) -> list[dict[str, int]]:
    """Of each converter, the board's first."""
    chips: list[dict[str, int]] = []
    for line in printed.splitlines():
        if "ADS Registers" in line:
            chips.append({})
        found = _REGISTER.match(line)
        if found and chips:
            chips[-1][found[1]] = int(found[2], 16)
    return chips
