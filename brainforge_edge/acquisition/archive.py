"""Journalled rows → chunks → segments; only what is synced there gives its journal space back.

Runs in: acquire process, archive thread of a recording. May fall behind: the record thread never
waits for it.
"""

from brainforge_edge.acquisition.recording import JOURNAL, Recording
from brainforge_edge.acquisition.streamarchive import StreamArchive
from brainforge_edge.core.errors import StorageError

PAUSE_S = 0.05


class Archive:
    """Thread body: call `run`, or `turn` by `turn` where a test has the clock."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._streams = [
            StreamArchive(recording, part, self._release) for part in recording.parts.values()
        ]

    def run(self) -> None:
        recording = self._recording
        try:
            while not recording.abort.is_set():
                if self.turn():
                    return
            self.close()  # as far as it goes: the journal keeps the rest
        except Exception as error:  # noqa: BLE001  outermost loop: main ends the process
            recording.crashed = error

    def turn(self) -> bool:
        """Archive what is due, or pause; True when the recording is over and all of it archived."""
        recording = self._recording
        is_last = recording.synced.is_set()
        if self.step(is_last=is_last):
            return False
        if is_last and self.close():
            try:
                recording.journal.close()
            except StorageError as error:
                # All in it is archived: the next recovery removes it.
                recording.faults[JOURNAL] = error
            recording.finished.set()
            return True
        recording.env.clock.sleep(PAUSE_S)
        return False

    def step(self, *, is_last: bool) -> bool:
        """A chunk of each stream at most; whether there may be more to do at once."""
        went_on = [stream.step(is_last=is_last) for stream in self._streams]
        return any(went_on)

    def close(self) -> bool:
        """Sync and close all files; False if something must be archived once more."""
        are_closed = [stream.close() for stream in self._streams]
        return all(are_closed)

    def _release(self) -> None:
        """Give back journal space: every entry whose rows lie in synced segments."""
        recording = self._recording
        position = None
        while recording.unreleased:
            at, stream_id, row = recording.unreleased[0]
            if recording.parts[stream_id].archived < row:
                break
            recording.unreleased.popleft()
            position = at
        if position is not None:
            recording.journal.release(position)
