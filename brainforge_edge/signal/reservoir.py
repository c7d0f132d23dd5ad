"""A reservoir with a trained linear readout: a detector with memory that learns from minutes of rows.

Runs in: pipeline worker, one instance per stream; `fit` once, in a thread that may take seconds.
The states are those of `kernels.reservoir`; nothing of the network but the readout is trained.
"""

from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from brainforge_edge.kernels.reservoir import LARGEST_WEIGHT, MOST_INPUTS, EchoState

Floats = NDArray[np.float64]
Rows = NDArray[np.float32]

MOST_UNITS: Final = 1024  # more would take minutes to scale and to fit
WASHOUT: Final = 100  # rows before a fit uses the states: they still hold the start
_PART: Final = 4096  # rows of states in memory at a time


class ReservoirConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the network is made of; the seed is the caller's."""

    n_units: int = 200
    n_links: int = 10  # into each unit
    radius: float = 0.9  # spectral radius of the links
    leak: float = 0.3
    input_scale: float = 0.5
    bias_scale: float = 0.2


class Network(msgspec.Struct, frozen=True, eq=False):
    """The fixed part: float32 inputs (n_inputs, n_units), bias (1, n_units), and of each unit its links."""

    inputs: Rows
    bias: Rows
    weights: Rows  # (n_links, n_units)
    links: NDArray[np.int32]
    leak: float

    @property
    def n_inputs(self) -> int:
        return len(self.inputs)

    @property
    def n_units(self) -> int:
        return int(self.inputs.shape[1])

    def start(self) -> EchoState:
        """At rest. ValueError: shapes that do not fit, or weights that are not finite."""
        return EchoState(self.inputs, self.bias, self.weights, self.links, self.leak)


def network(n_inputs: int, config: ReservoirConfig, rng: np.random.Generator) -> Network:
    """Uniform weights and links drawn from `rng`; the links are scaled to their spectral radius.

    Below 1 the states usually forget where they began: it is the customary rule, and for driven units
    neither enough nor necessary (Jaeger, GMD Report 148, 2001; leaky units: Jaeger et al., Neural Netw.
    20, 2007). ValueError: settings that make no network.
    """
    n = config.n_units
    if not 1 <= n_inputs <= MOST_INPUTS or not 2 <= n <= MOST_UNITS:
        msg = f"{n_inputs} inputs and {n} units; 1 to {MOST_INPUTS} and 2 to {MOST_UNITS} are possible"
        raise ValueError(msg)
    if not 1 <= config.n_links <= n or not 0 < config.leak <= 1 or not 0 <= config.radius <= 2:
        msg = f"n_links 1 to {n}, leak above 0 to 1, radius 0 to 2 are possible, not {config}"
        raise ValueError(msg)
    links = np.stack([rng.choice(n, config.n_links, replace=False) for _ in range(n)], axis=1)
    weights = rng.uniform(-1, 1, links.shape)
    dense = np.zeros((n, n))
    dense[np.arange(n), links] = weights
    largest = np.abs(np.linalg.eigvals(dense)).max()
    weights *= config.radius / largest if largest > 0 else 0.0
    return Network(
        rng.uniform(-config.input_scale, config.input_scale, (n_inputs, n)).astype(np.float32),
        rng.uniform(-config.bias_scale, config.bias_scale, (1, n)).astype(np.float32),
        weights.astype(np.float32),
        links.astype(np.int32),
        config.leak,
    )


class Readout(msgspec.Struct, frozen=True, eq=False):
    """A network with what it was taught: `outputs` names the columns of `weights`.

    Rows are put to mean 0 and sd 1 of the calibration (`mean`, `sd`) before they drive it.
    """

    name: str
    sfreq: float
    ch_names: tuple[str, ...]
    outputs: tuple[str, ...]
    network: Network
    mean: Rows  # (n_inputs,)
    sd: Rows
    weights: Rows  # (1 + n_inputs + n_units, n_outputs)

    def scaled(self, rows: NDArray[np.floating]) -> Rows:
        """ValueError: rows of another shape."""
        if rows.ndim != 2 or rows.shape[1] != self.network.n_inputs:
            msg = f"rows of shape {rows.shape}, not (n, {self.network.n_inputs})"
            raise ValueError(msg)
        with np.errstate(all="ignore"):  # wild values are held by the kernel
            return np.ascontiguousarray((rows - self.mean) / self.sd, dtype=np.float32)


