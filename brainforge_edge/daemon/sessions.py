"""Sessions as the supervisor sees them: what people ask, the safety monitor, what the agent wants of others.

Runs in: supervisor, its asyncio loop. The agent decides and keeps; nothing here ends a recording's rows
by itself.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

from brainforge_edge.core import ipc, log
from brainforge_edge.core.clock import Clock
from brainforge_edge.core.errors import (
    BrainforgeError,
    DeviceError,
    StorageError,
    from_dict,
)
from brainforge_edge.core.stream import StreamInfo
from brainforge_edge.daemon.arguments import mapping, text
from brainforge_edge.daemon.child import Child
from brainforge_edge.daemon.commands import Commands
from brainforge_edge.daemon.disk import DiskWatch, Pressure
from brainforge_edge.daemon.recordings import Recordings
from brainforge_edge.daemon.scope import Scope
from brainforge_edge.daemon.watch import seen
from brainforge_edge.sessions.plain import recording_lost, refuse_beside, session_goes_on

ASK_S = 20.0
AGENT_S = 10.0  # while it is being started again it is waited for
SAVE_S = 60.0  # a device whose process is being started again is asked for this long to close
AGAIN_S = 1.0
OVER = frozenset({"idle", "failed"})

_log = log.get()


class Tell(Protocol):
    """Says something to one of the other workers."""

    def __call__(self, message: ipc.Message, only: str = "") -> Awaitable[None]: ...


class Sessions:
    """The verb `session`, and the monitor."""

    def __init__(
        self,
        *,
        agent: Child,
        acquirers: Callable[[], Iterable[Child]],
        streams: Callable[[], Iterable[StreamInfo]],
        recordings: Recordings,
        commands: Commands,
        disk: DiskWatch,
        clock: Clock,
        tell: Tell,
    ) -> None:
        self._agent = agent
        self._acquirers = acquirers
        self._streams = streams
        self._recordings = recordings
        self._commands = commands
        self._disk = disk
        self._clock = clock
        self._tell = tell
        self._feedback = ipc.FeedbackFrom(t_ns=None)
        self._recorded = ""  # a session's recording that is open and was not asked to end
        self._is_looking = False
        self._went_on = False
        self._over_ns = 0  # box clock: rows before it are of who was there before

    @property
    def now(self) -> dict[str, Any]:
        """What the agent said of it last; {} while it is not there."""
        said: dict[str, Any] = self._agent.stats.get("session") or {}
        return said

    @property
    def goes_on(self) -> bool:
        """Whether a session has begun and is not saved."""
        return self._recordings.scope is not None or self.now.get("state", "idle") not in OVER

    def refuse_plain(self, what: str) -> None:
        """SessionError while a session goes on: its recording is not a person's to open or close."""
        if self.goes_on:
            raise session_goes_on(what)

    def adopted_s(self, preroll_s: float) -> float:
        """How much of a pre-roll a person's recording may have: nothing of a session, nor of before a hand-over."""
        self._mind_end()
        return max(0.0, min(preroll_s, (self._clock.monotonic_ns() - self._over_ns) / 1e9))

    def _mind_end(self) -> None:
        if self._went_on and not self.goes_on:
            self._over_ns = self._clock.monotonic_ns()
        self._went_on = self.goes_on

    async def verb(self, request: dict[str, Any]) -> dict[str, Any]:
        """`do`, and what belongs to it: docs/sessions.md. The session as it is then."""
        do = text(request, "do", is_needed=True)
        given = {key: value for key, value in request.items() if key not in {"verb", "do"}}
        given = mapping({"request": given}, "request")
        if do == "start" and self._recordings.scope is None:
            refuse_beside(self._recordings.current)
        if do == "emergency_stop":
            await self._show(ipc.FeedbackFrom(t_ns=None))  # also where the agent is not there
        loop = asyncio.get_running_loop()
        until = loop.time() + AGENT_S
        while not self._agent.ready and loop.time() < until:  # noqa: ASYNC110  another process
            await asyncio.sleep(0.1)
        asked = {"do": do, "given": given}
        try:
            answer = await self._commands.ask(self._agent, "the agent", "session", asked, ASK_S)
        except DeviceError as silent:
            raise StorageError(
                "agent_down", "whether it was done is not known",
                why="the agent that keeps sessions does not answer",
                remedy="Look at the session's status in a few seconds, and ask again if need be",
                transient=True,
            ) from silent  # fmt: skip
        if answer.error is not None:
            raise from_dict(answer.error)
        if do in {"start", "stop", "withdraw", "emergency_stop"}:
            self._went_on = True  # what the agent says in its heartbeat comes later
        elif do == "hand_over":
            self._over_ns = self._clock.monotonic_ns()
        return answer.values

    async def look(self) -> None:
        """The safety monitor, once a second: renew the agent's lease while all is seen."""
        if self._is_looking:
            return  # the agent does not take it: nothing is renewed
        self._is_looking = True
        try:
            self._mind_end()
            pressure = self._pressure()
            streams = list(self._streams())
            watch = seen(
                now_ns=self._clock.monotonic_ns(),
                acquirers=self._acquirers(),
                streams=streams,
                worn=self.now.get("devices") or (),
                disk=self._disk.figures(streams),
                disk_refuses=None if pressure is None else pressure >= Pressure.NO_RECORDING,
            )
            await self._agent.send(watch)
            await self._mind_loss()
        finally:
            self._is_looking = False

    def _pressure(self) -> Pressure | None:
        try:
            return self._disk.pressure
        except OSError as error:
            _log.error("disk not seen", error=str(error))
            return None

    async def _mind_loss(self) -> None:
        """A full disk closes the recording under the session: it is told."""
        current = self._recordings.current
        if current and self._recordings.scope is not None:
            self._recorded = current
        elif self._recorded and self._recorded != current:
            lost, self._recorded = self._recorded, ""
            await self._did(lost, "lost", {}, recording_lost())

    async def heard(self, message: ipc.RecorderAsk | ipc.FeedbackFrom) -> None:
        """What the agent wants of others."""
        match message:
            case ipc.RecorderAsk():
                await self._record(message)
            case ipc.FeedbackFrom():
                await self._show(message)

    async def greet(self, child: Child) -> None:
        """A pipeline that was started again shows nothing of before; an uplink holds no events."""
        if child.name == "pipeline":
            await child.send(self._feedback)
        elif child.name == "uplink":
            await self._agent.send(ipc.Delivered(numbers=(), begins=True))

    async def _show(self, message: ipc.FeedbackFrom) -> None:
        self._feedback = message
        await self._tell(message, only="pipeline")

    async def _record(self, message: ipc.RecorderAsk) -> None:
        devices: dict[str, str] = {}
        error: BrainforgeError | None = None
        try:
            match message.wants:
                case "open":
                    scope = Scope(message.devices, message.since_ns)
                    devices = await self._recordings.open_for_session(message.recording, scope)
                    self._recorded = self._recordings.current
                case "let_go":
                    let_go = await self._recordings.let_go(message.recording, message.devices)
                    _log.info("devices let go", recording=message.recording, **let_go)
                    return
                case _:
                    self._recorded = ""
                    devices = await self._ended(message.recording)
        except BrainforgeError as refused:
            error = refused
        await self._did(message.recording, message.wants, devices, error)

    async def _ended(self, recording: str) -> dict[str, str]:
        """What each device says once all of them closed; StorageError if one does not come to it."""
        loop = asyncio.get_running_loop()
        until = loop.time() + SAVE_S
        while True:
            said = await self._recordings.end(recording)
            open_still = {name: words for name, words in said.items() if words != "closed"}
            if not open_still:
                return said
            if loop.time() >= until:
                break
            await asyncio.sleep(AGAIN_S)
        told = "; ".join(f"{name}: {words}" for name, words in sorted(open_still.items()))
        raise StorageError(
            "not_saved", "the session is not saved as a whole",
            why=told[:500], remedy="Look at the devices in the box's status, then save it again",
            transient=True,
        )  # fmt: skip

    async def _did(
        self,
        recording: str,
        wanted: str,
        devices: dict[str, str],
        error: BrainforgeError | None,
    ) -> None:
        await self._agent.send(
            ipc.RecorderDid(
                recording=recording,
                wanted=wanted,
                devices=devices,
                error=None if error is None else error.as_dict(),
            )
        )
