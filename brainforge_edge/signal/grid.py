"""Which windows, hops and frequencies a stream's features stand on. Pure; runs in: pipeline worker.

Windows of 1, 2 and 4 s end together every hop; their DFTs lie on 1, 0.5 and 0.25 Hz, each a part of
the next. A hop is a whole part of a second, so that a window is a whole number of hops.
"""

import math
from typing import Final

import msgspec

from brainforge_edge.core.errors import ConfigError

WINDOWS_S: Final = (1, 2, 4)
LONGEST_S: Final = WINDOWS_S[-1]
UPDATE_HZ = 10  # aimed at; a rate that divides sfreq is taken
_MOST_UPDATE_HZ = 32
MOST_SFREQ = 20_000


class Band(msgspec.Struct, frozen=True):
    """`low_hz` <= f < `high_hz`."""

    name: str
    low_hz: float
    high_hz: float


# Limits between bands differ between schools; these are the requirement's, one bin belongs to one band.
BANDS: Final = (
    Band("delta", 1.0, 4.0),
    Band("theta", 4.0, 8.0),
    Band("alpha", 8.0, 13.0),
    Band("beta", 13.0, 30.0),
    Band("gamma", 30.0, 45.0),
)


class Grid(msgspec.Struct, frozen=True):
    """`hop`: samples between updates. `bands`: those that fit under the Nyquist frequency."""

    sfreq: int
    hop: int
    bands: tuple[Band, ...]

    @property
    def update_hz(self) -> int:
        return self.sfreq // self.hop

    @property
    def n_hops(self) -> int:
        """Hops of the longest window."""
        return LONGEST_S * self.update_hz

    @property
    def top_hz(self) -> float:
        return self.bands[-1].high_hz

    def n_bins(self, window_s: int) -> int:
        """Bins 0 … n - 1 at `window_s` to the hertz: the highest band, one beside it, and one for Hann."""
        return math.ceil(self.top_hz * window_s) + 2

    def bins(self, window_s: int, band: Band) -> slice:
        """The band's bins in a spectrum that starts at 0 Hz."""
        return slice(math.ceil(band.low_hz * window_s), math.ceil(band.high_hz * window_s))


def grid(sfreq: float, update_hz: float = UPDATE_HZ) -> Grid:
    """The grid of a stream. ConfigError: sfreq is no whole number of Hz, or too low for any band."""
    whole = round(sfreq)
    bands = tuple(band for band in BANDS if band.high_hz <= sfreq / 2 - 1)
    if abs(sfreq - whole) > 1e-6 or not bands or whole > MOST_SFREQ:
        raise ConfigError(
            "features",
            "features of this stream cannot be computed",
            why=f"its rate is {sfreq:g} Hz, and they need a whole number of Hz from 10 to {MOST_SFREQ}",
            remedy="Switch features off for this stream, or set its device to such a rate",
        )
    rates = [r for r in range(1, _MOST_UPDATE_HZ + 1) if whole % r == 0 and whole // r >= 2]
    rate = min(rates, key=lambda r: abs(math.log(r / update_hz)))
    return Grid(whole, whole // rate, bands)
