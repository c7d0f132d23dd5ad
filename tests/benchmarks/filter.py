"""Band-pass 1-100 Hz and notch, 5 biquads, 306 channels, against scipy.signal.sosfilt at its best layout and type."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from brainforge_edge.kernels.sos import SosFilter
from tests.benchmarks.row import Row
from tests.benchmarks.timing import alternate

N_CHANNELS = 306
SFREQ = 1000.0
GOALS = {10: 10.0, 50: 6.0, 100: 6.0, 1000: 6.0}
EQUAL_DB = -140.0


def cascade() -> NDArray[np.float64]:
    """4 biquads of band-pass, 1 of notch."""
    band = signal.butter(4, [1, 100], "bandpass", fs=SFREQ, output="sos")
    notch = signal.tf2sos(*signal.iirnotch(60, 30, fs=SFREQ))
    return np.ascontiguousarray(np.vstack([band, notch]))


def run() -> list[Row]:
    sos = cascade()
    rows = [_speed(sos, n_rows, goal) for n_rows, goal in GOALS.items()]
    rng = np.random.default_rng(5)
    noise = rng.standard_normal((20_000, N_CHANNELS)) * 300
    rows.append(_equality("equal to sosfilt float64", sos, noise, [20_000]))
    rows.append(_equality("equal, 20,000 LSB offset", sos, noise + 20_000, [20_000]))
    cuts = rng.integers(1, 400, 400).tolist()
    rows.append(_equality("equal, offset and random chunking", sos, noise + 20_000, cuts))
    return rows


def _speed(sos: NDArray[np.float64], n_rows: int, goal: float) -> Row:
    x = np.random.default_rng(n_rows).standard_normal((n_rows, N_CHANNELS)).astype(np.float32)
    out = np.empty_like(x)
    ours = SosFilter(sos, N_CHANNELS)
    calls = [lambda: ours.apply(x, out)]
    for dtype in (np.float64, np.float32):
        coefficients = sos.astype(dtype)
        for axis in (0, 1):
            data = np.ascontiguousarray((x if axis == 0 else x.T).astype(dtype))
            shape = (len(sos), 2, N_CHANNELS) if axis == 0 else (len(sos), N_CHANNELS, 2)
            zi = np.zeros(shape, dtype)
            calls.append(_peer(coefficients, data, axis, zi))
    times = alternate(*calls)
    per = 1e9 / (n_rows * N_CHANNELS)
    ratio = min(times[1:]) / times[0]
    return Row(
        case=f"chunk {n_rows} ({ours.instructions})",
        ours=times[0] * per,
        peer=min(times[1:]) * per,
        unit="ns/ch-sample",
        ratio=ratio,
        goal=f">= {goal:g}",
        met=ratio >= goal,
    )


def _peer(coefficients: NDArray[Any], data: NDArray[Any], axis: int, zi: NDArray[Any]) -> Any:
    def call() -> None:
        _, zi[...] = signal.sosfilt(coefficients, data, axis=axis, zi=zi)

    return call


def _equality(case: str, sos: NDArray[np.float64], x: NDArray[np.float64], cuts: list[int]) -> Row:
    x32 = x.astype(np.float32)
    reference = signal.sosfilt(sos, x32.astype(np.float64), axis=0)
    ours = SosFilter(sos, N_CHANNELS)
    out = np.empty_like(x32)
    at = 0
    while at < len(x32):
        for n in cuts:
            ours.apply(x32[at : at + n], out[at : at + n])
            at = min(len(x32), at + n)
    # Judged after the start, where an offset's step would make the reference large and the bar easy.
    settled = slice(len(x32) // 2, None)
    error = np.sqrt(np.mean((out[settled] - reference[settled]) ** 2))
    decibel = 20 * np.log10(error / np.sqrt(np.mean(reference[settled] ** 2)))
    return Row(
        case=case,
        ours=float(error),
        peer=float(np.sqrt(np.mean(reference[settled] ** 2))),
        unit="rms",
        ratio=float(decibel),
        goal=f"<= {EQUAL_DB:g} dB",
        met=bool(decibel <= EQUAL_DB),
    )
