"""The identity of a recordings root: log id, stream numbers, incarnations. Runs in: acquire process, main thread.

`log_id` is made once with the root, so that a re-imaged box never collides with what it was. Number
and last incarnation of each stream lie in `streams.json`; several acquire processes share it under a
lock. Whatever is handed out is on the disk before the call returns.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from brainforge_edge.core.errors import StorageError
from brainforge_edge.storage.files import Disk

LOG_ID_BYTES = 16


class StreamRow(msgspec.Struct):
    """One stream in `streams.json`."""

    number: int
    incarnation: int = 0
    proof: str = ""  # what the device proved its counter by, for the last incarnation


class RecordingLog:
    """Log id and stream numbers under `recordings`; makes the folder and the id if absent."""

    def __init__(self, recordings: Path, *, disk: Disk, random: Callable[[int], bytes]) -> None:
        self.recordings = recordings
        self._disk = disk
        disk.make_folder(recordings)
        with disk.exclusive(recordings / ".lock"):
            if "log_id" not in disk.names(recordings):
                disk.atomic_write(recordings / "log_id", random(LOG_ID_BYTES))
            self.log_id = read_log_id(recordings, disk)

    def stream_number(self, stream_id: str) -> int:
        """Number of a stream in this log, from 1; given at the first call and kept for ever."""
        with self._table() as streams:
            return _row(streams, stream_id).number

    def open_incarnation(self, stream_id: str, proof: str) -> int:
        """The incarnation of a device's counter: the last one if the device proves that it is the same
        counter (`proof`, such as a boot id, is the same and not empty), else the next, from 1. Synced.
        """
        with self._table() as streams:
            row = _row(streams, stream_id)
            if not proof or row.proof != proof or not row.incarnation:
                row.incarnation += 1
                row.proof = proof
            return row.incarnation

    def streams(self) -> dict[str, int]:
        """Numbers of all streams."""
        with self._table() as streams:
            return {stream_id: row.number for stream_id, row in streams.items()}

    @contextmanager
    def _table(self) -> Iterator[dict[str, StreamRow]]:
        """The table under the lock; what the caller changes in it is on the disk afterwards."""
        with self._disk.exclusive(self.recordings / ".lock"):
            streams = self._read()
            before = msgspec.json.encode(streams)
            yield streams
            if msgspec.json.encode(streams) != before:
                text = msgspec.json.format(msgspec.json.encode(streams), indent=1) + b"\n"
                self._disk.atomic_write(self.recordings / "streams.json", text)

    def _read(self) -> dict[str, StreamRow]:
        path = self.recordings / "streams.json"
        if path.name not in self._disk.names(self.recordings):
            return {}
        try:
            return msgspec.json.decode(self._disk.read_file(path), type=dict[str, StreamRow])
        except msgspec.DecodeError as error:
            raise StorageError(
                "streams_damaged",
                f"{path} cannot be read",
                why=f"it is not the table that was written: {error}",
                remedy="Run brainforge-edge repair --rebuild, which remakes it from the segments",
            ) from error


def _row(streams: dict[str, StreamRow], stream_id: str) -> StreamRow:
    number = max((row.number for row in streams.values()), default=0) + 1
    return streams.setdefault(stream_id, StreamRow(number))


def read_log_id(recordings: Path, disk: Disk) -> bytes:
    """The log id of a recordings root, or StorageError."""
    path = recordings / "log_id"
    data = disk.read_file(path)
    if len(data) != LOG_ID_BYTES:
        raise StorageError(
            "log_id_damaged",
            f"{path} is not a log id",
            why=f"it has {len(data)} bytes instead of {LOG_ID_BYTES}",
            remedy="Restore it from the header of any segment: bytes 24 to 39 of the first chunk",
        )
    return data
