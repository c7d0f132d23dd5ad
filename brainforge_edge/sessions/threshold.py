"""What is asked of a participant follows what he reaches. Pure. Runs in: agent process; pipeline."""

import math
from collections.abc import Sequence

from brainforge_edge.sessions.protocol import Threshold

LEAST_VALUES = 10  # fewer in a window say nothing


def adapted(threshold: float, rule: Threshold, values: Sequence[float]) -> float:
    """The next threshold, from the feature's values in the last `rule.window_s`; it has their unit.

    It goes towards the percentile by at most `rule.step`, and stays within `least` and `most`. Values
    that are no numbers are left out; with fewer than `LEAST_VALUES` it stays where it is.
    """
    usable = sorted(value for value in values if math.isfinite(value))
    aim = percentile(usable, rule.percentile) if len(usable) >= LEAST_VALUES else threshold
    change = min(max(aim - threshold, -rule.step), rule.step)
    return min(max(threshold + change, rule.least), rule.most)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Linear between the two values around it; `ordered` rises and is not empty."""
    place = (len(ordered) - 1) * percent / 100.0
    below = min(math.floor(place), len(ordered) - 2) if len(ordered) > 1 else 0
    above = min(below + 1, len(ordered) - 1)
    share = place - below
    return ordered[below] * (1.0 - share) + ordered[above] * share
