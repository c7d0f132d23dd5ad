"""Where sessions meet the agent: without node.sqlite there are none, and recordings go on. Runs in: agent process, main thread."""

import os
from collections.abc import Callable, Mapping
from typing import Any

from brainforge_edge.core import ipc
from brainforge_edge.core.clock import SystemClock, boot_id
from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.worker import WorkerChannel
from brainforge_edge.fleet.bedside import Bedside
from brainforge_edge.storage.files import SystemDisk

COMMAND = "session"  # the command that is meant for sessions; any other is for the registry


class SessionDesk:
    """Hands on what the supervisor says to the sessions, if there can be any."""

    def __init__(self, worker: WorkerChannel) -> None:
        self._worker = worker
        self._refusal: StorageError | None = None
        self._bedside: Bedside | None = None
        try:
            self._bedside = Bedside(
                worker.config,
                clock=SystemClock(),
                random=os.urandom,
                boot_id=boot_id(),
                disk=SystemDisk(),
                send=worker.send,
            )
        except StorageError as error:  # damaged, or the disk is full: tried again at the next start
            self._refusal = error
            worker.send(ipc.Fault(error=error.as_dict()))

    @property
    def handlers(self) -> Mapping[type, Callable[[Any], None]]:
        """For messages that nobody else hears."""
        if self._bedside is None:
            return {}
        return {
            ipc.Watch: self._bedside.watch,
            ipc.RecorderDid: self._bedside.did,
            ipc.Delivered: self._bedside.delivered,
        }

    def scoped(self, state: ipc.RecordingState) -> ipc.RecordingState:
        """What the agent reports as it starts."""
        return state if self._bedside is None else self._bedside.scoped(state)

    def open(self, message: ipc.OpenRecording, opens: Callable[[ipc.OpenRecording], None]) -> None:
        """A recording that no session forbids is opened."""
        error = None if self._bedside is None else self._bedside.refuse_plain(message)
        if error is None:
            opens(message)
            return
        self._worker.send(
            ipc.RecordingState(recording=message.recording, is_open=False, error=error.as_dict())
        )

    def command(self, message: ipc.Command, others: Callable[[ipc.Command], None]) -> None:
        """What is meant for sessions is done here, `others` do the rest."""
        if message.name != COMMAND:
            others(message)
        elif self._bedside is not None:
            self._bedside.command(message)
        elif self._refusal is not None:
            error = self._refusal.as_dict()
            self._worker.send(ipc.CommandDone(token=message.token, error=error))

    def beat(self) -> dict[str, Any]:
        """For each heartbeat. The time passes only once what was said is heard: the monitor's word may wait."""
        if self._bedside is None:
            return {}
        if not self._worker.has_message:
            self._bedside.advance()
        return self._bedside.brief()

    def close(self) -> None:
        if self._bedside is not None:
            self._bedside.close()
