"""Figures of windows as they travel: null where there is none, never a NaN.

Numbers are packed here as msgpack floats of 32 bits: a helmet's message is 70 kB instead of 120, and
no list of Python's is made of it. Pure. Runs in: pipeline worker, a stream's own thread.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core import wire
from brainforge_edge.pipeline.plan import Pairs, Plan
from brainforge_edge.signal import features
from brainforge_edge.signal.connectivity import Coupling
from brainforge_edge.signal.featureset import BandFeatures, band_features, window_features
from brainforge_edge.signal.grid import WINDOWS_S
from brainforge_edge.signal.windows import Trouble, Windows

_WORDS: Final = tuple("" if t is Trouble.NONE else t.name.lower() for t in Trouble)
_LARGEST: Final = float(np.finfo(np.float32).max)
_NULL, _FLOAT32 = 0xC0, 0xCA
_ARRAY32 = b"\xdd"


def packed(values: NDArray[Any]) -> list[Any]:
    """Each row of two dimensions as a msgpack array of float32, null where a value is no number.

    All rows at once: a step of numpy's costs as much for one of four channels as for all of them.
    """
    n_rows, n = values.shape
    head = _ARRAY32 + n.to_bytes(4, "big")
    is_there = np.abs(values) <= _LARGEST  # NaN compares as False
    cells = np.empty((n_rows, n, 5), np.uint8)
    cells[:, :, 0] = np.where(is_there, _FLOAT32, _NULL)
    whole = np.where(is_there, values, 0.0).astype(">f4", order="C")
    cells[:, :, 1:] = whole.view(np.uint8).reshape(n_rows, n, 4)
    if is_there.all():
        body, ends = cells.tobytes(), [5 * n * (i + 1) for i in range(n_rows)]
    else:
        is_kept = np.repeat(is_there[:, :, None], 5, axis=2)
        is_kept[:, :, 0] = True
        body = cells[is_kept].tobytes()
        ends = np.cumsum(n + 4 * is_there.sum(axis=1)).tolist()
    starts = [0, *ends][:-1]
    return [msgspec.Raw(head + body[start:end]) for start, end in zip(starts, ends, strict=True)]


def named(names: Iterable[str], rows: NDArray[Any] | Sequence[NDArray[Any]]) -> dict[str, Any]:
    return dict(zip(names, packed(np.asarray(rows)), strict=True))


def words(trouble: NDArray[np.int8]) -> list[str]:
    return [_WORDS[code] for code in trouble.tolist()]


def window_figures(windows: Windows, plan: Plan) -> list[wire.WindowFigures]:
    """What each message has, of all windows."""
    return [_window(band_features(windows, window_s), windows, plan) for window_s in WINDOWS_S]


def _window(band: BandFeatures, windows: Windows, plan: Plan) -> wire.WindowFigures:
    names = [each.name for each in windows.grid.bands]
    n = len(names)
    rows = packed(np.concatenate([band.powers, band.relative, *_rows(band.ratios)]))
    return wire.WindowFigures(
        window_s=band.window_s,
        trouble=words(band.trouble),
        powers=dict(zip(names, rows[:n], strict=True)),
        relative=dict(zip(names, rows[n : 2 * n], strict=True)),
        ratios=dict(zip(band.ratios, rows[2 * n :], strict=True)),
        asymmetry=_asymmetry(names, band.powers, plan.asymmetry),
    )


def _rows(figures: dict[str, NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    return [values[None] for values in figures.values()]


def _asymmetry(names: list[str], powers: NDArray[np.float64], pairs: Pairs) -> dict[str, Any]:
    if not pairs:
        return {}
    left, right = np.array(pairs, np.intp).T
    return named(names, [features.asymmetry(power, left, right) for power in powers])


def slow_window(
    windows: Windows, window_s: int, *, has_octaves: bool, seq: int, t_last_ns: int
) -> wire.SlowWindow:
    """What is computed once a second."""
    of = window_features(windows, window_s, has_octaves=has_octaves)
    shape = msgspec.structs.asdict(of.shape)
    shape["mobility_hz"] = shape.pop("mobility")
    figures = {"peak_alpha_hz": of.peak_alpha_hz, "entropy": of.entropy, **shape}
    return wire.SlowWindow(
        window_s=window_s,
        seq=seq,
        t_last_ns=t_last_ns,
        figures=named(figures, list(figures.values())),
        octaves=None if of.octaves is None else packed(of.octaves),
    )


def coupling_figures(
    coupling: Coupling, windows: Windows, plan: Plan, t_last_ns: int
) -> wire.CouplingFigures:
    measures = {"coherence": coupling.coherence, "plv": coupling.plv, "wpli2": coupling.wpli2}
    names = [band.name for band in windows.grid.bands]
    return wire.CouplingFigures(
        t_last_ns=t_last_ns,
        pairs=[(plan.channels[a], plan.channels[b]) for a, b in plan.coupling],
        n_segments=coupling.n_segments.tolist(),
        measures={measure: named(names, values.T) for measure, values in measures.items()},
    )
