"""Serves the bedside page. It may lag or die: the recording goes on.

Runs in: web process. main: control and heartbeat; a thread with an asyncio loop: all the rest.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.config import SOCKET_NAME
from brainforge_edge.core.threads import named
from brainforge_edge.core.worker import WorkerChannel, run_worker
from brainforge_edge.web.api import make_app
from brainforge_edge.web.daemon import Daemon
from brainforge_edge.web.guard import Guard
from brainforge_edge.web.server import Server, listen
from brainforge_edge.web.watch import Watch

STOP_S = 10.0


class Web:
    """The server and what it watches, in a thread of their own."""

    def __init__(self, worker: WorkerChannel) -> None:
        self._config = worker.config
        web = worker.config.web
        self._listening = listen(web.host, web.port)
        self._server: Server | None = None
        self._crashed: BaseException | None = None
        self._is_stopping = False
        self._thread = named("web", self._run, daemon=True)

    def begin(self) -> None:
        self._thread.start()

    def beat(self) -> dict[str, Any]:
        if self._crashed is not None:
            raise self._crashed
        server = self._server
        return {"connections": len(server.server_state.connections) if server else 0}

    def stop(self) -> None:
        self._is_stopping = True
        if self._server is not None:
            self._server.should_exit = True
        self._thread.join(STOP_S)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:  # noqa: BLE001  outermost loop: main ends the process
            self._crashed = error

    async def _serve(self) -> None:
        web = self._config.web
        daemon = Daemon(Path(self._config.node.run) / SOCKET_NAME)
        watch = Watch(daemon, SystemClock(), lambda: None)
        app = make_app(daemon, watch)
        self._server = server = Server(Guard(app, host=web.host, port=web.port))
        server.should_exit = self._is_stopping
        with self._listening:
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(watch.run(), name="watch")
                await server.serve(sockets=[self._listening])
                watching.cancel()


def _run(worker: WorkerChannel) -> None:
    web = Web(worker)
    web.begin()
    worker.serve({}, web.beat)
    web.stop()


def main() -> int:
    """Process entry."""
    return run_worker("web", _run)


if __name__ == "__main__":
    sys.exit(main())
