"""Figures of windows as they travel: null where there is none, never a NaN.

Numbers are packed here as msgpack floats of 32 bits: a helmet's message is 70 kB instead of 120, and
no list of Python's is made of it. Pure. Runs in: pipeline worker, a stream's own thread.
"""

from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core import wire
from brainforge_edge.pipeline.plan import Pairs, Plan
from brainforge_edge.signal import features
from brainforge_edge.signal.connectivity import Coupling
from brainforge_edge.signal.featureset import band_features, window_features
from brainforge_edge.signal.grid import WINDOWS_S
from brainforge_edge.signal.windows import Trouble, Windows

_WORDS: Final = tuple("" if t is Trouble.NONE else t.name.lower() for t in Trouble)
_LARGEST: Final = float(np.finfo(np.float32).max)
_NULL, _FLOAT32 = 0xC0, 0xCA
_ARRAY32 = b"\xdd"


def packed(values: NDArray[Any]) -> Any:
    """One dimension as a msgpack array of float32, null where a value is no number."""
    cells = np.empty((len(values), 5), np.uint8)
    is_there = np.abs(values) <= _LARGEST  # NaN compares as False
    cells[:, 0] = np.where(is_there, _FLOAT32, _NULL)
    whole = np.where(is_there, values, 0.0).astype(">f4")
    cells[:, 1:] = whole.view(np.uint8).reshape(-1, 4)
    is_kept = np.ones(cells.shape, bool)
    is_kept[~is_there, 1:] = False
    return msgspec.Raw(_ARRAY32 + len(values).to_bytes(4, "big") + cells[is_kept].tobytes())


def words(trouble: NDArray[np.int8]) -> list[str]:
    return [_WORDS[code] for code in trouble.tolist()]


def window_figures(windows: Windows, plan: Plan) -> list[wire.WindowFigures]:
    """What each message has, of all windows."""
    names = [band.name for band in windows.grid.bands]
    found = []
    for window_s in WINDOWS_S:
        band = band_features(windows, window_s)
        found.append(
            wire.WindowFigures(
                window_s=window_s,
                trouble=words(band.trouble),
                powers={name: packed(x) for name, x in zip(names, band.powers, strict=True)},
                relative={name: packed(x) for name, x in zip(names, band.relative, strict=True)},
                ratios={name: packed(x) for name, x in band.ratios.items()},
                asymmetry=_asymmetry(names, band.powers, plan.asymmetry),
            )
        )
    return found


def _asymmetry(names: list[str], powers: NDArray[np.float64], pairs: Pairs) -> dict[str, Any]:
    if not pairs:
        return {}
    left, right = np.array(pairs, np.intp).T
    return {
        name: packed(features.asymmetry(power, left, right))
        for name, power in zip(names, powers, strict=True)
    }


def slow_figures(windows: Windows, *, has_octaves: bool) -> list[wire.SlowWindow]:
    """What is computed once a second, of all windows."""
    found = []
    for window_s in WINDOWS_S:
        of = window_features(windows, window_s, has_octaves=has_octaves)
        shape = msgspec.structs.asdict(of.shape)
        shape["mobility_hz"] = shape.pop("mobility")
        figures = {"peak_alpha_hz": of.peak_alpha_hz, "entropy": of.entropy, **shape}
        found.append(
            wire.SlowWindow(
                window_s=window_s,
                figures={name: packed(x) for name, x in figures.items()},
                octaves=None if of.octaves is None else [packed(x) for x in of.octaves],
            )
        )
    return found


def coupling_figures(
    coupling: Coupling, windows: Windows, plan: Plan, t_last_ns: int
) -> wire.CouplingFigures:
    measures = {"coherence": coupling.coherence, "plv": coupling.plv, "wpli2": coupling.wpli2}
    names = [band.name for band in windows.grid.bands]
    return wire.CouplingFigures(
        t_last_ns=t_last_ns,
        pairs=[(plan.channels[a], plan.channels[b]) for a, b in plan.coupling],
        n_segments=coupling.n_segments.tolist(),
        measures={
            measure: {name: packed(x) for name, x in zip(names, values.T, strict=True)}
            for measure, values in measures.items()
        },
    )
