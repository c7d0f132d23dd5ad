from typing import Any, final

MOST_SECTIONS: int

@final
class SosFilter:
    """Cascade of biquads over rows (n_samples, n_channels), state carried from call to call.

    Direct form II transposed; float64 state and arithmetic, float32 out. One instance belongs to
    one thread at a time. With FMA the result differs from scipy.signal.sosfilt by rounding only.
    """

    def __init__(self, sos: Any, n_channels: int, scale: Any = None, level: int = 2) -> None:
        """`sos` float64 (n_sections, 6) as scipy orders it: b0 b1 b2 a0 a1 a2.

        With `scale` (float64, one factor per channel, unit per count) rows are int32 counts, else
        float32. `level` bounds the instructions: 0 portable, 1 AVX2, 2 AVX-512.
        ValueError: wrong shape, not finite, or an unstable section.
        """

    def apply(self, rows: Any, out: Any) -> None:
        """Filter rows, C order, to float32 `out` of the same shape (may be `rows` itself). Releases the GIL.

        A NaN or infinity is replaced by the channel's newest finite value, and counted.
        """

    def reset(self) -> None:
        """Start from rest: after a gap, or with a new incarnation."""

    def settle(self, row: Any) -> None:
        """Start as if the constant `row` (float64, in output units) had been there for ever: no step at the start."""

    @property
    def instructions(self) -> str:
        """Which code runs: avx512, avx2 or plain."""

    @property
    def n_replaced(self) -> int:
        """Input values that were not finite."""
