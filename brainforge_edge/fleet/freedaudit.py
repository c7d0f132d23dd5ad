"""Says in the audit file what retention freed, and what a process that died could not say any more. Runs in: agent process, thread `keep`."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.garbled import GARBLED
from brainforge_edge.recorder.catalog import list_recordings
from brainforge_edge.recorder.freed import read_gone
from brainforge_edge.storage.audit import AUDIT_FILE, AuditLine, add_step
from brainforge_edge.storage.files import Disk
from brainforge_edge.storage.lines import whole_lines

_PROOF = "attestation"


def facts_of(sizes: Sequence[int]) -> dict[str, str | int]:
    """Of segments of these sizes."""
    return {"segments": len(sizes), "bytes": sum(sizes), "proof": _PROOF}


def catch_up(
    root: Path,
    disk: Disk,
    utc_ns: Callable[[], int | None],
    on_error: Callable[[str, StorageError], object],
) -> None:
    """A line for each recording whose `freed` tells of more segments than the audit file does."""
    segments, size = _audited(root, disk)
    for recording in list_recordings(root / "recordings", disk, on_error):
        try:
            gone = [line.size for line in read_gone(recording.folder, disk) if line.attestation]
        except StorageError as error:
            on_error(recording.name, error)
            continue
        missing = len(gone) - segments[recording.name]
        if missing > 0:
            behind = {"segments": missing, "bytes": max(0, sum(gone) - size[recording.name])}
            facts = facts_of(gone) | behind
            add_step(root, "freed", recording.name, facts, utc_ns=utc_ns(), disk=disk)


def _audited(root: Path, disk: Disk) -> tuple[Counter[str], Counter[str]]:
    """Segments and bytes by recording."""
    decoder = msgspec.json.Decoder(AuditLine)
    segments: Counter[str] = Counter()
    size: Counter[str] = Counter()
    for text in whole_lines(root / AUDIT_FILE, disk):
        try:
            line = decoder.decode(text)
        except GARBLED:
            continue  # torn by a power cut: what it said is said once more
        if line.step == "freed" and line.facts.get("proof") == _PROOF:
            segments[line.recording] += int(line.facts.get("segments", 0))
            size[line.recording] += int(line.facts.get("bytes", 0))
    return segments, size
