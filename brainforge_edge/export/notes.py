"""What an export notes in its recording, so that an erasure finds the rows that it wrote. Runs in: `brainforge-edge export`."""

from pathlib import Path
from typing import Protocol

from brainforge_edge.core.clock import Clock
from brainforge_edge.core.errors import StorageError
from brainforge_edge.recorder.catalog import read_recording
from brainforge_edge.recorder.erasure import participants
from brainforge_edge.recorder.exports import PART, ExportNote, add_note, forget_part
from brainforge_edge.storage.files import Disk


class Notes(Protocol):
    """Told of each file on its way."""

    def begins(self, stream_id: str, part: Path) -> None:
        """Rows of the stream are about to be written in this folder."""
        ...

    def is_whole(self, stream_id: str, file: Path, target: Path) -> None:
        """A file, and where it is about to be moved."""
        ...

    def ended(self, part: Path) -> None:
        """Nothing lies in that folder any more."""
        ...


class NoNotes:
    """Of what is exported where nobody has to find it again."""

    def begins(self, stream_id: str, part: Path) -> None: ...

    def is_whole(self, stream_id: str, file: Path, target: Path) -> None: ...

    def ended(self, part: Path) -> None: ...


class RecordingNotes:
    """In the recording's `exports.json`; `failed` says why one could not be written there."""

    def __init__(self, recording: Path, file_format: str, *, clock: Clock, disk: Disk) -> None:
        self._recording = recording
        self._format = file_format
        self._clock = clock
        self._disk = disk
        self.failed: StorageError | None = None

    def begins(self, stream_id: str, part: Path) -> None:
        self._add(PART, stream_id, part, size=0, mtime_ns=0)

    def is_whole(self, stream_id: str, file: Path, target: Path) -> None:
        found = file.stat()
        self._add(self._format, stream_id, target, size=found.st_size, mtime_ns=found.st_mtime_ns)

    def ended(self, part: Path) -> None:
        try:
            forget_part(self._recording, part.absolute(), self._disk)
        except (
            StorageError
        ) as error:  # it names a folder that is not there: an erasure passes it by
            self.failed = self.failed or error

    def _add(
        self, file_format: str, stream_id: str, path: Path, *, size: int, mtime_ns: int
    ) -> None:
        try:
            segments = read_recording(self._recording, self._disk).streams[stream_id]
            note = ExportNote(
                path=str(path.absolute()),
                format=file_format,
                stream_id=stream_id,
                participants=participants(segments, self._disk),
                utc_ns=self._clock.utc_ns(),
                size=size,
                mtime_ns=mtime_ns,
            )
            add_note(self._recording, note, self._disk)
        except StorageError as error:  # a recording on a disk that is read only, say
            self.failed = self.failed or error
