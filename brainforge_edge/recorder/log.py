"""The identity of a recordings root: log id, stream numbers, incarnations. Runs in: acquire process, main thread.

`log_id` is made once with the root, so that a re-imaged box never collides with what it was. Number
and last incarnation of each stream lie in `streams.json`; several acquire processes share it under a
lock. Whatever is handed out is on the disk before the call returns.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.garbled import GARBLED
from brainforge_edge.storage.files import Disk

LOG_ID_BYTES = 16
STREAMS_FILE = "streams.json"
# Given out, perhaps, and known to a ring, but to no segment: a remade table leaves them out.
UNSEEN_INCARNATIONS = 1000


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
            streams = _read(self.recordings, self._disk)
            before = msgspec.json.encode(streams)
            yield streams
            if msgspec.json.encode(streams) != before:
                _write(self.recordings, streams, self._disk)


def remake_streams(
    recordings: Path, rebuilt: Mapping[str, Mapping[str, int]], disk: Disk
) -> list[str] | None:
    """Remake `streams.json` of a root whose journals are archived; None if it is whole, else its streams.

    `rebuilt` is what `catalog.rebuilt_streams` read in the segments: numbers; the incarnations go on well beyond the last one that has rows.
    """
    names = disk.names(recordings)
    if "log_id" not in names:
        return None  # recordings that were copied here have no numbers to give out
    with disk.exclusive(recordings / ".lock"):
        try:
            known = _read(recordings, disk)
        except StorageError as error:
            if error.code != "storage.streams_damaged":
                raise
            known = {}
        if known or not rebuilt:
            return None
        rows = {
            stream_id: StreamRow(row["number"], row["incarnation"] + UNSEEN_INCARNATIONS)
            for stream_id, row in rebuilt.items()
        }
        _write(recordings, rows, disk)
        return sorted(rows)


def _read(recordings: Path, disk: Disk) -> dict[str, StreamRow]:
    path = recordings / STREAMS_FILE
    if path.name not in disk.names(recordings):
        return {}
    try:
        return msgspec.json.decode(disk.read_file(path), type=dict[str, StreamRow])
    except GARBLED as error:
        raise StorageError(
            "streams_damaged",
            f"{path} cannot be read",
            why=f"it is not the table that was written: {error}",
            remedy=f"Stop the daemon and run brainforge-edge repair {recordings}, "
            "which remakes it from the segments",
        ) from error


def _write(recordings: Path, streams: dict[str, StreamRow], disk: Disk) -> None:
    text = msgspec.json.format(msgspec.json.encode(streams), indent=1) + b"\n"
    disk.atomic_write(recordings / STREAMS_FILE, text)


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


def node_root(recording: Path, disk: Disk) -> Path | None:
    """The node's root that a recording lies below; None for one that lies elsewhere, a copy say."""
    return recording.parent.parent if "log_id" in disk.names(recording.parent) else None
