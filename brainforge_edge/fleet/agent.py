"""Keeps recordings as people see them: the card of each, and its markers; the registry of devices; sessions.

Runs in: agent process, main thread; its `Keeper`, `Executor` and `Renewer` have threads of their own. If it dies the recording goes on; only markers wait.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cbor2

from brainforge_edge.core import ipc
from brainforge_edge.core.clock import SystemClock, boot_id, take_anchor
from brainforge_edge.core.errors import SecurityError, SessionError, StorageError
from brainforge_edge.core.stream import MARKERS_ID, Codec, Dtype, StreamInfo
from brainforge_edge.core.worker import WorkerChannel, run_worker
from brainforge_edge.fleet.devices import Devices
from brainforge_edge.fleet.executor import Executor
from brainforge_edge.fleet.keeper import Keeper
from brainforge_edge.fleet.sessiondesk import SessionDesk
from brainforge_edge.recorder import catalog
from brainforge_edge.recorder.chunk import Chunk
from brainforge_edge.recorder.desiredfile import now_receipt_signer
from brainforge_edge.recorder.identity import Identity
from brainforge_edge.recorder.log import RecordingLog
from brainforge_edge.recorder.sealing import sealing_of
from brainforge_edge.recorder.segment import SegmentWriter, next_ordinal
from brainforge_edge.recorder.signers import remember_signer
from brainforge_edge.recorder.tail import cut_tails
from brainforge_edge.security.keystore import is_absent
from brainforge_edge.security.sign import Verifier
from brainforge_edge.storage.files import SystemDisk

if TYPE_CHECKING:
    from brainforge_edge.fleet.renewer import Renewer

MARKERS = StreamInfo(stream_id=MARKERS_ID, device="node", sfreq=0.0, dtype=Dtype.I16, channels=())
MARKER_SEGMENT_BYTES = 64 * 1024


class Agent:
    """One node's recordings."""

    def __init__(self, worker: WorkerChannel) -> None:
        self._worker = worker
        self._clock = SystemClock()
        self._disk = SystemDisk()
        self._recordings = Path(worker.config.node.root) / "recordings"
        self._log = RecordingLog(self._recordings, disk=self._disk, random=os.urandom)
        self._boot_id = boot_id()
        self._sealing = sealing_of(
            worker.config,
            MARKERS.stream_id,
            log_id=self._log.log_id,
            disk=self._disk,
            random=os.urandom,
        )
        self._incarnation = 0
        self._seq = 0
        self._markers: SegmentWriter | None = None
        self._markers_of = ""
        self._signer = Path(worker.config.uplink.signer)
        self._waits_for_signer = bool(worker.config.uplink.signer) and is_absent(self._signer)
        self.keeper = Keeper(
            worker.config,
            log_id=self._log.log_id,
            verifier=self._verifier(),
            clock=self._clock,
            disk=self._disk,
        )
        self.renewer: Renewer | None = None
        self.executor = Executor(
            worker.config,
            log_id=self._log.log_id,
            clock=self._clock,
            disk=self._disk,
            send=worker.send,
            on_applied=lambda: self.keeper.trust(self._verifier()),
        )
        self.devices = Devices(Path(worker.config.node.root), clock=self._clock, send=worker.send)

    def _verifier(self) -> Verifier | None:
        """Of what the aggregator signs; without it nothing is freed for its word."""
        root = Path(self._worker.config.node.root)
        try:
            verifier = now_receipt_signer(self._worker.config.uplink.signer, root, self._disk)
            return None if verifier is None else remember_signer(root, verifier.pem, self._disk)
        except (SecurityError, StorageError) as error:
            self._worker.send(ipc.Fault(error=error.as_dict()))
            return None

    def _look_for_signer(self) -> None:
        """A box that is enrolled later frees as any other: else its disk would fill until it is started again."""
        if self._waits_for_signer and not is_absent(self._signer):
            self._waits_for_signer = False
            self.keeper.trust(self._verifier())

    def renew(self) -> None:
        """From now on the certificate is looked after, if there is one."""
        if not self._worker.config.uplink.tls.enabled:
            return
        # Devices wait for the agent's first word, and X.509 and HTTP take a while to import.
        from brainforge_edge.fleet.renewer import renewer_of  # noqa: PLC0415

        worker = self._worker
        self.renewer = renewer_of(
            worker.config, self._disk, clock=self._clock,
            emit=lambda event, data: worker.send(ipc.Event(event_type=event.value, data=data)),
        )  # fmt: skip
        self.renewer.start()

    def stats(self) -> dict[str, Any]:
        """For the heartbeat."""
        self._look_for_signer()
        certificate = {} if self.renewer is None else self.renewer.stats()
        orders = self.executor.stats()
        said = self.keeper.stats()
        error = said["error"] or orders["error"]
        return {**said, "certificate": certificate, "orders": orders, "error": error}

    def report(
        self, scoped: Callable[[ipc.RecordingState], ipc.RecordingState] = lambda state: state
    ) -> None:
        """Say which recording was open when the daemon ended, `scoped` whom it is for; any other is closed."""
        files = [entry.file for entry in catalog.list_recordings(self._recordings, self._disk)]
        is_open = [file for file in files if file is not None and not file.closed]
        is_open.sort(key=lambda file: (file.created_utc_ns or 0, file.recording))
        for file in is_open:
            self._cut_markers(file.recording)
        current = self._worker.start.open_recording
        name = current or (is_open[-1].recording if is_open else "")
        for file in is_open:
            if file.recording != name:
                self._close_again(file.recording)
        is_known = any(file.recording == name for file in is_open)
        state = ipc.RecordingState(recording=name if is_known else "", is_open=is_known)
        self._worker.send(scoped(state))

    def _cut_markers(self, name: str) -> None:
        """An agent that was killed left its segment open: unused space would count as damage."""
        folder = self._recordings / name / MARKERS.stream_id
        try:
            if folder.is_dir():
                cut_tails(folder, self._disk, held=None)
        except StorageError as error:
            self._worker.send(ipc.Fault(error=error.as_dict()))

    def _close_again(self, name: str) -> None:
        try:
            catalog.close_recording(self._recordings / name, self._disk)
        except StorageError as error:  # a full disk: the next start tries it again
            self._worker.send(ipc.Fault(error=error.as_dict()))

    def open(self, message: ipc.OpenRecording) -> None:
        error = None
        try:
            self._refuse_used(message.recording)
            catalog.write_recording_file(
                self._recordings,
                catalog.RecordingFile(
                    recording=message.recording,
                    created_utc_ns=self._clock.utc_ns(),
                    node=self._worker.config.node.id,
                    closed=False,
                    devices=self._named() if message.devices is None else message.devices,
                ),
                self._disk,
            )
        except (StorageError, SessionError) as refused:
            error = refused.as_dict()
        else:
            self.keeper.tell(message.recording)
        self._worker.send(
            ipc.RecordingState(recording=message.recording, is_open=error is None, error=error)
        )

    def _named(self) -> tuple[str, ...]:
        return tuple(device.name for device in self._worker.config.device)

    def _refuse_used(self, name: str) -> None:
        """One folder is one recording: rows of two evenings never lie in one account."""
        if self._disk.names(self._recordings / name):
            raise SessionError(
                "name_used",
                "no recording was started",
                why=f"there is one called {name} already",
                remedy="Choose another name, or leave it out and the box makes one up",
                recording=name,
            )

    def close(self, message: ipc.CloseRecording) -> None:
        error = None
        try:
            self._close_markers()
            catalog.close_recording(self._recordings / message.recording, self._disk)
        except StorageError as refused:
            error = refused.as_dict()
        self.keeper.tell(message.recording)
        self._worker.send(
            ipc.RecordingState(recording=message.recording, is_open=False, error=error)
        )

    def mark(self, message: ipc.Marks) -> None:
        """One chunk for all of them: on the disk together, or none."""
        error = None
        try:
            self._store(message)
        except (StorageError, SecurityError) as refused:
            self._give_up_markers()
            error = refused.as_dict()
        self._worker.send(ipc.MarkStored(token=message.token, error=error))

    def _store(self, message: ipc.Marks) -> None:
        writer = self._writer(message.recording)
        body = cbor2.dumps([list(mark) for mark in message.marks], canonical=True)
        first_ns = message.marks[0][0]
        anchor = take_anchor(self._clock, self._boot_id)
        chunk = Chunk(
            codec=Codec.MARKERS,
            dtype=0,
            n_channels=0,
            n_samples=len(message.marks),
            log_id=self._log.log_id,
            incarnation=self._incarnation,
            stream_number=self._log.stream_number(MARKERS.stream_id),
            seq=self._seq,
            t_first_ns=first_ns,
            sfreq=0.0,
            body=body,
            t_first_utc_ns=anchor.utc_of(first_ns),
            utc_uncertainty_ns=anchor.uncertainty_ns,
        )
        writer.append(chunk)
        writer.sync()
        self._seq += len(message.marks)
        self._announce(message.recording, writer)

    def _writer(self, recording: str) -> SegmentWriter:
        if self._markers is not None and self._markers_of == recording:
            if not self._markers.is_full:
                return self._markers
            self._close_markers()
        if not self._seq:
            # Numbered anew in each process: a chunk lost with its segment is never counted twice.
            self._incarnation = self._log.open_incarnation(MARKERS.stream_id, "")
        folder = self._recordings / recording / MARKERS.stream_id
        self._disk.make_folder(folder)
        key = None if self._sealing is None else self._sealing.key_for(recording, "")
        self._markers = SegmentWriter.create(
            folder,
            next_ordinal(folder, self._disk),
            info=MARKERS,
            number=self._log.stream_number(MARKERS.stream_id),
            identity=Identity(
                recording=recording,
                node=self._worker.config.node.id,
                log_id=self._log.log_id,
                anchors=(take_anchor(self._clock, self._boot_id),),
                key_id=key.key_id.hex() if key is not None else "",
            ),
            size=MARKER_SEGMENT_BYTES,
            disk=self._disk,
            random=os.urandom,
            key=key,
        )
        self._markers_of = recording
        return self._markers

    def _close_markers(self) -> None:
        writer, self._markers = self._markers, None
        if writer is not None:
            writer.close()
            self._announce(self._markers_of, writer)

    def _give_up_markers(self) -> None:
        """Never the same descriptor again; a file that cannot be cut now is cut at the next start."""
        try:
            self._close_markers()
        except StorageError as error:
            self._worker.send(ipc.Fault(error=error.as_dict()))

    def _announce(self, recording: str, writer: SegmentWriter) -> None:
        self._worker.send(
            ipc.Archived(
                recording=recording,
                stream_id=MARKERS.stream_id,
                segment=writer.path.name,
                end=writer.synced,
            )
        )

    def stop(self) -> None:
        self.devices.close()
        self._close_markers()


def _run(worker: WorkerChannel) -> None:
    agent = Agent(worker)
    desk = SessionDesk(worker)
    agent.devices.report()
    agent.report(desk.scoped)
    handlers: dict[type, Any] = {
        ipc.OpenRecording: lambda message: desk.open(message, agent.open),
        ipc.CloseRecording: agent.close,
        ipc.Marks: agent.mark,
        ipc.Answered: agent.devices.answered,
        ipc.Command: lambda message: desk.command(message, agent.devices.command),
        ipc.Directive: agent.executor.hear,
        **desk.handlers,
    }
    agent.keeper.start()
    agent.executor.start()
    agent.renew()
    # A slow disk holds this process up: the monitor's word was said in time, whatever waits before it.
    worker.serve(handlers, lambda: {**agent.stats(), "session": desk.beat()}, first=ipc.Watch)
    if agent.renewer is not None:
        agent.renewer.stop()
    agent.executor.stop()
    agent.keeper.stop()
    desk.close()
    agent.stop()


def main() -> int:
    """Process entry."""
    return run_worker("agent", _run)


if __name__ == "__main__":
    sys.exit(main())
