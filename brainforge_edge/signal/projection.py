"""Independent components of calibration rows, and a fixed projection that takes some of them out live.

Runs in: pipeline worker; `fit` once a session, in a thread that may take seconds.
"""

from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MOST_COMPONENTS: Final = 64
FEWEST_ROWS: Final = 1000
_MOST_ROUNDS: Final = 500
_TURNED: Final = 1e-6  # 1 - cosine between rounds
_RANK: Final = 1e-10  # of the largest eigenvalue: a reference or a repair takes ranks away
_LARGEST: Final = 1e30


class Components(msgspec.Struct, frozen=True, eq=False):
    """The strongest first; each source has variance 1 in the calibration.

    unmixing (n_components, n_channels): rows to sources; mixing (n_channels, n_components): a source's
    map, in the rows' unit, its largest value positive.
    """

    unmixing: Floats
    mixing: Floats

    def sources(self, rows: NDArray[np.floating]) -> Floats:
        """Of rows (n, n_channels): (n, n_components)."""
        found: Floats = rows.astype(np.float64) @ self.unmixing.T
        return found

    def likeness(self, rows: NDArray[np.floating], reference: NDArray[np.floating]) -> Floats:
        """|correlation| of each source with each reference (n, n_references), an EOG say:
        (n_components, n_references). NaN for one that does not move."""
        sources = self.sources(rows)
        sources -= sources.mean(axis=0)
        other = reference - reference.mean(axis=0)
        size = np.sqrt(np.outer((sources**2).sum(axis=0), (other**2).sum(axis=0)))
        product = np.abs(sources.T @ other)
        found: Floats = np.divide(product, size, out=np.full(size.shape, np.nan), where=size > 0)
        return found

    def without(self, removed: tuple[int, ...]) -> "Projection":
        """ValueError: a component that is not there, or twice."""
        n = len(self.unmixing)
        if len(set(removed)) != len(removed) or not all(0 <= i < n for i in removed):
            msg = f"components {removed}; different ones of {n} can be removed"
            raise ValueError(msg)
        kept = list(removed)
        return Projection(self.unmixing[kept], np.ascontiguousarray(self.mixing[:, kept].T))


class Projection(msgspec.Struct, frozen=True, eq=False):
    """Rows less the maps of what is removed: one matrix, in two factors, since that is less work."""

    unmixing: Floats  # (n_removed, n_channels)
    maps: Floats  # (n_removed, n_channels)

    @property
    def matrix(self) -> Floats:
        """(n_channels, n_channels): a row's column times this is the row cleaned."""
        return np.eye(self.maps.shape[1]) - self.maps.T @ self.unmixing

    def apply(self, rows: NDArray[np.floating]) -> NDArray[Any]:
        """Rows (n, n_channels), in their type; what is given stays.

        Each row for itself: chunks change no bit. A value that is no number stays, and counts as 0 in
        the sources. ValueError: another shape.
        """
        if rows.ndim != 2 or rows.shape[1] != self.maps.shape[1]:
            msg = f"rows of shape {rows.shape}, not (n, {self.maps.shape[1]})"
            raise ValueError(msg)
        found = np.array(rows, dtype=np.float64, order="C")
        x = np.where(np.abs(found) < _LARGEST, found, 0.0)
        for weights, map_ in zip(self.unmixing, self.maps, strict=True):
            found -= (x * weights).sum(axis=1)[:, None] * map_
        return found.astype(rows.dtype)


def fit(
    rows: NDArray[np.floating], rng: np.random.Generator, *, n_components: int | None = None
) -> Components:
    """FastICA, symmetric, with tanh (Hyvärinen, IEEE Trans. Neural Netw. 10, 1999), on calibration rows
    (n, n_channels) of one kind of sensor that have passed the live chain's filter.

    Rows with a value that is no number are left out. `n_components`: of the strongest principal ones,
    at most 64; what they leave is never removed. ValueError: fewer rows than components squared or
    than 1000, rows that do not move, or no convergence. Two Gaussian
    sources cannot be told apart: what is found of them is chance.
    """
    if rows.ndim != 2:
        msg = f"rows of shape {rows.shape}, not (n, n_channels)"
        raise ValueError(msg)
    x = rows[(np.abs(rows) < _LARGEST).all(axis=1)].astype(np.float64)
    if len(x) < FEWEST_ROWS:
        msg = f"{len(x)} rows to calibrate on; {FEWEST_ROWS} are needed"
        raise ValueError(msg)
    x -= x.mean(axis=0)
    values, vectors = np.linalg.eigh(x.T @ x / len(x))
    rank = int((values > _RANK * values[-1]).sum()) if values[-1] > 0 else 0
    n = min(rank, MOST_COMPONENTS if n_components is None else n_components)
    if not 1 <= n <= MOST_COMPONENTS or len(x) < n * n:
        msg = (
            f"{n} components of {len(x)} rows of rank {rank}; 1 to {MOST_COMPONENTS} are possible, "
            "from as many rows as their square"
        )
        raise ValueError(msg)
    sd, vectors = np.sqrt(values[-n:]), vectors[:, -n:]
    white = (x @ vectors) / sd
    turn = _turned(white, rng)
    mixing = (vectors * sd) @ turn.T
    order = np.argsort(-(mixing**2).sum(axis=0), kind="stable")
    largest = np.argmax(np.abs(mixing), axis=0)
    sign = np.sign(mixing[largest, np.arange(n)])
    unmixing = (turn @ (vectors / sd).T) * sign[:, None]
    return Components(unmixing[order], (mixing * sign)[:, order])


def _turned(white: Floats, rng: np.random.Generator) -> Floats:
    """The rotation of white rows (n, k) to independent sources: (k, k)."""
    turn = _orthogonal(rng.standard_normal((white.shape[1], white.shape[1])))
    for _ in range(_MOST_ROUNDS):
        bent = np.tanh(white @ turn.T)
        slope = 1 - (bent**2).mean(axis=0)
        new = _orthogonal(bent.T @ white / len(white) - slope[:, None] * turn)
        is_done = np.abs(np.abs((new * turn).sum(axis=1)) - 1).max() < _TURNED
        turn = new
        if is_done:
            return turn
    msg = f"no convergence in {_MOST_ROUNDS} rounds: take longer calibration rows, or fewer components"
    raise ValueError(msg)


def _orthogonal(matrix: Floats) -> Floats:
    """(M Mᵀ)^-½ M, by the singular vectors."""
    left, _, right = np.linalg.svd(matrix)
    found: Floats = left @ right
    return found
