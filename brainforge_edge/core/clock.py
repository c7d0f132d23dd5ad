"""The box's clocks, behind an interface so that tests can step them."""

import time
from pathlib import Path
from typing import Protocol

import msgspec

# Before this moment no box of ours existed: an earlier UTC reading is a clock that was never set.
EPOCH_NS = 1_767_225_600_000_000_000  # 2026-01-01


class Clock(Protocol):
    """Monotonic orders, UTC only labels."""

    def monotonic_ns(self) -> int: ...
    def utc_ns(self) -> int | None:
        """UTC, or None while it is unknown."""
        ...

    def sleep(self, seconds: float) -> None: ...


def known_utc(reading_ns: int) -> int | None:
    """What a clock reads, unless it was never set."""
    return reading_ns if reading_ns >= EPOCH_NS else None


class SystemClock:
    """CLOCK_MONOTONIC and the system's UTC."""

    # The function itself: it is asked for each frame, and a method about it would cost more than it does.
    monotonic_ns = staticmethod(time.monotonic_ns)

    def utc_ns(self) -> int | None:
        return known_utc(time.time_ns())

    def sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds))


class Anchor(msgspec.Struct, frozen=True):
    """One instant on both clocks; labels rows of the same boot with UTC."""

    boot_id: str
    monotonic_ns: int
    utc_ns: int | None
    uncertainty_ns: int

    def utc_of(self, t_ns: int) -> int | None:
        return None if self.utc_ns is None else self.utc_ns + (t_ns - self.monotonic_ns)


def boot_id() -> str:
    """The kernel's random id of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def take_anchor(clock: Clock, boot: str, tries: int = 5) -> Anchor:
    """Read both clocks close together; the width of the tightest pair is part of the uncertainty."""
    best: Anchor | None = None
    for _ in range(tries):
        before = clock.monotonic_ns()
        utc = clock.utc_ns()
        after = clock.monotonic_ns()
        anchor = Anchor(boot, (before + after) // 2, utc, (after - before) // 2 + 1)
        if best is None or anchor.uncertainty_ns < best.uncertainty_ns:
            best = anchor
    assert best is not None
    return best
