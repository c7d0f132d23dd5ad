"""Drives one device: its rings, its recording, its link to the supervisor.

Runs in: acquire process, main thread (control and heartbeat; nothing else). Stop order: pull,
record (drain), sync, archive.
"""

import os
import sys
import threading
from collections import deque
from pathlib import Path
from typing import Any

import msgspec

from brainforge_edge.acquisition.binding import Binding
from brainforge_edge.acquisition.commands import Commands
from brainforge_edge.acquisition.devicerecording import DeviceRecording
from brainforge_edge.acquisition.linkstate import LinkState
from brainforge_edge.acquisition.markers import Markers
from brainforge_edge.acquisition.protection import Protection
from brainforge_edge.acquisition.pull import Pull
from brainforge_edge.acquisition.recording import Environment
from brainforge_edge.acquisition.stream import AcquiredStream
from brainforge_edge.acquisition.streams import Streams
from brainforge_edge.core import ipc
from brainforge_edge.core.clock import SystemClock, boot_id
from brainforge_edge.core.config import DeviceConfig, EdgeConfig
from brainforge_edge.core.stream import StreamInfo
from brainforge_edge.core.threads import named
from brainforge_edge.core.worker import WorkerChannel, run_worker
from brainforge_edge.devices import registry
from brainforge_edge.recorder.log import RecordingLog
from brainforge_edge.recorder.sealing import KEYS_FOLDER, sealing_of
from brainforge_edge.security.keystore import box_store
from brainforge_edge.storage.files import SystemDisk


