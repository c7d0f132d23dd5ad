"""A device that is connected and says nothing: told to start again, then given up. No I/O, no clock.

Headsets are known to stop without a word and to go on after a halt and a start (muse-lsl issue 184):
that costs a second, a new connection several. Half of `silent_s` after the last packet of some kind
the commands of `restart` are due, one by one; after `silent_s` the link is lost. A device that falls
silent again within half a minute is not asked twice.
Runs in: acquire process, pull thread.
"""

from collections.abc import Iterable
from typing import NamedTuple

from brainforge_edge.core.errors import DeviceError

_AGAIN_NS = 30_000_000_000
_APART_NS = 50_000_000  # between two commands


class Step(NamedTuple):
    """A command that is due; from the first one on the device counts anew."""

    command: bytes
    is_first: bool


class Silence:
    """Follows the kinds of packets (characteristics) that must come."""

    def __init__(self, device: str, *, silent_s: float, restart: Iterable[bytes]) -> None:
        self.restarts = 0
        self._device = device
        self._silent_s = silent_s
        self._restart = tuple(restart)
        self._last_ns: dict[str, int] = {}
        self._script: list[bytes] = []
        self._due_ns = 0
        self._restarted_ns: int | None = None

    def expect(self, kinds: Iterable[str], now_ns: int) -> None:
        """From now on each of `kinds` must come."""
        self._last_ns = dict.fromkeys(kinds, now_ns)

    def heard(self, kind: str, arrived_ns: int) -> None:
        if kind in self._last_ns:
            self._last_ns[kind] = arrived_ns

    def look(self, now_ns: int) -> Step | None:
        """The next command that is due, if any; DeviceError `silent` when nothing helped."""
        kind, last_ns = min(self._last_ns.items(), key=lambda item: item[1])
        silent_s = (now_ns - last_ns) / 1e9
        if silent_s > self._silent_s:
            raise self._silent(kind)
        if silent_s > self._silent_s / 2 and not self._was_asked(now_ns):
            self._script = list(self._restart)
            self._restarted_ns = now_ns
            self.restarts += 1
        if not self._script or now_ns < self._due_ns:
            return None
        self._due_ns = now_ns + _APART_NS
        is_first = len(self._script) == len(self._restart)
        return Step(self._script.pop(0), is_first)

    def _was_asked(self, now_ns: int) -> bool:
        return self._restarted_ns is not None and now_ns - self._restarted_ns < _AGAIN_NS

    def _silent(self, kind: str) -> DeviceError:
        return DeviceError(
            "silent",
            f"{self._device} has stopped sending",
            why=f"no packet of characteristic {kind[4:8]} came for {self._silent_s:g} s",
            remedy="The connection is made anew by itself; if this repeats, charge the device"
            " and switch it off and on",
            transient=True,
        )
