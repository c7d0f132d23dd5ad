"""Eyes out of a stream, by coefficients fitted once on calibration and applied live.

Pure. Runs in: pipeline worker, `fit` once a session.
"""

from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rows = NDArray[np.floating]

FEWEST_ROWS: Final = 100  # for each of the references
MOST_REFERENCES: Final = 8
_LARGEST: Final = 1e30


class Regression(msgspec.Struct, frozen=True, eq=False):
    """What each channel takes up of the references, which are channels of the same rows.

    coefficients (n_references, n_channels): 0 where the channel is a reference itself, which stays.
    """

    references: tuple[int, ...]
    coefficients: Floats

    def apply(self, rows: Rows) -> NDArray[Any]:
        """Rows (n, n_channels) less the references' part, in their type; what is given stays.

        Each row for itself, in one order of sums: chunks change no bit. A reference that is no number
        takes nothing out of that row; its trouble tells that.
        ValueError: another shape.
        """
        if rows.ndim != 2 or rows.shape[1] != self.coefficients.shape[1]:
            msg = f"rows of shape {rows.shape}, not (n, {self.coefficients.shape[1]})"
            raise ValueError(msg)
        found = rows.astype(np.float64)
        for reference, row in zip(self.references, self.coefficients, strict=True):
            eye = rows[:, reference].astype(np.float64)
            found -= np.where(np.abs(eye) < _LARGEST, eye, 0.0)[:, None] * row
        return found.astype(rows.dtype)


def fit(
    rows: Rows, references: tuple[int, ...], *, is_good: NDArray[np.bool_] | None = None
) -> Regression:
    """Least squares of each channel on the references over calibration rows (n, n_channels), means out.

    B = (E'E)⁻¹ E'Y, all references at once (Schlögl et al., Clin. Neurophysiol. 118, 2007), from rows in
    which the eyes move much: small movements inflate the coefficients (Croft & Barry, Electroenceph.
    Clin. Neurophysiol. 107, 1998; review in Neurophysiol. Clin. 30, 2000). Rows have passed the live
    chain's filter. `is_good` (n,): rows to be used; those with a value that is no number are left out
    anyway. What the eyes' channels hold of the brain is removed with the eyes.
    ValueError: references that are not there or twice, too few rows, or references that are the same
    signal or none.
    """
    if rows.ndim != 2 or not 1 <= len(set(references)) == len(references) <= MOST_REFERENCES:
        msg = f"references {references} of rows of shape {rows.shape}; 1 to {MOST_REFERENCES} different ones"
        raise ValueError(msg)
    if min(references) < 0 or max(references) >= rows.shape[1]:
        msg = f"references {references} are not among {rows.shape[1]} channels"
        raise ValueError(msg)
    is_used = (np.abs(rows) < _LARGEST).all(axis=1)
    if is_good is not None:
        is_used &= is_good
    x = rows[is_used].astype(np.float64)
    if len(x) < FEWEST_ROWS * len(references):
        msg = f"{len(x)} rows to calibrate on; {FEWEST_ROWS} for each reference are needed"
        raise ValueError(msg)
    x -= x.mean(axis=0)
    eyes = x[:, list(references)]
    size = np.sqrt((eyes**2).mean(axis=0))
    if not (size > 0).all() or np.linalg.cond(eyes / size) > 1e4:
        msg = f"references {references} do not move, or are the same signal"
        raise ValueError(msg)
    coefficients = np.linalg.lstsq(eyes, x, rcond=None)[0].astype(np.float64)
    coefficients[:, list(references)] = 0
    return Regression(references, coefficients)
