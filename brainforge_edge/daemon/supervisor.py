"""Starts, watches and restarts the workers of a box; answers the control socket.

Runs in: supervisor process, one asyncio loop. Parses no network input, imports no numpy.
"""

import asyncio
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from brainforge_edge.core import ipc, log
from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.config import SOCKET_NAME, EdgeConfig, load
from brainforge_edge.core.errors import BrainforgeError, SessionError
from brainforge_edge.core.stream import StreamInfo
from brainforge_edge.daemon import control
from brainforge_edge.daemon.arguments import number, text
from brainforge_edge.daemon.bindings import Bindings
from brainforge_edge.daemon.child import Child
from brainforge_edge.daemon.commands import Commands
from brainforge_edge.daemon.disk import DiskWatch
from brainforge_edge.daemon.folders import make_folders
from brainforge_edge.daemon.livepaths import LivePaths
from brainforge_edge.daemon.marks import Marks
from brainforge_edge.daemon.network import tell_liblsl
from brainforge_edge.daemon.recordings import WHOLE_RING_S, Recordings
from brainforge_edge.daemon.service import Service
from brainforge_edge.daemon.sessions import Sessions
from brainforge_edge.daemon.status import status

STOP_S = 30.0
AGENT_S = 5.0  # devices are not kept waiting longer for the agent
# Never lose a sample, then freshness, then delivery: acquisition has the processor first.
NICENESS = {"pipeline": 5, "lsl": 5, "web": 5, "uplink": 10}

_log = log.get()