class Reservoir:
    """A readout applied to a stream. Chunks of any size give equal bits."""

    def __init__(self, readout: Readout) -> None:
        self.readout = readout
        self._state = readout.network.start()

    @property
    def n_held(self) -> int:
        """Values that could not be used; the newest usable one of their channel stood in for them."""
        return self._state.n_held

    def push(self, rows: NDArray[np.floating]) -> Rows:
        """Outputs (n, n_outputs) of rows (n, n_channels), one for each row; what is given stays."""
        scaled = self.readout.scaled(rows)
        out = np.empty((len(scaled), len(self.readout.outputs)), np.float32)
        self._state.apply(scaled, self.readout.weights, out)
        return out

    def gap(self) -> None:
        """Rows are missing: begin from rest. The first `WASHOUT` outputs after it still hold the start."""
        self._state.reset()


def fit(
    rows: NDArray[np.floating],
    targets: NDArray[np.floating],
    fixed: Network,
    *,
    name: str,
    sfreq: float,
    ch_names: tuple[str, ...],
    outputs: tuple[str, ...],
    ridge: float = 1e-6,
) -> Readout:
    """Ridge regression of targets (n, n_outputs) on [1, u, x] over calibration rows (n, n_channels).

    W = (XᵀX + ρ n I)⁻¹ Xᵀ Y, the constant not shrunk, `WASHOUT` rows left out, as are targets that are
    not finite (Lukoševičius & Jaeger, Comput. Sci. Rev. 3, 2009). ValueError: shapes that do not fit,
    rows that are not finite or do not move, fewer rows than twice the weights.
    """
    if rows.ndim != 2 or targets.shape != (len(rows), len(outputs)) or not outputs:
        msg = f"targets of shape {targets.shape}, not ({len(rows)}, {len(outputs)})"
        raise ValueError(msg)
    if rows.shape[1] != fixed.n_inputs or len(ch_names) != fixed.n_inputs:
        msg = f"rows of shape {rows.shape} and {len(ch_names)} names for {fixed.n_inputs} inputs"
        raise ValueError(msg)
    if not np.isfinite(rows).all():
        msg = "the calibration holds values that are no numbers: cut it there, or repair them"
        raise ValueError(msg)
    x = rows.astype(np.float64)
    mean, sd = x.mean(axis=0), x.std(axis=0)
    if not (sd > 0).all() or not ridge > 0:
        msg = "a channel of the calibration does not move, or the ridge is not above 0"
        raise ValueError(msg)
    n_weights = 1 + fixed.n_inputs + fixed.n_units
    is_used = np.isfinite(targets).all(axis=1)
    is_used[:WASHOUT] = False
    n_used = int(is_used.sum())
    if n_used < 2 * n_weights:
        msg = f"{n_used} rows to calibrate on; {2 * n_weights} are needed for {n_weights} weights"
        raise ValueError(msg)
    empty = np.zeros((n_weights, len(outputs)), np.float32)
    as_rows = mean.astype(np.float32), sd.astype(np.float32)
    found = Readout(name, sfreq, ch_names, outputs, fixed, *as_rows, empty)
    gram, moment = _sums(found, rows, targets, is_used)
    penalty = np.full(n_weights, ridge * n_used)
    penalty[0] = 0
    weights = np.linalg.solve(gram + np.diag(penalty), moment).astype(np.float32)
    return msgspec.structs.replace(found, weights=np.ascontiguousarray(weights))


def _sums(
    found: Readout, rows: NDArray[Any], targets: NDArray[Any], is_used: NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """XᵀX and XᵀY, part by part: the states of an hour would not fit into memory."""
    n_weights, n_outputs = found.weights.shape
    gram, moment = np.zeros((n_weights, n_weights)), np.zeros((n_weights, n_outputs))
    state = found.network.start()
    for start in range(0, len(rows), _PART):
        scaled = found.scaled(rows[start : start + _PART])
        states = np.empty((len(scaled), found.network.n_units), np.float32)
        state.states(scaled, states)
        used = is_used[start : start + _PART]
        x = np.hstack([np.ones((len(scaled), 1)), scaled, states])[used]
        gram += x.T @ x
        moment += x.T @ targets[start : start + _PART][used]
    return gram, moment


def is_usable(readout: Readout) -> bool:
    """Whether all parts fit each other and are finite; `readoutfile` asks, before anything runs."""
    n_inputs, n_units = readout.network.n_inputs, readout.network.n_units
    wanted = (1 + n_inputs + n_units, len(readout.outputs))
    parts = (readout.mean, readout.sd, readout.weights)
    return (
        len(readout.ch_names) == n_inputs
        and readout.mean.shape == readout.sd.shape == (n_inputs,)
        and readout.weights.shape == wanted
        and all(np.isfinite(part).all() for part in parts)
        and float(np.abs(readout.weights).max(initial=0)) <= LARGEST_WEIGHT**3
        and bool((readout.sd > 0).all())
        and 0 < readout.sfreq < 1e6
    )
