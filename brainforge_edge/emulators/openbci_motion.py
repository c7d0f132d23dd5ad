"""The accelerometer of an emulated Cyton: values by number, and in which packets they travel.

Runs in: emulator process, its only thread, and in tests.
"""

import math

import numpy as np

from brainforge_edge.core.stream import ChannelInfo
from brainforge_edge.emulators.source import LoopSource

TRIPLES = 25  # in a round of the counter, with time stamps
_ROUND = 256
_PERIODS = (50, 70, 100)
_SCALE = 0.002 / 16 * 9.80665


def acceleration(at: int) -> tuple[int, int, int]:
    """Counts of value number `at`: about 1 g along Z, never zero."""
    x, y, z = (at % period for period in _PERIODS)
    return 100 + x, -200 - y, 8_000 + z


def motion_source() -> LoopSource:
    """The same as rows of a stream."""
    rows = [acceleration(at) for at in range(math.lcm(*_PERIODS))]
    channels = tuple(ChannelInfo(f"ACC{axis}", "misc", "m/s^2", _SCALE) for axis in "XYZ")
    data = np.array(rows, dtype=np.int16)
    return LoopSource(data, sfreq=250.0 * TRIPLES / _ROUND, channels=channels, dtype="<i2")


def emitted(packets: int, *, has_time: bool) -> int:
    """Values that these first packets of a run hold whole."""
    if not has_time:
        return packets // 10
    rounds, number = divmod(packets, _ROUND)
    return TRIPLES * rounds + number // 10


def index_of(packet: int, *, has_time: bool) -> int | None:
    """The value that cannot be known without this packet."""
    if not has_time:
        return packet // 10
    rounds, number = divmod(packet, _ROUND)
    tens, place = divmod(number, 10)
    return TRIPLES * rounds + tens if place >= 7 else None
