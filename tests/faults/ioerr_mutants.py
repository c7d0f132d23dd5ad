"""Recorders that are wrong in one place: the campaign must not be met with any of them."""

from brainforge_edge.acquisition.record import Record
from brainforge_edge.recorder.journal import Journal
from brainforge_edge.recorder.segment import SegmentWriter
from tests.faults.edited import Edit

_JOURNAL = "            self._disk.fdatasync(lap.file.fd)\n"
_SEGMENT = "        self._disk.fdatasync(self._fd)\n"


def _again(line: str) -> str:
    """The line once more where it fails."""
    indent = line[: len(line) - len(line.lstrip())]
    return f"{indent}try:\n    {line}{indent}except StorageError:\n    {line}"


MUTANTS: dict[str, tuple[Edit, ...]] = {
    "journal-sync-again": ((Journal.sync, _JOURNAL, _again(_JOURNAL)),),
    "segment-sync-again": ((SegmentWriter.sync, _SEGMENT, _again(_SEGMENT)),),
    "written-first": (
        (
            Record._write,
            "    try:\n        last = ",
            "    if stream.ring.written < upto:\n        stream.ring.set_written(upto)\n"
            "    try:\n        last = ",
        ),
    ),
    "sync-error-swallowed": (
        (Journal.sync, "self._is_broken = True\n            raise", "pass"),
        (SegmentWriter.sync, "        self._has_failed = True\n        raise", "        pass"),
    ),
}
