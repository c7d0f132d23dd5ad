"""Whether eyes blinked or moved, seen on the channels beside them.

Muscles are told by `quality.Quality.MUSCLE`, whose limits stand beside the others there.
Pure. Runs in: pipeline worker, on the newest second or more, after each hop or less often.
"""

from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MOST_LOOK_S: Final = 10.0


class EyeLimits(msgspec.Struct, frozen=True):
    """Thresholds, V; rows are filtered, from 1 Hz or below on.

    | field | meaning | origin |
    |---|---|---|
    | blink | how far a peak stands out of what is `wide_s` before and after it, either way | ours: a blink is some 100 µV beside the eye, EEG there some 10 |
    | movement | how far the signal stays above or below for `wide_s` after, of `wide_s` before | ours: half of a blink; gaze moves an electrode beside the eye by some 10 µV a degree |
    | wide_s | half of what a blink lasts | ours: blinks last 0.1 to 0.4 s |

    None were validated on recordings.
    """

    blink: float = 75e-6
    movement: float = 40e-6
    wide_s: float = 0.2


EYE_LIMITS: Final = EyeLimits()


class Seen(msgspec.Struct, frozen=True, eq=False):
    """Of each channel given, (n_channels,)."""

    is_blink: NDArray[np.bool_]
    is_movement: NDArray[np.bool_]
    is_judged: NDArray[np.bool_]  # False: it has values that are no numbers, and no flags


def seen(rows: NDArray[Any], sfreq: float, limits: EyeLimits = EYE_LIMITS) -> Seen:
    """Rows (n, n_channels) of channels beside the eyes.

    A blink goes and comes back; a movement of the gaze stays (until the high-pass forgets it). What is
    nearer to an end of the rows than `wide_s` (a movement: twice that) is not seen: looks overlap by
    as much. ValueError: rows shorter than five times `wide_s`, or longer than 10 s.
    """
    wide = max(1, round(limits.wide_s * sfreq))
    if rows.ndim != 2 or not 5 * wide <= len(rows) <= MOST_LOOK_S * sfreq:
        msg = (
            f"rows of shape {rows.shape}; {5 * limits.wide_s:g} to {MOST_LOOK_S:g} s are looked at"
        )
        raise ValueError(msg)
    is_judged = np.isfinite(rows).all(axis=0)
    x = np.where(is_judged, rows, 0.0).astype(np.float64)
    before, middle, after = x[: -2 * wide], x[wide:-wide], x[2 * wide :]
    up = middle - np.maximum(before, after)
    down = np.minimum(before, after) - middle
    windows = np.lib.stride_tricks.sliding_window_view(x, wide, axis=0)
    low, high = windows.min(axis=-1), windows.max(axis=-1)
    # Between the two lies what the movement itself lasts.
    rise = low[2 * wide :] - high[: -2 * wide]
    fall = low[: -2 * wide] - high[2 * wide :]
    return Seen(
        is_blink=np.maximum(up, down).max(axis=0) > limits.blink,
        is_movement=np.maximum(rise, fall).max(axis=0) > limits.movement,
        is_judged=is_judged,
    )
