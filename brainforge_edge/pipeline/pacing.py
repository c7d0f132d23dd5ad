"""What is left out when there is no time for all: in one order, and back again.

The newest figures are worth more than all figures: connectivity goes first, then octaves, then what
is computed once a second, then every other message. What is recorded is none of this process's
business, and nothing here can slow it down. Pure but for the threads' look at `level`.
Runs in: pipeline worker, main thread, with each heartbeat.
"""

from enum import IntEnum
from math import exp
from typing import Final

import msgspec

MOST_BUSY: Final = 0.6  # of a thread's time: then something is left out
CALM_BUSY: Final = 0.3  # … and nothing is put back above this
MOST_BEHIND_S: Final = 0.3
CALM_BEHIND_S: Final = 0.15
MEMORY_S: Final = 1.0  # of `busy`: one moment of a busy machine is no load
SHED_S: Final = 0.5  # from one step down to the next
CALM_S: Final = 5.0  # of calm before one step back
MOST_CALM_S: Final = 60.0


class Level(IntEnum):
    """Each leaves out what those before it do, too."""

    ALL = 0
    NO_COUPLING = 1
    NO_OCTAVES = 2
    NO_SLOW = 3
    HALF_RATE = 4
    LOW_RATE = 5


_SHED: Final = (
    (Level.NO_COUPLING, "coupling"),
    (Level.NO_OCTAVES, "octaves"),
    (Level.NO_SLOW, "slow"),
)
_WANTED_HZ: Final = {Level.HALF_RATE: 5.0, Level.LOW_RATE: 2.0}


def shed(level: Level) -> list[str]:
    """Words for what is left out, rates aside."""
    return [word for least, word in _SHED if level >= least]


def every(level: Level, update_hz: int) -> int:
    """Of how many hops one has a message: 10, 5 or 2 a second where there are 10 hops."""
    return max(1, round(update_hz / _WANTED_HZ[level])) if level in _WANTED_HZ else 1


class Load(msgspec.Struct, frozen=True):
    """Of one stream's thread."""

    worked_ns: int  # on the wall clock, since its start
    behind_s: float  # rows that wait for it


class Pacing:
    """One for all streams of the process: they share its processor and its interpreter."""

    def __init__(self) -> None:
        self.level = Level.ALL
        self.changes = 0
        self.busy = 0.0  # part of its time that the busiest thread worked, lately
        self.behind_s = 0.0
        self._worked: dict[str, int] = {}
        self._looked_ns: int | None = None
        self._changed_ns = 0
        self._calm_ns: int | None = None  # since when there is calm
        self._calm_s = CALM_S
        self._was_back = False  # the last change put something back

    def look(self, loads: dict[str, Load], now_ns: int) -> bool:
        """Judge what happened since the last look; whether `level` changed."""
        since, self._looked_ns = self._looked_ns, now_ns
        worked, self._worked = self._worked, {k: load.worked_ns for k, load in loads.items()}
        if since is None or now_ns <= since:
            return False
        part = [
            (load.worked_ns - worked[key]) / (now_ns - since)
            for key, load in loads.items()
            if key in worked
        ]
        kept = exp(-(now_ns - since) / (MEMORY_S * 1e9))
        self.busy = kept * self.busy + (1 - kept) * max(part, default=0.0)
        self.behind_s = max((load.behind_s for load in loads.values()), default=0.0)
        if self.busy > MOST_BUSY or self.behind_s > MOST_BEHIND_S:
            self._calm_ns = None
            return self._shed(now_ns)
        if self.busy < CALM_BUSY and self.behind_s < CALM_BEHIND_S:
            return self._put_back(now_ns)
        self._calm_ns = None
        return False

    def _shed(self, now_ns: int) -> bool:
        if self.level is Level.LOW_RATE or now_ns - self._changed_ns < SHED_S * 1e9:
            return False
        # What was put back in vain is tried less and less often.
        in_vain = self._was_back and now_ns - self._changed_ns < 2 * CALM_S * 1e9
        self._calm_s = min(MOST_CALM_S, 2 * self._calm_s) if in_vain else CALM_S
        return self._change(Level(self.level + 1), now_ns, is_back=False)

    def _put_back(self, now_ns: int) -> bool:
        if self._calm_ns is None:
            self._calm_ns = now_ns
        if self.level is Level.ALL or now_ns - self._calm_ns < self._calm_s * 1e9:
            return False
        self._calm_ns = now_ns
        return self._change(Level(self.level - 1), now_ns, is_back=True)

    def _change(self, level: Level, now_ns: int, *, is_back: bool) -> bool:
        self.level = level
        self.changes += 1
        self._changed_ns = now_ns
        self._was_back = is_back
        return True
