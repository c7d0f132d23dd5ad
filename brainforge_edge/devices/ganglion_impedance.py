"""The impedance test of a Ganglion: the board itself measures, and sends ohms instead of samples.

Runs in: acquire process. `run` in a command's own thread; `told` and `take` in the pull thread.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from brainforge_edge.core.block import Marker
from brainforge_edge.core.clock import Clock
from brainforge_edge.core.errors import DeviceError
from brainforge_edge.devices import impedance
from brainforge_edge.devices.base import DeviceCommand, protected
from brainforge_edge.devices.bfp_commands import flag, seconds

SPAN = "BAD_impedance"
DEFAULT_S = 5.0
LEAST_S = 1.0
MOST_S = 30.0
_LATE_S = 5.0
_CHANNELS = ("1", "2", "3", "4", "ref")


class Impedances:
    """`names` of the four channels; the reference is `ref`."""

    def __init__(self, names: Sequence[str], *, device: str, clock: Clock) -> None:
        self._names = dict(zip(_CHANNELS, (*names, "ref"), strict=True))
        self._device = device
        self._clock = clock
        self._changed = threading.Condition()
        self._is_asked = False
        self._is_stale = False
        self._ohm: dict[str, int] = {}
        self._spans: deque[Marker] = deque()

    def told(self, ohm: dict[str, int]) -> None:
        """What the board has said so far; emptied where that was before the test."""
        if not self._is_asked:
            return
        with self._changed:
            if self._is_stale:
                ohm.clear()
                self._is_stale = False
            self._ohm = dict(ohm)
            self._changed.notify_all()

    def take(self) -> list[Marker]:
        """Stretches that are no measurement since the last call."""
        return [self._spans.popleft() for _ in range(len(self._spans))]

    def run(self, command: DeviceCommand, switch: Callable[[bool], None]) -> dict[str, Any]:
        """Measure for `seconds`; kΩ and words. `switch` tells the board. DeviceError."""
        wanted_s = seconds(command.arguments, "seconds", DEFAULT_S, MOST_S, least=LEAST_S)
        if command.recording and not flag(command.arguments, "force"):
            raise protected(self._device, command)
        began_ns = self._clock.monotonic_ns()
        with self._changed:
            self._ohm, self._is_asked, self._is_stale = {}, True, True
        try:
            switch(True)
            found = self._wait(began_ns, wanted_s)
        finally:
            self._is_asked = False
            try:
                switch(False)
            finally:
                duration_s = (self._clock.monotonic_ns() - began_ns) / 1e9
                self._spans.append(Marker(began_ns, duration_s, SPAN))
        if len(found) < len(_CHANNELS):
            raise DeviceError(
                "measurement_failed",
                f"{self._device} did not measure impedances",
                why=f"the board told {len(found)} of {len(_CHANNELS)} values",
                remedy="Try again with more seconds",
                transient=True,
            )
        ohms = {self._names[channel]: found[channel] for channel in _CHANNELS}
        return {
            "impedance_kohm": {name: round(ohm / 1000, 1) for name, ohm in ohms.items()},
            "contact": {name: impedance.word(ohm) for name, ohm in ohms.items()},
        }

    def _wait(self, began_ns: int, wanted_s: float) -> dict[str, int]:
        """For `wanted_s`, since values settle, and then until each was told."""
        with self._changed:
            for is_enough, until_s in (
                (lambda: False, wanted_s),
                (lambda: len(self._ohm) == len(_CHANNELS), wanted_s + _LATE_S),
            ):
                left_s = until_s - (self._clock.monotonic_ns() - began_ns) / 1e9
                self._changed.wait_for(is_enough, max(0.0, left_s))
            return dict(self._ohm)
