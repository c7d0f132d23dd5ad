"""The only process that speaks MQTT on a box; a crash here cannot stop a recording.

Runs in: uplink process. Threads: main (supervisor's channel, heartbeat) · pump · live · paho's.
"""

import os
import socket
import sys
from pathlib import Path
from typing import Any

import msgspec

from brainforge_edge.core import ipc, log
from brainforge_edge.core.clock import Clock, SystemClock
from brainforge_edge.core.config import UplinkConfig
from brainforge_edge.core.events import EventType, SystemEvent
from brainforge_edge.core.threads import named
from brainforge_edge.core.worker import WorkerChannel, run_worker
from brainforge_edge.recorder.log import RecordingLog
from brainforge_edge.storage.files import SystemDisk
from brainforge_edge.uplink.cursor import CursorStore
from brainforge_edge.uplink.inbox import OutEvent
from brainforge_edge.uplink.index import LogIndex
from brainforge_edge.uplink.live import LiveForwarder
from brainforge_edge.uplink.pump import Emit, Pump

STOP_S = 10.0
DRAIN_S = 3.0  # for the last chunks, when the aggregator is there


def build_pump(
    root: Path, *, node: str, config: UplinkConfig, clock: Clock, emit: Emit
) -> tuple[Pump, CursorStore]:
    """A pump over `root`/recordings with its cursor in `root`/uplink.sqlite."""
    disk = SystemDisk()
    recordings = root / "recordings"
    disk.make_folder(recordings)
    cursors = CursorStore(root / "uplink.sqlite")
    pump = Pump(
        node=node,
        log_id=RecordingLog(recordings, disk=disk, random=os.urandom).log_id,
        index=LogIndex(recordings, cursors, disk),
        cursors=cursors,
        config=config,
        clock=clock,
        random=os.urandom,
        emit=emit,
    )
    return pump, cursors


class UplinkWorker:
    """Wires channel, pump and live thread."""

    def __init__(self, worker: WorkerChannel) -> None:
        self._worker = worker
        self._clock = SystemClock()
        node = worker.config.node
        self._node = node.id
        self._pump, self._cursors = build_pump(
            Path(node.root),
            node=node.id,
            config=worker.config.uplink,
            clock=self._clock,
            emit=self._emit,
        )
        self._failed: BaseException | None = None
        self._threads = [named("pump", self._run_pump, daemon=True)]
        self._live: LiveForwarder | None = None
        if worker.live_fd >= 0:
            self._live = LiveForwarder(
                socket.socket(fileno=worker.live_fd), lambda: self._pump.connection, node.id
            )
            self._threads.append(named("live", self._live.run, daemon=True))

    def run(self) -> None:
        for thread in self._threads:
            thread.start()
        self._worker.serve(
            {ipc.Archived: self._pump.inbox.put, ipc.Event: self._publish_event}, self._beat
        )
        self._pump.stop(DRAIN_S)
        if self._live is not None:
            self._live.stop()
        for thread in self._threads:
            thread.join(STOP_S)

    def _run_pump(self) -> None:
        try:
            self._pump.run()
        except Exception as error:  # noqa: BLE001 (outermost loop: the supervisor restarts us)
            log.get().exception("pump failed")
            self._failed = error

    def _beat(self) -> dict[str, Any]:
        if self._failed is not None:
            raise self._failed
        live = {"sent": self._live.sent, "dropped": self._live.dropped} if self._live else {}
        return {**self._pump.stats, "live": live}

    def _emit(self, event_type: EventType, stream_id: str, data: dict[str, Any]) -> None:
        self._worker.send(ipc.Event(event_type=event_type.value, stream_id=stream_id, data=data))

    def _publish_event(self, message: ipc.Event) -> None:
        """The supervisor hands every event here, our own too."""
        try:
            event_type = EventType(message.event_type)
        except ValueError:
            log.get().error("unknown event not published", event_type=message.event_type)
            return
        event = SystemEvent.root(
            event_type,
            source="daemon",
            node_id=self._node,
            clock=self._clock,
            random=os.urandom,
            stream_id=message.stream_id,
            data=message.data,
        )
        self._pump.inbox.put(OutEvent(message.event_type, msgspec.msgpack.encode(event)))


def main() -> int:
    """Process entry."""
    return run_worker("uplink", lambda worker: UplinkWorker(worker).run())


if __name__ == "__main__":
    sys.exit(main())