class Supervisor:
    """One box. `run` returns when it was told to stop."""

    def __init__(self, config: EdgeConfig) -> None:
        self._config = config
        self._packed_config = msgspec.msgpack.encode(config)
        self._clock = SystemClock()
        self._service = Service()
        self._stop = asyncio.Event()
        self._agent_spoke = asyncio.Event()
        self._streams: dict[str, tuple[str, StreamInfo, ipc.StreamOpened]] = {}
        self._archived: dict[tuple[str, str], ipc.Archived] = {}
        self._auto = config.recording.auto_record
        self._tasks: set[asyncio.Task[Any]] = set()
        paths = self._paths = LivePaths(has_screen=config.web.enabled)
        self.agent = self._child("agent", "brainforge_edge.fleet.agent")
        self.acquirers = [
            self._child(f"acquire:{device.name}", "brainforge_edge.acquisition.worker")
            for device in config.device
        ]
        self.others: list[Child] = []
        if config.pipeline.enabled:
            self.others.append(
                self._child("pipeline", "brainforge_edge.pipeline.worker", paths.pipeline)
            )
        if config.uplink.enabled:
            self.others.append(self._child("uplink", "brainforge_edge.uplink.worker", paths.uplink))
        if config.lsl.has_worker:
            self.others.append(self._child("lsl", "brainforge_edge.outlets.worker"))
        if config.web.enabled:
            self.others.append(self._child("web", "brainforge_edge.web.worker", paths.web))
        self.disk = DiskWatch(config, told=lambda event: self._tell_others(event, only="uplink"))
        self.recordings = Recordings(
            agent=self.agent,
            acquirers=lambda: self.acquirers,
            clock=self._clock,
            random=os.urandom,
            refuse_if_full=self.disk.refuse_if_full,
        )
        self.commands = Commands(
            workers=lambda: (*self.acquirers, *self.others),
            recording=lambda: self.recordings.current,
            marked=frozenset(d.name for d in config.device if d.settings.get("markers") is True),
        )
        self.marks = Marks(
            self.recordings, self.commands, lambda mark: self._tell_others(mark, only="lsl")
        )
        self.sessions = Sessions(
            agent=self.agent,
            acquirers=lambda: self.acquirers,
            streams=lambda: [info for _, info, _ in self._streams.values()],
            recordings=self.recordings,
            commands=self.commands,
            disk=self.disk,
            clock=self._clock,
            tell=self._tell_others,
        )
        self.bindings = Bindings(
            config.device,
            agent=self.agent,
            acquirers=lambda: self.acquirers,
            commands=self.commands,
            told=self._heard,
        )

    def _child(self, name: str, module: str, fds: Mapping[str, int] | None = None) -> Child:
        return Child(
            name,
            module,
            start_message=lambda: self._start(name),
            on_message=self._heard,
            arguments=[f"{option}={fd}" for option, fd in (fds or {}).items()],
            pass_fds=list((fds or {}).values()),
            niceness=NICENESS.get(name, 0),
        )

    def _start(self, name: str) -> ipc.Start:
        recording = self.recordings.for_worker(name)
        return ipc.Start(
            config=self._packed_config,
            worker=name,
            rings={stream_id: opened.ring for stream_id, (_, _, opened) in self._streams.items()},
            open_recording=recording.recording,
            participant=recording.participant,
            since_ns=recording.since_ns,
            until_ns=recording.until_ns,
            bound=self.bindings.bound,
        )

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        for which in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(which, self._stop.set)
        run = Path(self._config.node.run)
        make_folders(self._config.node)
        tell_liblsl(self._config.lsl, run)
        verbs: dict[str, control.Verb] = {
            "status": self._status,
            "streams": self._status,
            "record": self._record,
            "stop": self._stop_recording,
            "mark": self.marks.verb,
            "session": self.sessions.verb,
            "command": self.commands.verb,
            "features": self.commands.verb_features,
            "devices": self.bindings.verb_devices,
            "bind": self.bindings.verb_bind,
            "forget": self.bindings.verb_forget,
            "alias": self.bindings.verb_alias,
        }
        server = await control.serve(run / SOCKET_NAME, verbs)
        self.agent.begin()
        try:
            # What was open when the daemon ended is resumed from the rings, row for row.
            await asyncio.wait_for(self._agent_spoke.wait(), AGENT_S)
        except TimeoutError:
            _log.warning("agent is late", waited_s=AGENT_S)
        for child in (*self.acquirers, *self.others):
            child.begin()
        self._service.ready()
        _log.info("daemon started", node=self._config.node.id, devices=len(self.acquirers))
        try:
            await self._watch()
        finally:
            self._service.stopping()
            server.close()
            await self._stop_workers()
            await asyncio.to_thread(control.remove, run / SOCKET_NAME)
        return 0

    async def _watch(self) -> None:
        period = min(1.0, self._service.watchdog_s or 1.0)
        cut_ns = round(self._config.recording.cut_s * 1e9)
        while not self._stop.is_set():
            self._service.alive(self.recordings.current or "not recording")
            self._spawn(self.sessions.look())
            self._spawn(self.disk.look(self.recordings, self.acquirers))
            is_due = self._clock.monotonic_ns() - self.recordings.opened_ns > cut_ns
            if self._auto and self.recordings.current and is_due:
                self._spawn(self.recordings.cut())
            self._record_by_itself()  # where it was refused before
            try:
                await asyncio.wait_for(self._stop.wait(), period)
            except TimeoutError:
                continue

    def _record_by_itself(self) -> None:
        is_free = not self.recordings.current and not self.sessions.goes_on
        if self._auto and self._streams and is_free:
            self._spawn(self.recordings.open_if_none(WHOLE_RING_S))

    async def _stop_workers(self) -> None:
        await asyncio.gather(*(child.stop(STOP_S) for child in self.acquirers))
        await asyncio.gather(*(child.stop(STOP_S) for child in (*self.others, self.agent)))

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(self._logged(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _logged(self, work: Any) -> None:
        try:
            await work
        except BrainforgeError as error:
            _log.warning("refused", **error.as_dict())

    async def _heard(self, child: Child, message: ipc.AnyMessage) -> None:
        match message:
            case ipc.Ready():
                await self._greet(child)
            case ipc.StreamOpened(stream=packed):
                info = msgspec.msgpack.decode(packed, type=StreamInfo)
                self._streams[info.stream_id] = (child.name, info, message)
                await self._tell_others(message)
                self._record_by_itself()
            # Spawned: long ones, and neither worker waits for the other.
            case ipc.Directive() | ipc.Delivered():
                self._spawn(self.agent.send(message))
            case ipc.Report() | ipc.Applied() | ipc.Outgoing():
                self._spawn(self._tell_others(message, only="uplink"))
            case ipc.RecorderAsk() | ipc.FeedbackFrom():
                self._spawn(self.sessions.heard(message))
            case ipc.Archived():
                self._archived[message.recording, message.stream_id] = message
                await self._tell_others(message, only="uplink")
            case ipc.RecordingState() if child is self.agent and not self._agent_spoke.is_set():
                await self.recordings.resume(message)
                self._agent_spoke.set()
            case ipc.RecordingState() | ipc.MarkStored():
                await self.recordings.heard(child, message)
            case ipc.Answered() | ipc.Bound():
                await self.bindings.heard(child, message)
            case ipc.CommandDone():
                self.commands.heard(child, message)
            case ipc.Marks():
                self._spawn(self.marks.store(child, message))
            case ipc.Event():
                _log.info("event", worker=child.name, **msgspec.to_builtins(message))
                await self._tell_others(message, only="uplink")

    async def _greet(self, child: Child) -> None:
        """A worker (re)started: tell it what the others said before."""
        if child is self.agent or child in self.acquirers:
            await self.bindings.greet(child)
        if child.name == "uplink":
            for archived in list(self._archived.values()):
                await child.send(archived)
        if child in self.others:
            for _, _, opened in list(self._streams.values()):
                await child.send(opened)
        if child in self.acquirers:
            await self.recordings.greet(child)
        await self.sessions.greet(child)

    async def _tell_others(self, message: ipc.Message, only: str = "") -> None:
        for child in self.others:
            if not only or child.name == only:
                await child.send(message)

    async def _record(self, request: dict[str, Any]) -> dict[str, Any]:
        self.sessions.refuse_plain("no recording was started")
        preroll = number(request, "preroll", self._config.recording.preroll_s, most=60.0)
        return await self.recordings.open(text(request, "name"), self.sessions.adopted_s(preroll))

    async def _stop_recording(self, _: dict[str, Any]) -> dict[str, Any]:
        self.sessions.refuse_plain("nothing was stopped")
        self.disk.resumes = False
        was_auto, self._auto = self._auto, False  # the person's word stands until the next start
        try:
            return await self.recordings.close()
        except SessionError:
            self._auto = was_auto  # nothing was stopped, so that nothing may stop
            raise

    async def _status(self, _: dict[str, Any]) -> dict[str, Any]:
        return status(
            node=self._config.node.id,
            disk=self.disk.figures([info for _, info, _ in self._streams.values()]),
            recording=self.recordings.current,
            meant=self.recordings.meant,
            agent=self.agent,
            acquirers=self.acquirers,
            others=self.others,
            streams={key: (owner, info) for key, (owner, info, _) in self._streams.items()},
        )


def run(config_path: Path) -> int:
    """Entry of `brainforge-edge run`: the exit status."""
    config = load(config_path)
    log.configure("supervisor")

    async def serve() -> int:
        return await Supervisor(config).run()

    return asyncio.run(serve())
