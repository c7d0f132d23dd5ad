"""All features of a stream, window by window: what the live path asks for after each hop.

Runs in: pipeline worker, one thread per stream.
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

from brainforge_edge.signal import features
from brainforge_edge.signal.features import Floats, Shape
from brainforge_edge.signal.windows import Trouble, Windows


class BandFeatures(msgspec.Struct, frozen=True, eq=False):
    """The part of `WindowFeatures` that is wanted at each hop, and equal to it to the bit."""

    window_s: int
    trouble: NDArray[np.int8]  # `Trouble`
    powers: Floats  # unit², (n_bands, n_channels)
    relative: Floats
    ratios: dict[str, Floats]


def band_features(windows: Windows, window_s: int) -> BandFeatures:
    """Of the window that ends with the newest whole hop. `window_s`: 1, 2 or 4."""
    grid = windows.grid
    trouble = windows.trouble(window_s)
    is_still = windows.moments.is_still(windows.spectra.n_hops[window_s])
    powers = features.band_powers(_density(windows, window_s, is_still, trouble), grid, window_s)
    return BandFeatures(
        window_s=window_s,
        trouble=trouble,
        powers=powers,
        relative=features.relative_powers(powers),
        ratios=features.ratios(powers, grid.bands),
    )


def _density(
    windows: Windows, window_s: int, is_still: NDArray[np.bool_], trouble: NDArray[np.int8]
) -> Floats:
    density = windows.spectra.density(window_s)
    density[is_still] = 0  # rounding of a constant is no signal
    density[trouble != Trouble.NONE] = np.nan
    return density


class WindowFeatures(msgspec.Struct, frozen=True, eq=False):
    """Of one window; arrays (n_channels,) unless said, NaN where `trouble` is not 0.

    A person is told `windows.REASONS` of the trouble instead of a figure.
    """

    window_s: int
    df_hz: float
    hops: int  # since the stream's beginning, at the window's end
    trouble: NDArray[np.int8]  # `Trouble`
    powers: dict[str, Floats]  # unit²
    relative: dict[str, Floats]
    ratios: dict[str, Floats]
    peak_alpha_hz: Floats
    entropy: Floats
    shape: Shape
    octaves: Floats | None  # unit², (n_levels + 1, n_channels), if `windows` has wavelets
    density: Floats  # unit²/Hz, (n_channels, n_bins) from df_hz on


def window_features(windows: Windows, window_s: int, *, has_octaves: bool = True) -> WindowFeatures:
    """Features of the window that ends with the newest whole hop. `window_s`: 1, 2 or 4.

    `has_octaves`: False leaves them out, where there is no time for them."""
    grid = windows.grid
    trouble = windows.trouble(window_s)
    is_whole = trouble == Trouble.NONE
    moments = windows.moments.of(windows.spectra.n_hops[window_s])
    density = _density(windows, window_s, moments.variance == 0, trouble)
    powers = features.band_powers(density, grid, window_s)
    relative = features.relative_powers(powers)
    names = [band.name for band in grid.bands]
    shape = features.shape(moments, grid.sfreq)
    for values in msgspec.structs.astuple(shape):
        values[~is_whole] = np.nan
    return WindowFeatures(
        window_s=window_s,
        df_hz=1 / window_s,
        hops=windows.hops,
        trouble=trouble,
        powers=dict(zip(names, powers, strict=True)),
        relative=dict(zip(names, relative, strict=True)),
        ratios=features.ratios(powers, grid.bands),
        peak_alpha_hz=features.peak_alpha(density, grid, window_s),
        entropy=features.spectral_entropy(density, grid, window_s),
        shape=shape,
        octaves=_octaves(windows, window_s) if has_octaves else None,
        density=density,
    )


def _octaves(windows: Windows, window_s: int) -> Floats | None:
    if windows.wavelets is None:
        return None
    powers = windows.wavelets.powers(windows.spectra.n_hops[window_s])
    trouble = windows.trouble(window_s, before=windows.wavelets.n_before)
    powers[:, trouble != Trouble.NONE] = np.nan
    return powers
