"""Signals with known truth for the tests of features."""

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.signal.grid import grid
from brainforge_edge.signal.windows import Windows

Rows = NDArray[np.float32]


def noise(seconds: float, sfreq: int, n_channels: int, *, seed: int = 1) -> Rows:
    """Pink-like: most of it slow, as signals of a head are."""
    rng = np.random.default_rng(seed)
    white = rng.standard_normal((round(seconds * sfreq), n_channels))
    slow = np.cumsum(white, axis=0)
    slow -= np.linspace(0, 1, len(slow))[:, None] * slow[-1]
    return (white + 0.05 * slow).astype(np.float32)


def sine(hz: float, seconds: float, sfreq: int, amplitude: float = 1.0) -> NDArray[np.float64]:
    return amplitude * np.sin(2 * np.pi * hz * np.arange(round(seconds * sfreq)) / sfreq + 0.3)


def filled(rows: NDArray[np.floating], sfreq: int) -> Windows:
    windows = Windows(grid(sfreq), rows.shape[1])
    windows.push(rows.astype(np.float32))
    return windows
