"""The state of a device's link, since when and why.

Runs in: acquire process. Written by the pull thread; read by main for the heartbeat.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple

from brainforge_edge.core.clock import Clock
from brainforge_edge.core.events import EventType


class LinkState(StrEnum):
    SEARCHING = "searching"  # not found since the process began
    CONNECTING = "connecting"  # being opened, or open and without samples yet
    STREAMING = "streaming"
    DEGRADED = "degraded"  # connected, but no samples for 0.4 s
    LOST = "lost"  # was there; it is tried again and again
    STOPPED = "stopped"


class Standing(NamedTuple):
    """Replaced as a whole, so that another thread reads what belongs together."""

    state: LinkState
    since_ns: int
    reason: str  # an error's code, or one of docs/devices.md


class Link:
    """`tell` is called at each change of state, in the thread that made it."""

    def __init__(
        self, clock: Clock, tell: Callable[[EventType, str, dict[str, Any]], None]
    ) -> None:
        self._clock = clock
        self._tell = tell
        self.standing = Standing(LinkState.SEARCHING, clock.monotonic_ns(), "starting")

    @property
    def state(self) -> LinkState:
        return self.standing.state

    def turn(self, state: LinkState, reason: str) -> None:
        """Another reason for the same state is shown, but is no change of state."""
        before = self.standing
        if before.state is state and before.reason == reason:
            return
        if before.state is state:
            self.standing = before._replace(reason=reason)
            return
        now = self._clock.monotonic_ns()
        self.standing = Standing(state, now, reason)
        data = {
            "state": str(state),
            "was": str(before.state),
            "reason": reason,
            "lasted_ms": str((now - before.since_ns) // 1_000_000),
        }
        self._tell(EventType.LINK_CHANGED, "", data)

    def figures(self, now_ns: int) -> dict[str, Any]:
        """For the heartbeat."""
        state, since_ns, reason = self.standing
        since_ms = max(0, (now_ns - since_ns) // 1_000_000)
        return {"link": str(state), "since_ms": since_ms, "reason": reason}
