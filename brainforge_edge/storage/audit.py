"""The audit file of a box: who let recorded data go, and whose they are, line by line, each bound to the one before. Runs in: agent process; tools.

The chain shows a line that was changed, put in or taken out, not that lines are missing at the end.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from brainforge_edge.core.garbled import GARBLED
from brainforge_edge.storage.files import Disk
from brainforge_edge.storage.lines import append_line, whole_lines

AUDIT_FILE = "audit.log"  # below the node's root
_LOCK = ".audit.lock"
_FIRST = bytes(32).hex()  # what the first line follows


class AuditLine(msgspec.Struct, frozen=True):
    """One step."""

    before: str  # hex SHA-256 of the line before, as it lies there, without its end
    utc_ns: int | None
    step: str  # "copied", "released", "freed"; "consent_granted", "consent_withdrawn", "participant_corrected"
    recording: str  # "" where it is about none
    facts: dict[str, str | int]


class AuditState(NamedTuple):
    """What a look at the whole file came to."""

    lines: int
    broken: tuple[int, ...]  # numbers of lines, from 1, that do not follow from the one before
    torn: tuple[int, ...]  # … that a power cut tore; the ones behind them say so by following


def add_step(
    root: Path,
    step: str,
    recording: str,
    facts: Mapping[str, str | int],
    *,
    utc_ns: int | None,
    disk: Disk,
) -> None:
    """Append a step durably; any process may, one after another."""
    path = root / AUDIT_FILE
    with disk.exclusive(root / _LOCK):
        lines = whole_lines(path, disk)
        line = AuditLine(
            _digest(lines[-1]) if lines else _FIRST, utc_ns, step, recording, dict(facts)
        )
        append_line(path, msgspec.json.encode(line), disk)


def check_audit(root: Path, disk: Disk) -> AuditState:
    """Whether each line follows from the one before it."""
    lines = whole_lines(root / AUDIT_FILE, disk)
    decoder = msgspec.json.Decoder(AuditLine)
    broken, torn = [], []
    expected = _FIRST
    for number, line in enumerate(lines, 1):
        try:
            if decoder.decode(line).before != expected:
                broken.append(number)
        except GARBLED:
            torn.append(number)
        expected = _digest(line)
    return AuditState(len(lines), tuple(broken), tuple(torn))


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()
