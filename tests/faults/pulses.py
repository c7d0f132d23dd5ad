"""Where the common pulse lies in a recorded stream, against the box clock that made it.

What was added to the last channel is known exactly, since what is beneath it is a function of the
sample index; the first and the last sample of a pulse hold the part of their period that lies in
it, so both edges are known to a millionth of a sample at any rate.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.emulators.source import PulseTrain

WHOLE = 0.999  # of the amplitude, inside a pulse
NOTHING = 1e-4


class Alignment(NamedTuple):
    """Of the pulses of one stream, ms: recorded time less the box's own."""

    n: int
    median_ms: float
    p99_ms: float  # of the absolute error

    @classmethod
    def of(cls, errors_ns: list[float]) -> "Alignment":
        errors = np.array(errors_ns) / 1e6
        if not len(errors):
            return cls(0, float("nan"), float("nan"))
        return cls(len(errors), float(np.median(errors)), float(np.quantile(np.abs(errors), 0.99)))


def errors_ns(
    part: NDArray[Any], t_ns: NDArray[Any], train: PulseTrain, sample_ns: float
) -> list[float]:
    """For each whole pulse in `part` (0 to 1, consecutive samples), how late its recorded time is."""
    period, width = train.period_s * 1e9, train.width_s * 1e9
    is_in = part > NOTHING
    ups = np.flatnonzero(is_in[1:] & ~is_in[:-1]) + 1
    found = []
    for up in ups:
        outside = np.flatnonzero(~is_in[up:])
        if not len(outside):
            break
        down = up + int(outside[0]) - 1  # the last sample of the pulse
        inside = part[up + 1 : down]
        is_whole = abs(len(inside) + 2 - width / sample_ns) < 2.5
        if not is_whole or inside.min() < WHOLE or inside.max() > 1.001:
            continue  # on a rail
        begin = t_ns[up] + sample_ns * (0.5 - part[up])
        end = t_ns[down] + sample_ns * (part[down] - 0.5)
        centre = (begin + end - width) / 2
        found.append(float((centre + period / 2) % period - period / 2))
    return found
