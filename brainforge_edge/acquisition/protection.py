"""Tells the device that a recording is open, so that the device itself refuses what would spoil it.

Runs in: acquire process; `advance` in the main thread, each telling in a short thread of its own: a
device that answers slowly, or never, delays no heartbeat.
"""

import threading
from collections.abc import Callable

from brainforge_edge.core import log
from brainforge_edge.core.clock import Clock
from brainforge_edge.core.errors import DeviceError
from brainforge_edge.core.threads import named

AGAIN_NS = 2_000_000_000  # after a device that did not take it

_log = log.get()


class Protection:
    """`tell(is_recorded)` may raise DeviceError. Told once for each connection and each change."""

    def __init__(self, device: str, tell: Callable[[bool], None], clock: Clock) -> None:
        self._device = device
        self._tell = tell
        self._clock = clock
        self._told: tuple[int, bool] | None = None
        self._failed: tuple[int, bool] | None = None
        self._again_ns = 0
        self._thread: threading.Thread | None = None

    def advance(self, connection: int | None, *, is_recorded: bool) -> None:
        """`connection` counts the links that were made; None while there is none."""
        if connection is None or (connection, is_recorded) == self._told:
            return
        wanted = (connection, is_recorded)
        is_at_work = self._thread is not None and self._thread.is_alive()
        is_early = wanted == self._failed and self._clock.monotonic_ns() < self._again_ns
        if not is_at_work and not is_early:
            self._thread = named("protect", lambda: self._run(wanted), daemon=True)
            self._thread.start()

    def _run(self, wanted: tuple[int, bool]) -> None:
        try:
            self._tell(wanted[1])
        except DeviceError as error:
            if wanted != self._failed:
                _log.warning("device not told of a recording", **error.as_dict())
            self._failed = wanted
            self._again_ns = self._clock.monotonic_ns() + AGAIN_NS
        else:
            self._told = wanted
