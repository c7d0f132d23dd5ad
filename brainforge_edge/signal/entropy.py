"""Sample entropy of a window: how rarely what was alike stays alike.

Pure. Runs in: pipeline worker, once a second or less.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.kernels.entropy import MOST_SAMPLES, count_alike

Floats = NDArray[np.float64]

FEWEST_SAMPLES: Final = 100  # 10ᵐ of m = 2: fewer give what chance gives
M: Final = 2
R: Final = 0.2  # tolerance, in sd of the window


def sample_entropy(rows: NDArray[np.floating], *, m: int = M, r: float = R) -> Floats:
    """-ln(A / B) of each channel of a window (n, n_channels): (n_channels,).

    B pairs of stretches of m samples, A of m + 1, none of whose samples differ by more than r sd, among
    the first n - m, a stretch never with itself (Richman & Moorman, Am. J. Physiol. 278, 2000). The sd is
    the window's own, divided by n. NaN: a constant, a value that is no number, or no pair (A = 0 says
    only that the window was too short). Work grows with n²: the rows are those of a `Resampler`, at 100
    to 128 Hz for windows up to 4 s; at another rate, or length, the figure is another one.
    ValueError: fewer than 100 or more than 2048 rows, m that is not 1 to 8, r that is not above 0.
    """
    if rows.ndim != 2 or not FEWEST_SAMPLES <= len(rows) <= MOST_SAMPLES:
        msg = f"rows of shape {rows.shape}, not ({FEWEST_SAMPLES} to {MOST_SAMPLES}, n_channels)"
        raise ValueError(msg)
    if not 1 <= m <= 8 or not 0 < r < np.inf:
        msg = f"m {m} and r {r}; m 1 to 8 and r above 0 are possible"
        raise ValueError(msg)
    with np.errstate(all="ignore"):  # what is no number, or overflows, is NaN in the end
        x = rows.astype(np.float64)
        x -= x.mean(axis=0)
        sd = x.std(axis=0)
        x /= sd  # of one size: float32 holds V and T as well as it holds counts
    is_known = np.isfinite(x).all(axis=0) & (rows != rows[0]).any(axis=0)
    counts = np.zeros((rows.shape[1], 2), np.int64)
    count_alike(x.astype(np.float32), np.full(rows.shape[1], r, np.float32), m, counts)
    is_known &= (counts > 0).all(axis=1)
    result = np.full(rows.shape[1], np.nan)
    result[is_known] = np.log(counts[is_known, 0] / counts[is_known, 1])
    return result
