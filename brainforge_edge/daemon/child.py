"""One worker process as the supervisor sees it: start, watch, restart.

Runs in: supervisor, its asyncio loop.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from brainforge_edge.core import ipc, log
from brainforge_edge.core.retry import backoff

SILENT_S = 8.0  # a worker that says nothing for this long is killed and restarted alone
STARTING_S = 30.0  # … one that is not ready yet imports from a slow disk on a busy machine
OWN_STALL_S = 3.0
STEADY_S = 10.0  # having run this long, the next restart is quick again

_log = log.get()


class Child:
    """A worker that is kept running. `start_message` is asked for at each start."""

    def __init__(
        self,
        name: str,
        module: str,
        *,
        start_message: Callable[[], ipc.Start],
        on_message: Callable[["Child", ipc.AnyMessage], Awaitable[None]],
        arguments: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
        niceness: int = 0,
    ) -> None:
        self.name = name
        self._module = module
        self._start_message = start_message
        self._on_message = on_message
        self._arguments = list(arguments)
        self._pass_fds = list(pass_fds)
        self._niceness = niceness
        self._writer: asyncio.StreamWriter | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._heard = 0.0
        self.ready = False
        self.resumes = ""  # the recording that it was told of when it started
        self.restarts = 0
        self.stats: dict[str, Any] = {}
        self.last_fault: dict[str, Any] | None = None
        self.last_exit: int | None = None

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    @property
    def silent_s(self) -> float:
        """For how long it has said nothing."""
        return asyncio.get_running_loop().time() - self._heard

    @property
    def state(self) -> str:
        if self._stopping:
            return "stopping" if self.pid else "stopped"
        if self.pid is None:
            return "restarting" if self.restarts else "starting"
        return "running" if self.ready else "starting"

    def begin(self) -> None:
        self._task = asyncio.create_task(self._keep_running(), name=self.name)

    async def send(self, message: ipc.Message) -> bool:
        """False when the worker is not there to hear it."""
        writer = self._writer
        if writer is None or not self.ready:
            return False
        try:
            writer.write(ipc.encode(message))
            await writer.drain()
        except (ConnectionResetError, BrokenPipeError):
            return False
        return True

    async def stop(self, timeout_s: float) -> None:
        """Ask, wait, then kill."""
        self._stopping = True
        process = self._process
        if process is not None and process.returncode is None:
            if not await self.send(ipc.Stop()):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), timeout_s)
            except TimeoutError:
                _log.warning("worker killed", worker=self.name, reason="did not stop in time")
                process.kill()
                await process.wait()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep_running(self) -> None:
        loop = asyncio.get_running_loop()
        delays = backoff(0.5, 30.0)
        while not self._stopping:
            started = loop.time()
            try:
                await self._run_once()
            except Exception:  # noqa: BLE001  outermost loop: whatever it was, this worker is started again
                _log.exception("worker lost", worker=self.name)
            if self._stopping:
                return
            if loop.time() - started > STEADY_S:
                delays = backoff(0.5, 30.0)
            delay = next(delays)
            self.restarts += 1
            _log.warning("worker ended", worker=self.name, status=self.last_exit, again_in_s=delay)
            await asyncio.sleep(delay)

    async def _run_once(self) -> None:
        ours, theirs = socket.socketpair()
        fds = [theirs.fileno(), *self._pass_fds]
        command = [sys.executable, "-m", self._module, "--fd", str(theirs.fileno())]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
        try:
            self._process = process = await asyncio.create_subprocess_exec(
                *command,
                *self._arguments,
                pass_fds=fds,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        if self._niceness:  # before the first thread of it: all of them inherit it
            with contextlib.suppress(ProcessLookupError):  # it ended already: said below
                os.setpriority(os.PRIO_PROCESS, process.pid, self._niceness)
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=ipc.MAX_MESSAGE + 8)
        self._writer = writer
        self._heard = asyncio.get_running_loop().time()
        start = self._start_message()
        self.resumes = start.open_recording
        writer.write(ipc.encode(start))
        watch = asyncio.create_task(self._watch(process))
        try:
            while (message := await ipc.read(reader)) is not None:
                self._heard = asyncio.get_running_loop().time()
                await self._take(message)
            self.last_exit = await process.wait()
        finally:
            watch.cancel()
            self.ready = False
            self.stats = {}
            self._writer = None
            writer.close()
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def _take(self, message: ipc.AnyMessage) -> None:
        match message:
            case ipc.Ready():
                self.ready = True
            case ipc.Heartbeat(stats=stats):
                self.stats = stats
                return
            case ipc.Fault(error=error):
                self.last_fault = error
                _log.warning("worker fault", worker=self.name, **error)
            case _:
                pass
        await self._on_message(self, message)

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        loop = asyncio.get_running_loop()
        while process.returncode is None:
            before = loop.time()
            await asyncio.sleep(1.0)
            if loop.time() - before > OWN_STALL_S:
                self._heard = loop.time()  # the silence was ours: what they said waits to be read
            silent = loop.time() - self._heard
            limit = SILENT_S if self.ready else STARTING_S
            if silent > limit and not self._stopping:  # `stop` has a patience of its own
                _log.error(
                    "worker killed", worker=self.name, reason="silent", silent_s=round(silent, 1)
                )
                process.send_signal(signal.SIGKILL)
                return
