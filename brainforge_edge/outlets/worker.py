"""Offers streams and markers by LSL and hears the remote control. It may die: recording goes on.

Runs in: lsl process, main thread; one thread per outlet and one for the remote control beside it.
"""

import sys
import threading
from pathlib import Path
from typing import Any

import msgspec

from brainforge_edge.core import ipc
from brainforge_edge.core.errors import BrainforgeError
from brainforge_edge.core.stream import ChannelInfo, StreamInfo
from brainforge_edge.core.threads import named
from brainforge_edge.core.worker import WorkerChannel, run_worker
from brainforge_edge.devices.lsl import Outlet, OutletPlan
from brainforge_edge.outlets.remote import Remote
from brainforge_edge.outlets.stream import OutletStream


class Outlets:
    """The outlets of this node, each fed by a thread."""

    def __init__(self, worker: WorkerChannel) -> None:
        self._worker = worker
        self._config = worker.config
        self._streams: dict[str, tuple[OutletStream, threading.Thread]] = {}
        self._marks = 0
        lsl = self._config.lsl
        self._markers: Outlet | None = None
        if lsl.outlets and lsl.markers:
            self._markers = Outlet(_marker_plan(self._config.node.id))
        self._remote: Remote | None = None
        if lsl.remote:
            self._remote = Remote(lsl, control=Path(self._config.node.run) / "control.sock")
            self._remote.start()

    def opened(self, message: ipc.StreamOpened) -> None:
        """Offer a stream, if it is one of those wanted; a changed ring gets a new outlet."""
        info = msgspec.msgpack.decode(message.stream, type=StreamInfo)
        key = info.stream_id
        wanted = self._config.lsl.outlets
        is_wanted = key in wanted if isinstance(wanted, tuple) else wanted and not info.is_raw
        if not is_wanted:
            return
        known = self._streams.get(key)
        if known is not None:
            if known[1].is_alive() and not known[0].is_replaced:
                return
            self._end(known)
        try:
            stream = OutletStream(Path(message.ring), self._config)
        except BrainforgeError as error:
            self._streams.pop(key, None)
            self._worker.send(ipc.Fault(error=error.as_dict()))
            return
        thread = named(f"lsl-{key}", stream.run, daemon=True)
        self._streams[key] = (stream, thread)
        thread.start()

    def marked(self, message: ipc.Marks) -> None:
        """Markers that the box has stored."""
        for t_ns, _, description in message.marks:
            if self._markers is not None:
                self._markers.push_text(description, t_ns)
                self._marks += 1

    def beat(self) -> dict[str, Any]:
        for stream, _ in self._streams.values():
            if stream.crashed is not None:
                raise stream.crashed
        if self._remote is not None and self._remote.crashed is not None:
            raise self._remote.crashed
        return {
            "outlets": {key: stream.stats() for key, (stream, _) in self._streams.items()},
            "markers": self._marks,
            "remote": None if self._remote is None else self._remote.stats(),
        }

    def stop(self) -> None:
        if self._remote is not None:
            self._remote.stop()
        for entry in self._streams.values():
            self._end(entry)
        if self._markers is not None:
            self._markers.close()

    @staticmethod
    def _end(entry: tuple[OutletStream, threading.Thread]) -> None:
        entry[0].stop.set()
        entry[1].join(5.0)
        entry[0].close()


def _marker_plan(node: str) -> OutletPlan:
    return OutletPlan(
        name=f"{node}-markers",
        type="Markers",
        source_id=f"brainforge:{node}:markers",
        sfreq=0.0,
        format="string",
        channels=[ChannelInfo("marker", "stim", "")],
    )


def _run(worker: WorkerChannel) -> None:
    outlets = Outlets(worker)
    worker.serve({ipc.StreamOpened: outlets.opened, ipc.Marks: outlets.marked}, outlets.beat)
    outlets.stop()


def main() -> int:
    """Process entry."""
    return run_worker("lsl", _run)


if __name__ == "__main__":
    sys.exit(main())
