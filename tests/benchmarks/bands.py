"""Band powers over 1, 2 and 4 s after each hop, against scipy's and FFTW's FFT at their best layout and type.

Ours is given the rows of a hop and slides. A peer is given whole windows as it likes them best, in its own type and
channel by channel, which costs it nothing here. What all features of the windows cost is told beside, without a goal.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pyfftw
from numpy.typing import NDArray
from scipy import fft, signal

from brainforge_edge.signal.connectivity import MOST_PAIRS, Segments, all_pairs
from brainforge_edge.signal.features import band_powers
from brainforge_edge.signal.featureset import window_features
from brainforge_edge.signal.grid import WINDOWS_S, Grid, grid
from brainforge_edge.signal.spectrum import SlidingSpectra
from brainforge_edge.signal.windows import Windows
from tests.benchmarks.row import Row
from tests.benchmarks.timing import alternate

CASES: tuple[tuple[int, int, float | None], ...] = (
    (256, 4, 1.0),
    (250, 8, 1.0),
    (1000, 64, None),
    (1000, 306, 5.0),
)
MOST_ERROR = 1e-3
HOUR_S = 3600.0
ROUNDS = 41
_CYCLE = 97  # hops that repeat in the hour; prime, so that no window sees them at the same place


def run(seconds: float = HOUR_S, rounds: int = ROUNDS) -> list[Row]:
    """In a process of its own whose BLAS has one thread, as the daemon gives its workers."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.bands", str(seconds), str(rounds)],
        capture_output=True,
        check=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    return msgspec.json.decode(result.stdout, type=list[Row])


def _rows(seconds: float, rounds: int) -> list[Row]:
    rows = [_speed(sfreq, n, goal, rounds) for sfreq, n, goal in CASES]
    rows += [_whole(sfreq, n, rounds) for sfreq, n, _ in CASES]
    rows.append(_pairs(rounds))
    return rows + [_error(sfreq, n_channels, seconds) for sfreq, n_channels, _ in CASES[1::2]]


def _noise(n: int, n_channels: int) -> NDArray[np.float32]:
    return np.random.default_rng(n).standard_normal((n, n_channels)).astype(np.float32)


def _speed(sfreq: int, n_channels: int, goal: float | None, rounds: int) -> Row:
    found = grid(sfreq)
    spectra = SlidingSpectra(found, n_channels)
    hop = _noise(found.hop, n_channels)
    calls: list[Callable[[], object]] = [lambda: _ours(spectra, found, hop)]
    names = []
    for dtype in (np.float64, np.float32):
        data = [_noise(w * sfreq, n_channels).T.astype(dtype) for w in WINDOWS_S]
        for name, make in (("scipy", _scipy), ("FFTW", _fftw)):
            calls.append(make(found, data))
            names.append(f"{name} {np.dtype(dtype).name}")
    times = alternate(*calls, rounds=rounds)
    best = min(range(1, len(times)), key=lambda i: times[i])
    ratio = times[best] / times[0]
    return Row(
        case=f"{sfreq} Hz, {n_channels} ch, hop {found.hop}; best: {names[best - 1]}",
        ours=times[0] * 1e6,
        peer=times[best] * 1e6,
        unit="µs/update",
        ratio=ratio,
        goal="" if goal is None else f">= {goal:g}",
        met=None if goal is None else ratio >= goal,
    )


def _whole(sfreq: int, n_channels: int, rounds: int) -> Row:
    """A hop with all that is computed of it, and how much of a core that is at this rate."""
    found = grid(sfreq)
    windows = Windows(found, n_channels, has_wavelets=True)
    windows.push(_noise(5 * sfreq, n_channels))
    hop = _noise(found.hop, n_channels)

    def call() -> None:
        windows.push(hop)
        for w in WINDOWS_S:
            window_features(windows, w)

    (taken,) = alternate(call, rounds=rounds)
    case = f"all features of 3 windows, {n_channels} ch: {taken * found.update_hz:.2%} of a core, "
    case += f"state {windows.nbytes / 1e6:.2g} MB"
    return Row(case, taken * 1e6, None, "µs/update", None)


