"""The only process that speaks MQTT on a box; a crash here cannot stop a recording.

Runs in: uplink process. Threads: main (supervisor's channel, heartbeat) · pump · live · paho's.
"""

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from brainforge_edge.core import ipc, log, topics
from brainforge_edge.core.clock import Clock, SystemClock
from brainforge_edge.core.config import SealConfig, UplinkConfig
from brainforge_edge.core.errors import TransportError
from brainforge_edge.core.events import EventType, SystemEvent
from brainforge_edge.core.threads import named
from brainforge_edge.core.worker import WorkerChannel, run_worker
from brainforge_edge.recorder.desiredfile import (
    now_receipt_signer,
    now_recipients,
    read_standing,
)
from brainforge_edge.recorder.log import RecordingLog
from brainforge_edge.recorder.sealing import AGGREGATOR, public_key
from brainforge_edge.storage.files import SystemDisk
from brainforge_edge.uplink.cursor import CursorStore
from brainforge_edge.uplink.inbox import Emit, OutEvent
from brainforge_edge.uplink.index import LogIndex
from brainforge_edge.uplink.keys import KeyDesk
from brainforge_edge.uplink.live import LiveForwarder
from brainforge_edge.uplink.pump import Pump

STOP_S = 10.0
DRAIN_S = 3.0  # for the last chunks, when the aggregator is there


def build_pump(
    root: Path,
    *,
    node: str,
    config: UplinkConfig,
    clock: Clock,
    emit: Emit,
    delivered: Callable[[tuple[int, ...]], None] = lambda _numbers: None,
    seal: SealConfig = SealConfig(),  # noqa: B008 (frozen)
) -> tuple[Pump, CursorStore]:
    """A pump over `root`/recordings with its cursor in `root`/uplink.sqlite."""
    disk = SystemDisk()
    recordings = root / "recordings"
    disk.make_folder(recordings)
    verifier = now_receipt_signer(config.signer, root, disk)
    sealed_to = {each.role: each.id for each in now_recipients((), root, disk)}
    if seal.aggregator and AGGREGATOR not in sealed_to:  # else its file is nobody's concern
        sealed_to[AGGREGATOR] = public_key(Path(seal.aggregator), AGGREGATOR).id
    cursors = CursorStore(root / "uplink.sqlite", signer=verifier.id if verifier else "")
    pump = Pump(
        node=node,
        log_id=RecordingLog(recordings, disk=disk, random=os.urandom).log_id,
        index=LogIndex(recordings, cursors, disk),
        keys=KeyDesk(
            recordings,
            disk,
            seals=seal.enabled,
            aggregator=sealed_to.get(AGGREGATOR, ""),
            tells_all=read_standing(root, disk) is not None,
        ),
        cursors=cursors,
        config=config,
        clock=clock,
        random=os.urandom,
        emit=emit,
        delivered=delivered,
        verifier=verifier,
    )
    return pump, cursors


class UplinkWorker:
    """Wires channel, pump and live thread."""

    def __init__(self, worker: WorkerChannel) -> None:
        self._worker = worker
        self._clock = SystemClock()
        node = worker.config.node
        self._node = node.id
        standing = read_standing(Path(node.root), SystemDisk())
        self._standing = "" if standing is None else standing.file.id
        self._pump, self._cursors = build_pump(
            Path(node.root),
            node=node.id,
            config=worker.config.uplink,
            clock=self._clock,
            emit=self._emit,
            delivered=lambda numbers: worker.send(ipc.Delivered(numbers=numbers)),
            seal=worker.config.seal,
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
            {
                ipc.Archived: self._pump.inbox.put,
                ipc.Event: self._publish_event,
                ipc.Outgoing: self._publish_kept,
                ipc.Report: self._publish_report,
            },
            self._beat,
            ends=lambda message: isinstance(message, ipc.Applied) and message.id != self._standing,
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
        self._pump.desk.hand_over(self._worker.send, self._clock.monotonic_ns() / 1e9)
        live = {"sent": self._live.sent, "dropped": self._live.dropped} if self._live else {}
        return {**self._pump.stats, "live": live, "orders": self._pump.desk.figures()}

    def _emit(self, event_type: EventType, stream_id: str, data: dict[str, Any]) -> None:
        self._worker.send(ipc.Event(event_type=event_type.value, stream_id=stream_id, data=data))

    def _publish_report(self, report: ipc.Report) -> None:
        """A lost one is made up for when the order comes again, with the next link at the latest."""
        topic = (
            topics.job_status(self._node, report.job) if report.job else topics.reported(self._node)
        )
        try:
            self._pump.connection.publish(topic, report.payload, qos=1, retain=not report.job)
        except TransportError as error:
            log.get().warning("report not sent", job=report.job, error=str(error))
        if report.is_final:
            self._pump.desk.settled(report.job)

    def _publish_kept(self, message: ipc.Outgoing) -> None:
        """Of the agent's outbox."""
        for number, kind, payload in message.events:
            self._pump.inbox.put(OutEvent(kind, payload, number))

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
