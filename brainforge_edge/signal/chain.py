"""What is done to a stream's rows before they are shown and computed with, and in which order.

Repair, reference, then constant, band and mains in one cascade, then the other rate. Repair first: see
`reference`. The reference before the filter, though both are linear: a median is not. The rate last: a
resampler without a filter before it would spend its precision on an electrode's offset. Eyes and
motion are taken out of filtered rows at the stream's own rate: give such a chain no rate of its own
and a `Resampler` to what follows.
Runs in: pipeline worker, one thread per stream.
"""

from collections.abc import Callable
from math import isfinite
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.errors import ConfigError
from brainforge_edge.kernels.sos import MOST_SECTIONS, SosFilter
from brainforge_edge.signal.design import Cascade, designed
from brainforge_edge.signal.reference import NO_REFERENCE, Montage, Reference, Repair
from brainforge_edge.signal.resample import Resampler, factor

# Nothing is filtered nearer to the Nyquist frequency: a bilinear design is bent there.
MOST_OF_RATE: Final = 0.45
# Over a longer gap, what the filter remembers is no longer next to what follows.
RESTART_GAP_S: Final = 1.0


class ChainConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of one stream; in Hz, 0 for what is not wanted."""

    repairs: tuple[Repair, ...] = ()
    reference: Reference = NO_REFERENCE
    dc_hz: float = 0.0  # high-pass of order 1, for the constant
    l_freq: float = 0.0  # pass-band, Butterworth of order 4 a side; either may be alone
    h_freq: float = 0.0
    notch: float = 0.0
    harmonics: int = (
        1  # how many multiples of `notch`, itself included; those too fast are left out
    )
    resample_hz: float = 0.0

    def cascade(self, sfreq: float) -> Cascade:
        """What is to be designed for a stream of this rate. ConfigError names the key."""
        most = MOST_OF_RATE * sfreq
        for key in ("dc_hz", "l_freq", "h_freq", "notch", "resample_hz"):
            value = getattr(self, key)
            if not isfinite(value) or value < 0:
                raise _refused(key, f"it is {value:g}", "Give a frequency in Hz, or 0 for none")
            if key != "resample_hz" and value > most:
                raise _refused(
                    key,
                    f"{value:g} Hz is too near to half of the stream's rate, {sfreq:g} Hz",
                    f"Give at most {most:g}, or 0 for none",
                )
        for key in ("dc_hz", "l_freq"):
            if 0 < getattr(self, key) < sfreq / 1e5:
                raise _refused(
                    key,
                    f"{getattr(self, key):g} Hz is too slow for {sfreq:g} rows a second",
                    f"Give at least {sfreq / 1e5:g}",
                )
        if self.l_freq and self.h_freq and not self.l_freq < self.h_freq:
            raise _refused(
                "l_freq",
                f"{self.l_freq:g} Hz is not below h_freq, {self.h_freq:g} Hz",
                "Give a pass-band from low to high",
            )
        if not 1 <= self.harmonics <= MOST_SECTIONS:
            raise _refused(
                "harmonics",
                f"it is {self.harmonics}",
                f"Give 1 to {MOST_SECTIONS}, 1 for the notch alone",
            )
        multiples = (self.notch * k for k in range(1, self.harmonics + 1))
        notches = tuple(hz for hz in multiples if 0 < hz <= most)
        n_sections = (self.dc_hz > 0) + 4 * (self.l_freq > 0 or self.h_freq > 0) + len(notches)
        if n_sections > MOST_SECTIONS:
            raise _refused(
                "harmonics",
                f"the filter has {n_sections} sections, and {MOST_SECTIONS} are possible",
                f"Give at most {len(notches) - n_sections + MOST_SECTIONS}",
            )
        if self.resample_hz:
            try:
                factor(sfreq, self.resample_hz)
            except ValueError as error:
                raise _refused(
                    "resample_hz", str(error), "Give a rate of simple ratio to the stream's"
                ) from error
        return Cascade(sfreq, self.dc_hz, self.l_freq, self.h_freq, notches)


class Chain:
    """One stream's chain, with the state of its filters."""

    def __init__(
        self,
        config: ChainConfig,
        sfreq: float,
        names: tuple[str, ...],
        *,
        design: Callable[[Cascade], NDArray[np.float64]] = designed,
    ) -> None:
        """`names`: the stream's channels. ConfigError: a setting that cannot be used, by its key."""
        if not (isfinite(sfreq) and sfreq > 0):
            msg = f"{sfreq} Hz is no rate"
            raise ValueError(msg)
        cascade = config.cascade(sfreq)
        self._montage = Montage(names, config.reference, config.repairs)
        self.names = self._montage.names
        is_filtered = cascade.dc_hz or cascade.l_freq or cascade.h_freq or cascade.notches
        self._filter = SosFilter(design(cascade), len(self.names)) if is_filtered else None
        self._resampler = None
        if config.resample_hz and config.resample_hz != sfreq:
            self._resampler = Resampler(sfreq, config.resample_hz, len(self.names))
        self._restart = RESTART_GAP_S * sfreq
        self._is_begun = False

    @property
    def resampler(self) -> Resampler | None:
        """For its rate and its delay; None where the rate stays."""
        return self._resampler

    @property
    def n_replaced(self) -> int:
        """Values that were not finite and that the filter replaced by the newest that was."""
        return self._filter.n_replaced if self._filter else 0

    def gap(self, n: int | None = None) -> None:
        """`n` rows are missing here; None: it is not known how many, or the device began anew.

        The filter begins anew where more than a second is missing, else it goes on; the resampler
        always does, since the times of its rows begin anew.
        """
        if n is None or n > self._restart:
            self._is_begun = False
        if self._resampler is not None:
            self._resampler.gap()

    def push(self, rows: NDArray[np.floating]) -> NDArray[np.float32]:
        """Rows (n, n_channels) in physical units that follow the last; what is given stays.

        (n', channels that come out). Chunks change no bit. After the start and a restart the first row
        counts as having been there for ever. ValueError: another shape.
        """
        x: NDArray[Any] = np.ascontiguousarray(self._montage.apply(rows), dtype=np.float32)
        if not len(x):
            return x
        if self._filter is not None:
            if not self._is_begun:
                self._filter.reset()
                self._filter.settle(np.where(np.isfinite(x[0]), x[0], 0).astype(np.float64))
                self._is_begun = True
            self._filter.apply(x, x)
        return x if self._resampler is None else self._resampler.push(x)


def _refused(key: str, why: str, remedy: str) -> ConfigError:
    return ConfigError(
        "chain", f"{key} of a stream cannot be used", why=why, remedy=remedy, key=key
    )