def _pairs(rounds: int) -> Row:
    """Coupling of as many pairs as may be asked for, over 30 segments."""
    windows = Windows(grid(250), 64)
    segments = Segments(windows, all_pairs(64))
    rows = _noise(250 * 30, 64)
    for part in windows.cut(rows):
        windows.push(rows[part])
        segments.take()
    (taken,) = alternate(segments.coupling, rounds=rounds)
    case = f"coupling of {MOST_PAIRS} pairs, state {segments.nbytes / 1e6:.2g} MB"
    return Row(case, taken * 1e3, None, "ms", None)


def _ours(spectra: SlidingSpectra, found: Grid, hop: NDArray[np.float32]) -> list[Any]:
    spectra.slide(hop)
    return [band_powers(density, found, w) for w, density in spectra.densities().items()]


def _peer(found: Grid, data: list[NDArray[Any]], transforms: list[Any]) -> Callable[[], object]:
    dtype = data[0].dtype
    hanns = [signal.get_window("hann", x.shape[1]).astype(dtype) for x in data]
    starts = [[found.bins(w, band).start for band in found.bands] for w in WINDOWS_S]
    stops = [found.bins(w, found.bands[-1]).stop for w in WINDOWS_S]
    factors = [
        dtype.type(2 / (found.sfreq * 0.375 * x.shape[1] * w))
        for x, w in zip(data, WINDOWS_S, strict=True)
    ]

    def call() -> list[Any]:
        powers = []
        for x, hann, transform, start, stop, factor in zip(
            data, hanns, transforms, starts, stops, factors, strict=True
        ):
            windowed = x - x.mean(axis=1, keepdims=True)
            windowed *= hann
            inside = transform(windowed)[:, :stop]
            power = inside.real**2
            power += inside.imag**2
            powers.append(np.add.reduceat(power, start, axis=1) * factor)
        return powers

    return call


def _scipy(found: Grid, data: list[NDArray[Any]]) -> Callable[[], object]:
    def transform(x: NDArray[Any]) -> Any:
        return fft.rfft(x, axis=1, overwrite_x=True)

    return _peer(found, data, [transform] * len(data))


def _fftw(found: Grid, data: list[NDArray[Any]]) -> Callable[[], object]:
    transforms = []
    for x in data:
        plan = pyfftw.builders.rfft(
            pyfftw.empty_aligned(x.shape, x.dtype), axis=1, planner_effort="FFTW_MEASURE", threads=1
        )
        transforms.append(plan)
    return _peer(found, data, transforms)


def _error(sfreq: int, n_channels: int, seconds: float) -> Row:
    """The worst band power after `seconds` of hops, an offset and one artefact among them, against
    scipy.signal.periodogram in float64."""
    found = grid(sfreq)
    windows = Windows(found, n_channels)
    cycle = _noise(_CYCLE * found.hop, n_channels) * np.float32(300) + np.float32(20_000)
    hops = np.split(cycle, _CYCLE)
    n = max(found.n_hops + 1, round(seconds * found.update_hz))
    for i in range(n):
        windows.push(hops[i % _CYCLE] * np.float32(100 if i == n // 2 - 50 else 1))
    last = np.concatenate([hops[i % _CYCLE] for i in range(n - found.n_hops, n)]).astype(np.float64)
    worst = 0.0
    for w in WINDOWS_S:
        n_bins = found.n_bins(w) - 2
        ours = band_powers(windows.spectra.density(w), found, w)
        _, density = signal.periodogram(
            last[-w * sfreq :], sfreq, "hann", detrend="constant", axis=0
        )
        wanted = band_powers(density[1 : 1 + n_bins].T, found, w)
        worst = max(worst, float(np.abs(ours / wanted - 1).max()))
    return Row(
        case=f"worst error after {n} hops, {n_channels} ch",
        ours=worst,
        peer=None,
        unit="relative",
        ratio=None,
        goal=f"<= {MOST_ERROR:g}",
        met=worst <= MOST_ERROR,
    )


if __name__ == "__main__":
    print(json.dumps(msgspec.to_builtins(_rows(float(sys.argv[1]), int(sys.argv[2])))))
