"""Asks for `status` twice a second, and keeps the newest answer for all who look.

Runs in: web process, its asyncio loop. Many viewers cost the daemon no more than one.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from brainforge_edge.core.clock import Clock
from brainforge_edge.core.errors import BrainforgeError
from brainforge_edge.web.daemon import Daemon
from brainforge_edge.web.growth import FRESH_S, Growth, Recorded, Verdict

PERIOD_S: Final = 0.4  # an answer is at most half a second old
ASK_S: Final = 5.0


class Seen(NamedTuple):
    """`age_s`: since the daemon gave `status`; `error` stands while it does not answer."""

    status: dict[str, Any]
    recorded: Recorded
    age_s: float
    error: BrainforgeError | None


class Watch:
    """Run `run` as a task; `told` is called after each answer, or each failure to get one."""

    def __init__(self, daemon: Daemon, clock: Clock, told: Callable[[], None]) -> None:
        self._daemon = daemon
        self._clock = clock
        self._told = told
        self._growth = Growth()
        self._status: dict[str, Any] = {}
        self._recorded = Recorded(Verdict.UNKNOWN, {})
        self._answered_s: float | None = None
        self._error: BrainforgeError | None = None
        self.first = asyncio.Event()

    async def run(self) -> None:
        while True:
            await self._ask()
            self.first.set()
            self._told()
            await asyncio.sleep(PERIOD_S)

    async def _ask(self) -> None:
        try:
            asked_s = self._now_s()
            self._status = await self._daemon.ask("status", timeout_s=ASK_S)
        except BrainforgeError as error:
            self._error = error
            return
        self._error = None
        # Its figures are from between question and answer: the earlier time is the honest one.
        self._answered_s = asked_s
        self._recorded = self._growth.judge(self._status, asked_s)

    @property
    def seen(self) -> Seen:
        """What is known now; what is too old to be believed says `unknown`."""
        if self._answered_s is None:
            return Seen({}, self._recorded, 0.0, self._error)
        age_s = self._now_s() - self._answered_s
        recorded = self._recorded
        if age_s > FRESH_S:
            recorded = Recorded(Verdict.UNKNOWN, {})
        return Seen(self._status, recorded, age_s, self._error)

    def _now_s(self) -> float:
        return self._clock.monotonic_ns() / 1e9
