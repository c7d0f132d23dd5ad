from typing import Any

MOST_SAMPLES: int

def count_alike(rows: Any, tolerances: Any, m: int, out: Any) -> None:
    """Of each channel of float32 rows (n_samples, n_channels): pairs of stretches that are within its tolerance
    (float32) at each of m, and of m + 1 samples, to int64 `out` (n_channels, 2).

    Both among the first n − m stretches, none with itself. What is no number is near to nothing. Releases the GIL.
    """
