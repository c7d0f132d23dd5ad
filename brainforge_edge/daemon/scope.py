"""Whom a recording is for, and who waits for a worker's answer about it. Runs in: supervisor, its asyncio loop."""

import asyncio
from typing import NamedTuple

from brainforge_edge.core import ipc
from brainforge_edge.daemon.child import Child


class Scope(NamedTuple):
    """Whom the recording of a session is for; any other one is for all devices of the box."""

    worn: dict[str, str]  # device → pseudonym
    since_ns: int  # box clock: rows before it do not belong to it


class Waiting(NamedTuple):
    """A worker was asked to open or close a recording; several may wait for its one answer."""

    child: Child
    recording: str
    is_close: bool
    future: "asyncio.Future[ipc.RecordingState]"

    def is_answered(self, child: Child, message: ipc.RecordingState) -> bool:
        """That it opened, as it was asked before, says nothing to who waits for the end."""
        is_its = child is self.child and message.recording == self.recording
        return is_its and not (self.is_close and message.is_open) and not self.future.done()
