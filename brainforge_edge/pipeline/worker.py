"""Derives what people see live. It may lag or die: the recording goes on.

Runs in: pipeline process, main thread; one thread per stream beside it.
"""

import socket
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec

from brainforge_edge.core import ipc
from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.errors import BrainforgeError
from brainforge_edge.core.stream import StreamInfo
from brainforge_edge.core.threads import named
from brainforge_edge.core.worker import WorkerChannel, run_worker
from brainforge_edge.pipeline.live import LiveStream, is_shown
from brainforge_edge.pipeline.outs import Outs


class Pipeline:
    """The streams of this node, each followed by a thread."""

    def __init__(self, worker: WorkerChannel) -> None:
        self._worker = worker
        self._clock = SystemClock()
        self._out = socket.socket(fileno=worker.live_fd)
        self._outs = Outs(self._out, worker.screen_fd)
        self._streams: dict[str, tuple[LiveStream, threading.Thread]] = {}

    def opened(self, message: ipc.StreamOpened) -> None:
        """Follow a stream; one that is followed already is left alone unless its ring changed."""
        info = msgspec.msgpack.decode(message.stream, type=StreamInfo)
        if not is_shown(info):
            return
        key = info.stream_id
        known = self._streams.get(key)
        if known is not None:
            if known[1].is_alive() and not known[0].is_replaced:
                return
            self._end(known)
        try:
            live = LiveStream(
                Path(message.ring), self._worker.config.pipeline, out=self._outs, clock=self._clock
            )
        except BrainforgeError as error:
            self._worker.send(ipc.Fault(error=error.as_dict()))
            return
        thread = named(f"live-{key}", live.run, daemon=True)
        self._streams[key] = (live, thread)
        thread.start()

    def beat(self) -> dict[str, Any]:
        for live, _ in self._streams.values():
            if live.crashed is not None:
                raise live.crashed
        return {"streams": {key: live.stats() for key, (live, _) in self._streams.items()}}

    def stop(self) -> None:
        for entry in self._streams.values():
            self._end(entry)

    @staticmethod
    def _end(entry: tuple[LiveStream, threading.Thread]) -> None:
        entry[0].stop.set()
        entry[1].join(5.0)


def _run(worker: WorkerChannel) -> None:
    pipeline = Pipeline(worker)
    worker.serve({ipc.StreamOpened: pipeline.opened}, pipeline.beat)
    pipeline.stop()


def main() -> int:
    """Process entry."""
    return run_worker("pipeline", _run)


if __name__ == "__main__":
    sys.exit(main())
