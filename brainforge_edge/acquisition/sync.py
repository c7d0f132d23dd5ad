"""fdatasync of the journal, then `durable`, on the 80 ms grid that all acquire processes share.

Runs in: acquire process, sync thread of a recording. A slow or failing disk stalls this thread
only: `written`, and with it every live feature, does not wait for it.
"""

from brainforge_edge.acquisition.recording import JOURNAL, Recording
from brainforge_edge.core.errors import StorageError


class Sync:
    """Thread body: call `run`, or `turn` by `turn` where a test has the clock."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._period_ns = recording.env.sync_ms * 1_000_000

    def run(self) -> None:
        recording = self._recording
        try:
            while not recording.abort.is_set() and not self.turn():
                now = recording.env.clock.monotonic_ns()
                recording.env.clock.sleep((self._period_ns - now % self._period_ns) / 1e9)
        except Exception as error:  # noqa: BLE001  outermost loop: main ends the process
            recording.crashed = error

    def turn(self) -> bool:
        """One sync; True when the recording is over and all of it durable."""
        recording = self._recording
        drained = recording.drained.is_set()
        if not (self.once() and drained and self._is_clean()):
            return False
        recording.synced.set()
        recording.poke()
        return True

    def once(self) -> bool:
        """One sync; False when it failed and the record thread was told to write again."""
        recording = self._recording
        if recording.rewrite.is_set():
            return False
        with recording.marks:
            if not recording.undurable:
                return True
        start = recording.env.clock.monotonic_ns()
        try:
            position = recording.journal.sync()
        except StorageError as error:
            recording.faults[JOURNAL] = error
            recording.journal.abandon()
            recording.rewrite.set()
            recording.poke()
            return False
        recording.faults.pop(JOURNAL, None)
        recording.syncs.append((recording.env.clock.monotonic_ns() - start) / 1e6)
        with recording.marks:
            while recording.undurable and recording.undurable[0][0] <= position:
                _, stream_id, row = recording.undurable.popleft()
                part = recording.parts[stream_id]
                ring = part.stream.ring
                if part.hold_until > part.archived:
                    continue
                if row > ring.durable:
                    ring.set_durable(row)
        return True

    def _is_clean(self) -> bool:
        recording = self._recording
        with recording.marks:
            return not recording.undurable and not recording.rewrite.is_set()
