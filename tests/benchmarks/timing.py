"""Times of two ways to do the same work, taken in turns so that both see the same machine."""

import statistics
import time
from collections.abc import Callable


def alternate(
    *work: Callable[[], object], rounds: int = 41, at_least_s: float = 0.003
) -> list[float]:
    """Seconds per call of each, median over `rounds`; each round repeats a call for `at_least_s`."""
    repeats = []
    for call in work:
        call()
        started = time.perf_counter()
        call()
        repeats.append(max(1, round(at_least_s / max(1e-9, time.perf_counter() - started))))
    taken: list[list[float]] = [[] for _ in work]
    for _ in range(rounds):
        for call, n, times in zip(work, repeats, taken, strict=True):
            started = time.perf_counter()
            for _ in range(n):
                call()
            times.append((time.perf_counter() - started) / n)
    return [statistics.median(times) for times in taken]
