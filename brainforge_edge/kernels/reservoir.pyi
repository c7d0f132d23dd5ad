from typing import Any, final

MOST_UNITS: int
MOST_INPUTS: int
LARGEST_WEIGHT: float

@final
class EchoState:
    """x ← (1 − a) x + a tanh(W x + V u + b) for each row u; float32, state carried from call to call.

    One instance belongs to one thread at a time. Chunks of any size, and CPUs, give equal bits.
    """

    def __init__(self, inputs: Any, bias: Any, weights: Any, links: Any, leak: float) -> None:
        """float32 V (n_inputs, n_units) and b (1, n_units); of W each unit's links alone: float32 `weights`
        and int32 `links` (n_links, n_units), unit j being driven by `weights[k, j]` × unit `links[k, j]`.

        ValueError: other shapes, a weight that is not finite or above `LARGEST_WEIGHT`, a leak a outside of ]0, 1].
        """

    def states(self, rows: Any, out: Any) -> None:
        """The state after each row, to float32 `out` (n_samples, n_units). Releases the GIL.

        A value that is no number, or beyond ±1e6, counts as its input's newest one before it, and is counted.
        """

    def apply(self, rows: Any, readout: Any, out: Any) -> None:
        """[1, u, x] × `readout`, float32 (1 + n_inputs + n_units, n_outputs), to `out` (n_samples, n_outputs);
        sums in float64. Releases the GIL."""

    def reset(self) -> None:
        """Start from rest: after a gap, or with a new incarnation."""

    @property
    def n_held(self) -> int:
        """Input values that could not be used."""
