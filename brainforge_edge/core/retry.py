"""Backoff between tries. Pure: the caller sleeps."""

from collections.abc import Iterator


def backoff(first_s: float = 0.5, most_s: float = 30.0, factor: float = 2.0) -> Iterator[float]:
    """0.5, 1, 2, … 30, 30, …"""
    delay = first_s
    while True:
        yield delay
        delay = min(most_s, delay * factor)
