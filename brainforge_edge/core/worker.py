"""What every worker's main thread does: hear the supervisor, send heartbeats, end in order.

Runs in: main thread of each worker.
"""

import argparse
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from brainforge_edge.core import ipc, log
from brainforge_edge.core.config import EdgeConfig
from brainforge_edge.core.errors import BrainforgeError, TransportError

HEARTBEAT_S = 0.25


class WorkerChannel:
    """The supervisor's channel and the Start that came over it."""

    def __init__(self, name: str) -> None:
        parser = argparse.ArgumentParser(prog=name)
        parser.add_argument("--fd", type=int, required=True)
        parser.add_argument("--live-fd", type=int, default=-1)
        parser.add_argument("--screen-fd", type=int, default=-1)
        arguments = parser.parse_args()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the supervisor's
        self.live_fd: int = arguments.live_fd
        self.screen_fd: int = arguments.screen_fd  # -1 where no page is served
        self.channel = ipc.Channel(socket.socket(fileno=arguments.fd))
        start = self.channel.receive(30.0)
        if not isinstance(start, ipc.Start):
            raise TransportError(
                "ipc_start",
                f"the {name} worker was not started",
                why="no Start message came from the supervisor",
                remedy="Workers are started by brainforge-edge run, not by hand",
            )
        self.start = start
        self.config = msgspec.msgpack.decode(start.config, type=EdgeConfig)
        log.configure(start.worker)

    def send(self, message: ipc.Message) -> None:
        """Send; a supervisor that is gone ends the worker at its next receive."""
        try:
            self.channel.send(message)
        except (BrokenPipeError, ConnectionResetError):
            log.get().info("supervisor gone", pid=os.getppid())

    @property
    def has_message(self) -> bool:
        """Whether something was said that was not handed on yet."""
        return self.channel.has_message

    def serve(
        self,
        handlers: Mapping[type, Callable[[Any], None]],
        beat: Callable[[], dict[str, Any]],
        *,
        ends: Callable[[ipc.AnyMessage], bool] = lambda _: False,
        first: type[ipc.Message] | None = None,
    ) -> None:
        """Until Stop or end of file, or a message at which the worker `ends`, to begin anew: hand
        messages on; send `beat()` as heartbeat each 250 ms. Of what waits, `first` is heard first."""
        self.send(ipc.Ready())
        due = time.monotonic()
        while True:
            if time.monotonic() >= due:
                self.send(ipc.Heartbeat(stats=beat()))
                due = time.monotonic() + HEARTBEAT_S
            try:
                message = self.channel.receive(max(0.001, due - time.monotonic()))
            except TimeoutError:
                continue
            waiting = [message]
            while first is not None and waiting[-1] is not None and self.has_message:
                waiting.append(self.channel.receive())
            for each in sorted(waiting, key=lambda said: type(said) is not first):
                if each is None or isinstance(each, ipc.Stop) or ends(each):
                    return
                handler = handlers.get(type(each))
                if handler is not None:
                    handler(each)


def run_worker(name: str, body: Callable[[WorkerChannel], None]) -> int:
    """Process entry of a worker: the exit status. An error a person can act on is told first."""
    worker = WorkerChannel(name)
    try:
        body(worker)
    except BrainforgeError as error:
        worker.send(ipc.Fault(error=error.as_dict(), fatal=True))
        log.get().error("worker stopped", **error.as_dict())
        return int(error.exit_status)
    except Exception:
        log.get().exception("worker failed")
        raise
    return 0