class Acquire:
    """One device of this node."""

    def __init__(self, worker: WorkerChannel) -> None:
        self._worker = worker
        self._clock = SystemClock()
        config = worker.config
        self.device = _device(config, worker.start.worker.partition(":")[2])
        recordings = Path(config.node.root) / "recordings"
        disk = SystemDisk()
        self._log = RecordingLog(recordings, disk=disk, random=os.urandom)
        self._admit = threading.Lock()
        env = Environment(
            recordings=recordings,
            node=config.node.id,
            log_id=self._log.log_id,
            boot_id=boot_id(),
            disk=disk,
            clock=self._clock,
            random=os.urandom,
            sync_ms=config.recording.sync_ms,
            segment_bytes=config.recording.segment_mib * 1024 * 1024,
            journal_s=config.recording.journal_s,
            archived=self._archived,
            participant=self.device.subject,
            sealing=sealing_of(
                config, self.device.name, log_id=self._log.log_id, disk=disk, random=os.urandom
            ),
            private=box_store(Path(config.node.root) / KEYS_FOLDER, config.seal.token),
        )
        self._streams = Streams(
            self.device.name, rings=Path(config.node.run) / "rings", log=self._log
        )
        self._recording = DeviceRecording(self.device.name, env, self._streams, self._admit)
        self._binding = Binding(self.device, worker.start.bound, send=worker.send)
        self._pull = Pull(
            make_driver=lambda: registry.make_driver(
                self.device, clock=self._clock, run=Path(config.node.run)
            ),
            adopt=self._adopt,
            trust=self._binding.trust,
            admit=self._admit,
            is_recording=lambda: self._recording.gates_written,
            wake_record=self._recording.poke,
            clock=self._clock,
        )
        self._commands = Commands(self.device.name, self._pull.command, worker.send)
        self._protection = Protection(self.device.name, self._pull.guard, self._clock)
        self._markers = Markers(self._pull.markers, worker.send)
        self._announced: dict[str, AcquiredStream] = {}
        self._news: deque[ipc.Archived] = deque()

    def run(self) -> None:
        """Until Stop or end of file; raises what a thread raised."""
        self._recording.recover_in_background()
        self._streams.attach_left(is_resumed=bool(self._worker.start.open_recording))
        thread = named("pull", self._pull.run)
        if self._worker.start.open_recording:
            self._request(self._worker.start, self._worker.start.open_recording, 60.0)
        thread.start()
        try:
            self._worker.serve(
                {
                    ipc.OpenRecording: self._open,
                    ipc.CloseRecording: lambda m: self._close(m.recording),
                    ipc.Bound: self._bound,
                    ipc.Command: self._commands.take,
                    ipc.MarkStored: lambda m: self._markers.answered(m, self._clock.monotonic_ns()),
                },
                self._beat,
            )
        finally:
            self._binding.close()
            try:
                self._pull.stop()
                thread.join(10.0)
            finally:  # whatever a driver raises: rows are brought to the disk
                self._recording.suspend()
            self._tell_archived()
            self._streams.close()

    def _adopt(self, infos: tuple[StreamInfo, ...]) -> dict[str, Any]:
        """Pull thread: rings for what the device announced."""
        return self._streams.adopt(
            infos,
            layout_changes=self._recording.suspend_for_layout,
            is_recorded=lambda: self._recording.is_wanted,
        )

    def _protect(self) -> None:
        connection = self._pull.connection
        self._protection.advance(connection, is_recorded=self._recording.is_wanted)

    def _request(
        self, word: ipc.Start | ipc.OpenRecording, recording: str, preroll_s: float
    ) -> None:
        self._recording.request(
            recording,
            preroll_s,
            participant=word.participant,
            since_ns=word.since_ns,
            until_ns=word.until_ns,
        )

    def _open(self, message: ipc.OpenRecording) -> None:
        recording = message.recording
        self._request(message, recording, message.preroll_s)
        self._protect()
        for answer in self._recording.advance():
            self._worker.send(answer)
        if not self._streams.all:
            # A device of markers alone: they are recorded without a journal.
            is_there = self._pull.state is LinkState.STREAMING
            self._worker.send(ipc.RecordingState(recording=recording, is_open=is_there))

    def _close(self, recording: str) -> None:
        if not self._recording.request_close(recording):
            self._worker.send(ipc.RecordingState(recording=recording, is_open=False))

    def _bound(self, message: ipc.Bound) -> None:
        if not self._binding.heard(message):
            self._pull.part()

    def _archived(self, recording: str, stream_id: str, segment: str, end: int) -> None:
        """Archive thread: it never waits for the supervisor; main tells it at the next beat."""
        self._news.append(
            ipc.Archived(recording=recording, stream_id=stream_id, segment=segment, end=end)
        )

    def _tell_archived(self) -> None:
        while self._news:
            self._worker.send(self._news.popleft())

    def _beat(self) -> dict[str, Any]:
        """Each 250 ms: carry on what waits, tell what happened, report figures."""
        if self._pull.crashed is not None:
            raise self._pull.crashed
        for stream_id, stream in list(self._streams.all.items()):
            if self._announced.get(stream_id) is not stream:  # new, or of another layout
                self._announced[stream_id] = stream
                self._worker.send(
                    ipc.StreamOpened(
                        stream=msgspec.msgpack.encode(stream.info), ring=str(stream.path)
                    )
                )
        answers = self._recording.advance()
        self._tell_archived()
        for answer in answers:
            self._worker.send(answer)
        while self._pull.notices:
            event_type, stream_id, data = self._pull.notices.popleft()
            told = {"device": self.device.name, **data}
            self._worker.send(ipc.Event(event_type=event_type, stream_id=stream_id, data=told))
        now = self._clock.monotonic_ns()
        self._markers.advance(now)
        self._protect()
        error = self._pull.last_error
        link = self._pull.link.figures(now)
        worn = {"subject": self.device.subject} if self.device.subject else {}
        return {
            **link,
            "error": error.as_dict() if error else None,
            "reconnects": self._pull.reconnects,
            "counters": self._pull.counters,
            "device": {**self._pull.status, **worn},
            "identity": self._binding.identity,
            "recording": self._recording.stats(),
            "markers": {
                "stored": self._markers.stored,
                "unrecorded": self._markers.unrecorded,
                "dropped": self._pull.markers_dropped,
            },
            "streams": {
                key: {"since_ms": link["since_ms"], "reason": link["reason"], **s.stats(now)}
                for key, s in self._streams.all.items()
            },
        }


def _device(config: EdgeConfig, name: str) -> DeviceConfig:
    return next(device for device in config.device if device.name == name)


def main() -> int:
    """Process entry."""
    return run_worker("acquire", lambda worker: Acquire(worker).run())


if __name__ == "__main__":
    sys.exit(main())
