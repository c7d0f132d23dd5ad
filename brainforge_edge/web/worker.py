"""Serves the bedside page. It may lag or die: the recording goes on.

Runs in: web process. main: control and heartbeat; a thread with an asyncio loop: all the rest.
"""

import asyncio
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from brainforge_edge.core import ipc
from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.config import SOCKET_NAME, WebConfig
from brainforge_edge.core.stream import StreamInfo
from brainforge_edge.core.threads import named
from brainforge_edge.core.worker import WorkerChannel, run_worker
from brainforge_edge.web.api import make_app, status_of
from brainforge_edge.web.bedside import Bedside
from brainforge_edge.web.daemon import Daemon
from brainforge_edge.web.door import Door
from brainforge_edge.web.guard import App, Guard
from brainforge_edge.web.live import Live
from brainforge_edge.web.logins import Logins, read
from brainforge_edge.web.page import index, static
from brainforge_edge.web.server import Server, listen, tls_context
from brainforge_edge.web.watch import Watch

STOP_S = 10.0


class Web:
    """The server and what it watches, in a thread of their own."""

    def __init__(self, worker: WorkerChannel) -> None:
        self._config = worker.config
        web = worker.config.web
        self._listening = listen(web.host, web.port)
        self._screen = socket.socket(fileno=worker.screen_fd)
        self._loop = asyncio.new_event_loop()
        self._daemon = Daemon(Path(worker.config.node.run) / SOCKET_NAME)
        self._live = Live(lambda: status_of(self._watch), self._daemon)
        self._watch = Watch(self._daemon, SystemClock(), self._live.told)
        self._bedside = Bedside(self._daemon, self._live, SystemClock())
        app = make_app(self._daemon, self._watch, (index, static))
        door = Door(_by_kind(app, self._live), _logins(web))
        is_tls = bool(web.certificate)
        tls = tls_context(Path(web.certificate), Path(web.key)) if is_tls else None
        guard = Guard(door, host=web.host, port=web.port, names=web.names, is_tls=is_tls)
        self._server = Server(guard, tls=tls)
        self._crashed: BaseException | None = None
        self._thread = named("web", self._run, daemon=True)

    def begin(self) -> None:
        self._thread.start()

    def opened(self, message: ipc.StreamOpened) -> None:
        """A stream that can be looked at."""
        info = msgspec.msgpack.decode(message.stream, type=StreamInfo)
        self._loop.call_soon_threadsafe(self._live.opened, info)

    def beat(self) -> dict[str, Any]:
        if self._crashed is not None:
            raise self._crashed
        return {
            "connections": len(self._server.server_state.connections),
            "viewers": self._live.n_viewers,
        }

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(STOP_S)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        except Exception as error:  # noqa: BLE001  outermost loop: main ends the process
            self._crashed = error

    async def _serve(self) -> None:
        self._live.follow(self._screen, self._loop)
        with self._listening:
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(self._watch.run(), name="watch")
                telling = tasks.create_task(self._bedside.run(), name="bedside")
                await self._server.serve(sockets=[self._listening])
                watching.cancel()
                telling.cancel()


def _logins(web: WebConfig) -> Logins | None:
    """SecurityError now, and not at the first login, if the file cannot be used."""
    if not web.logins:
        return None
    read(Path(web.logins))
    return Logins(Path(web.logins), idle_s=web.idle_s, now_s=time.monotonic, random=os.urandom)


def _by_kind(http: App, viewers: App) -> App:
    async def either(scope: Any, receive: Any, send: Any) -> None:
        await (viewers if scope["type"] == "websocket" else http)(scope, receive, send)

    return either


def _run(worker: WorkerChannel) -> None:
    web = Web(worker)
    web.begin()
    worker.serve({ipc.StreamOpened: web.opened}, web.beat)
    web.stop()


def main() -> int:
    """Process entry."""
    return run_worker("web", _run)


if __name__ == "__main__":
    sys.exit(main())
