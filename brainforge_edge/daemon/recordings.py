"""Opening, closing and cutting recordings across the workers.

Runs in: supervisor, its asyncio loop. The agent keeps the recording's card, every acquire worker
its samples; a worker that is down catches up when it is back.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec

from brainforge_edge.core import ipc, log
from brainforge_edge.core.clock import Clock
from brainforge_edge.core.errors import BrainforgeError, SessionError, StorageError, from_dict
from brainforge_edge.core.ids import checked_name
from brainforge_edge.daemon.child import Child
from brainforge_edge.daemon.scope import Scope, Waiting
from brainforge_edge.sessions.plain import refuse_beside

OPEN_S = 20.0
CLOSE_S = 120.0
WHOLE_RING_S = 60.0

Answer = TypeVar("Answer", ipc.RecordingState, ipc.MarkStored)

NOTHING = ipc.OpenRecording(recording="", preroll_s=0.0)

_log = log.get()


class Recordings:
    """At most one recording is open at a node."""

    def __init__(
        self,
        *,
        agent: Child,
        acquirers: Callable[[], Iterable[Child]],
        clock: Clock,
        random: Callable[[int], bytes],
        refuse_if_full: Callable[[], None],
    ) -> None:
        self._agent = agent
        self._refuse_if_full = refuse_if_full  # raises if no recording may begin
        self._acquirers = acquirers
        self._clock = clock
        self._random = random
        self._waiting: list[Waiting] = []
        self._marks: dict[int, asyncio.Future[ipc.MarkStored]] = {}
        self._token = 0
        self._lock = asyncio.Lock()
        # Worker that was down → the recording that ended meanwhile.
        self._missed: dict[str, ipc.OpenRecording] = {}
        self.current = ""
        self.opened_ns = 0
        self.scope: Scope | None = None  # of a session, while its recording is open

    @property
    def meant(self) -> Iterable[str] | None:
        """Devices that the open recording is for; None: all of the box."""
        return self.scope.worn if self.current and self.scope is not None else None

    def for_worker(self, name: str) -> ipc.OpenRecording:
        """The recording that a starting worker goes on with: the open one, or one it has to finish."""
        if self.current and self._is_meant(name):
            return self._opening(name, self.current, WHOLE_RING_S)
        return self._missed.get(name, NOTHING)

    def _is_meant(self, name: str) -> bool:
        """Whether the open recording is this worker's concern."""
        kind, _, device = name.partition(":")
        return self.scope is None or kind != "acquire" or device in self.scope.worn

    def _opening(self, name: str, recording: str, preroll_s: float) -> ipc.OpenRecording:
        """What a worker is told of it."""
        if self.scope is None:
            return ipc.OpenRecording(recording=recording, preroll_s=preroll_s)
        return ipc.OpenRecording(
            recording=recording,
            preroll_s=preroll_s,
            participant=self.scope.worn.get(name.partition(":")[2], ""),
            since_ns=self.scope.since_ns,
            devices=tuple(self.scope.worn),
        )

    async def greet(self, child: Child) -> None:
        """A worker is ready: what it was started with may have changed since."""
        if child is self._agent:
            return
        is_meant = self._is_meant(child.name)
        if child.resumes and (child.resumes != self.current or not is_meant):
            self._missed.pop(child.name, None)
            await child.send(ipc.CloseRecording(recording=child.resumes))
        if self.current and is_meant:
            # The recording may have been opened between the worker's Start and its Ready.
            await child.send(self._opening(child.name, self.current, WHOLE_RING_S))

    async def _reported(self, recording: str) -> None:
        """The agent started again and found this recording's card open: it missed the end."""
        if recording and recording != self.current:
            await self._agent.send(ipc.CloseRecording(recording=recording))

    async def heard(self, child: Child, message: ipc.AnyMessage) -> None:
        """A worker's answer, or what the agent reports without having been asked."""
        if isinstance(message, ipc.RecordingState):
            answered = [each for each in self._waiting if each.is_answered(child, message)]
            for waiting in answered:
                waiting.future.set_result(message)
            if not answered and child is self._agent and message.is_open:
                await self._reported(message.recording)
        elif isinstance(message, ipc.MarkStored):
            mark = self._marks.pop(message.token, None)
            if mark is not None and not mark.done():
                mark.set_result(message)

    async def open(self, name: str, preroll_s: float) -> dict[str, Any]:
        """Start a recording; which devices write at once and which are waited for."""
        async with self._lock:
            if self.current:
                raise SessionError(
                    "recording_open",
                    "no recording was started",
                    why=f"{self.current} is open",
                    remedy="Stop it first",
                    recording=self.current,
                )
            self._refuse_if_full()
            recording = checked_name(name, "the recording's name") if name else self._new_name()
            return await self._open(recording, preroll_s)

    async def open_for_session(self, recording: str, scope: Scope) -> dict[str, str]:
        """Start a session's recording, or go on with it; what its devices say."""
        async with self._lock:
            if self.current == recording:
                return {}
            refuse_beside(self.current)
            self._refuse_if_full()
            self.scope = scope
            try:
                return dict((await self._open(recording, 0.0))["devices"])
            finally:
                if not self.current:
                    self.scope = None

    async def let_go(self, recording: str, devices: Iterable[str]) -> dict[str, str]:
        """These devices stop at once and bring what they have to the disk; the others go on."""
        gone = set(devices)
        children = [c for c in self._acquirers() if c.name.partition(":")[2] in gone]
        was = {child.name: self._ended_now(child.name, recording) for child in children}
        if self.scope is not None and recording == self.current:
            left = {name: who for name, who in self.scope.worn.items() if name not in gone}
            self.scope = Scope(left, self.scope.since_ns)
        said = await self._ask_all(ipc.CloseRecording(recording=recording), CLOSE_S, children)
        self._missed |= {name: was[name] for name in self._missed if name in was}
        return said

    async def end(self, recording: str) -> dict[str, str]:
        """End a session's recording, or what is left of it; what each device says."""
        async with self._lock:
            if self.current == recording:
                return dict((await self._close())["devices"])
            close = ipc.CloseRecording(recording=recording)
            answers = await self._ask_all(close, CLOSE_S)
            await self._on_agent(close)
            return answers

    async def open_if_none(self, preroll_s: float) -> None:
        """Start one unless one is open (auto_record: every stream that appears asks)."""
        async with self._lock:
            if not self.current:
                self._refuse_if_full()
                await self._open(self._new_name(), preroll_s)

    async def _open(self, recording: str, preroll_s: float) -> dict[str, Any]:
        await self._on_agent(self._opening("agent", recording, preroll_s))
        self.current = recording
        self.opened_ns = self._clock.monotonic_ns()
        return {"recording": recording, "devices": await self._open_devices(preroll_s)}

    async def resume(self, said: ipc.RecordingState) -> None:
        """A recording was open when the daemon ended: go on with it."""
        async with self._lock:
            recording = said.recording  # "" when none was open
            if self.current or not recording:
                return
            self.current = recording
            self.scope = None if said.worn is None else Scope(said.worn, said.since_ns)
            self.opened_ns = self._clock.monotonic_ns()
            _log.info("recording resumed", recording=recording)
            await self._open_devices(WHOLE_RING_S)

    async def close(self) -> dict[str, Any]:
        """End the recording; returns when every row of it is archived."""
        async with self._lock:
            return await self._close()

    async def cut(self) -> None:
        """Go on in a new recording, at the row where this one ends.

        Devices are told of the new one first: the end of the old one may take its time on the disk.
        """
        async with self._lock:
            if not self.current or self.scope is not None:
                return  # a session is one recording, however long it takes
            ended, self.current = self.current, ""
            close = ipc.CloseRecording(recording=ended)
            try:
                await self._on_agent(close)
            except BrainforgeError:
                self.current = ended  # it goes on; the next try comes
                raise
            try:
                await self._open(self._new_name(), WHOLE_RING_S)
            finally:
                await self._ask_all(close, CLOSE_S)

    async def mark(self, description: str, duration_s: float) -> dict[str, Any]:
        """Make a marker durable; its time is now."""
        t_ns = self._clock.monotonic_ns()
        if not self.current:
            raise SessionError(
                "not_recording",
                "the marker was not stored",
                why="no recording is open",
                remedy="Start one with brainforge-edge record, or wait until the session shows REC",
            )
        recording = self.current
        await self._store(((t_ns, duration_s, description),))
        return {"recording": recording, "t_ns": t_ns}

    async def store_marks(self, marks: tuple[tuple[int, float, str], ...]) -> None:
        """Make a device's markers durable; SessionError when no recording is open."""
        if not self.current:
            raise SessionError(
                "not_recording",
                f"{len(marks)} markers were not stored",
                why="no recording is open",
                remedy="Start one with brainforge-edge record",
            )
        await self._store(marks)

    async def _store(self, marks: tuple[tuple[int, float, str], ...]) -> None:
        self._token += 1
        token = self._token
        future: asyncio.Future[ipc.MarkStored] = asyncio.get_running_loop().create_future()
        self._marks[token] = future
        stored = await self._agent.send(ipc.Marks(recording=self.current, marks=marks, token=token))
        try:
            if not stored:
                raise TimeoutError
            answer = await asyncio.wait_for(self._or_gone(self._agent, future), OPEN_S)
        except TimeoutError:
            answer = None
        finally:
            self._marks.pop(token, None)
        if answer is None:
            raise StorageError(
                "agent_down",
                "the marker was not stored",
                why="the agent that keeps markers does not answer",
                remedy="Set the marker again; the recording itself goes on",
                transient=True,
            )
        if answer.error is not None:
            raise from_dict(answer.error)

    async def _close(self) -> dict[str, Any]:
        if not self.current:
            raise SessionError(
                "not_recording",
                "nothing was stopped",
                why="no recording is open",
                remedy="Start one with brainforge-edge record",
            )
        recording, self.current = self.current, ""
        try:
            answers = await self._ask_all(ipc.CloseRecording(recording=recording), CLOSE_S)
        finally:
            self.scope = None
        await self._on_agent(ipc.CloseRecording(recording=recording))
        return {"recording": recording, "devices": answers}

    async def _open_devices(self, preroll_s: float) -> dict[str, str]:
        children = [child for child in self._acquirers() if self._is_meant(child.name)]
        answers = await asyncio.gather(
            *(
                self._ask(c, self._opening(c.name, self.current, preroll_s), OPEN_S)
                for c in children
            )
        )
        return _by_device(children, answers)

    async def _ask_all(
        self,
        message: ipc.CloseRecording,
        timeout_s: float,
        children: Iterable[Child] | None = None,
    ) -> dict[str, str]:
        asked = list(self._acquirers() if children is None else children)
        return _by_device(
            asked, await asyncio.gather(*(self._ask(c, message, timeout_s) for c in asked))
        )

    async def _ask(
        self, child: Child, message: ipc.OpenRecording | ipc.CloseRecording, timeout_s: float
    ) -> str:
        answer = await self._request(child, message, timeout_s)
        if answer is None:
            if isinstance(message, ipc.CloseRecording):
                self._note_missed(child.name, message.recording)
            if child.pid is not None and child.ready:
                return "not done yet; it goes on by itself"
            return "down; it catches up when it is back"
        if answer.error is not None:
            return str(from_dict(answer.error))
        if isinstance(message, ipc.CloseRecording):
            if self._missed.get(child.name, NOTHING).recording == message.recording:
                del self._missed[child.name]  # it was not there, and made up for it
            return "closed"
        is_there = child.stats.get("link") in {None, "streaming", "degraded"}
        return "recording" if answer.is_open and is_there else "waiting for the device"

    def _note_missed(self, name: str, recording: str) -> None:
        """Once: later its scope is gone."""
        if self._missed.get(name, NOTHING).recording != recording:
            self._missed[name] = self._ended_now(name, recording)

    def _ended_now(self, name: str, recording: str) -> ipc.OpenRecording:
        """What a worker that is away has to finish: none of the rows to come."""
        opening = self._opening(name, recording, 0.0)
        return msgspec.structs.replace(opening, until_ns=self._clock.monotonic_ns())

    async def _request(
        self, child: Child, message: ipc.OpenRecording | ipc.CloseRecording, timeout_s: float
    ) -> ipc.RecordingState | None:
        future: asyncio.Future[ipc.RecordingState] = asyncio.get_running_loop().create_future()
        is_close = isinstance(message, ipc.CloseRecording)
        waiting = Waiting(child, message.recording, is_close, future)
        self._waiting.append(waiting)
        try:
            if not await child.send(message):
                return None
            return await asyncio.wait_for(self._or_gone(child, future), timeout_s)
        except TimeoutError:
            return None
        finally:
            self._waiting.remove(waiting)

    async def _or_gone(self, child: Child, future: "asyncio.Future[Answer]") -> Answer | None:
        while not future.done():
            await asyncio.wait([future], timeout=0.2)
            if not future.done() and child.pid is None:
                return None
        return future.result()

    async def _on_agent(self, message: ipc.OpenRecording | ipc.CloseRecording) -> None:
        answer = await self._request(self._agent, message, OPEN_S)
        if answer is not None and answer.error is not None:
            raise from_dict(answer.error)
        if answer is None and isinstance(message, ipc.OpenRecording):
            raise StorageError(
                "agent_down",
                "no recording was started",
                why="the agent that keeps recordings does not answer",
                remedy="Try again in a few seconds; see brainforge-edge status",
                transient=True,
            )

    def _new_name(self) -> str:
        utc = self._clock.utc_ns()
        stamp = (
            time.strftime("%Y%m%dt%H%M%S", time.gmtime(utc // 1_000_000_000))
            if utc is not None
            else f"boot{self._clock.monotonic_ns() // 1_000_000_000}"
        )
        return f"rec-{stamp}-{self._random(2).hex()}"


def _by_device(children: Iterable[Child], answers: Iterable[str]) -> dict[str, str]:
    names = [child.name.partition(":")[2] for child in children]
    return dict(zip(names, answers, strict=True))
