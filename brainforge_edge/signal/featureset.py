"""All features of a stream, window by window: what the live path asks for after each hop.

Runs in: pipeline worker, one thread per stream.
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

from brainforge_edge.signal import features
from brainforge_edge.signal.features import Floats, Shape
from brainforge_edge.signal.windows import Trouble, Windows


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


def window_features(windows: Windows, window_s: int) -> WindowFeatures:
    """Features of the window that ends with the newest whole hop. `window_s`: 1, 2 or 4."""
    grid = windows.grid
    trouble = windows.trouble(window_s)
    is_whole = trouble == Trouble.NONE
    moments = windows.moments.of(windows.spectra.n_hops[window_s])
    density = windows.spectra.density(window_s)
    density[moments.variance == 0] = 0  # rounding of a constant is no signal
    density[~is_whole] = np.nan
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
        octaves=_octaves(windows, window_s),
        density=density,
    )


def _octaves(windows: Windows, window_s: int) -> Floats | None:
    if windows.wavelets is None:
        return None
    powers = windows.wavelets.powers(windows.spectra.n_hops[window_s])
    trouble = windows.trouble(window_s, before=windows.wavelets.n_before)
    powers[:, trouble != Trouble.NONE] = np.nan
    return powers
