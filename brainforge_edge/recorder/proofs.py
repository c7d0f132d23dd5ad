"""What a recording's line files prove, kept in memory. Runs in: agent process, thread `keep`; `brainforge-edge release`.

A file is read again when its inode, size or time changed, and only then: with thousands of segments each
look at one of them would read the lines of all.
"""

from pathlib import Path
from typing import NamedTuple

from brainforge_edge.core.wire import Attestation
from brainforge_edge.recorder.attested import AttestedSegment, attestation_of
from brainforge_edge.recorder.chain import ATTESTED_FILE, CHAIN_FILE, FREED_FILE, read_lines
from brainforge_edge.recorder.freed import (
    COPIED_FILE,
    RELEASED_FILE,
    Evidence,
    Freed,
    Name,
    read_freed,
)
from brainforge_edge.recorder.signers import Verifiers
from brainforge_edge.security.sign import Signed
from brainforge_edge.storage.files import Disk

_State = tuple[tuple[int, int, int], ...]


class Proven(NamedTuple):
    """A genuine line of `attested`."""

    signed: Signed
    said: Attestation


class Proofs:
    """Of one recording; what is returned is as the files are now."""

    def __init__(self, folder: Path, disk: Disk, verifiers: Verifiers) -> None:
        self._folder = folder
        self._disk = disk
        self._verifiers = verifiers
        self._evidence: tuple[_State, Evidence] | None = None
        self._attested: tuple[tuple[_State, bytes], dict[bytes, Proven]] | None = None
        self._freed: tuple[_State, dict[Name, Freed]] | None = None

    def evidence(self) -> Evidence:
        state = self._state(CHAIN_FILE, COPIED_FILE, RELEASED_FILE)
        if self._evidence is None or self._evidence[0] != state:
            self._evidence = state, Evidence(self._folder, self._disk, self._verifiers)
        return self._evidence[1]

    def attested(self, log_id: bytes) -> dict[bytes, Proven]:
        """By segment id; each signature was checked."""
        state = self._state(CHAIN_FILE, ATTESTED_FILE), log_id
        if self._attested is None or self._attested[0] != state:
            self._attested = state, self._read_attested(log_id)
        return self._attested[1]

    def freed(self) -> dict[Name, Freed]:
        """The last line of each segment."""
        state = self._state(FREED_FILE)
        if self._freed is None or self._freed[0] != state:
            lines = read_freed(self._folder, self._disk)
            self._freed = state, {(line.stream_id, line.segment): line for line in lines}
        return self._freed[1]

    def added(self, line: Freed) -> None:
        """This line was appended, and no other since `freed` was asked: nobody else does under the lock."""
        known = self.freed() if self._freed is None else self._freed[1]
        known[line.stream_id, line.segment] = line
        self._freed = self._state(FREED_FILE), known

    def _read_attested(self, log_id: bytes) -> dict[bytes, Proven]:
        if ATTESTED_FILE not in self._disk.names(self._folder):
            return {}  # whatever is wrong with its chain: nothing goes
        by_id = {entry.segment_id: entry for entry in self.evidence().entries}
        found = {}
        for line in read_lines(self._folder / ATTESTED_FILE, self._disk, AttestedSegment):
            entry, verifier = by_id.get(line.segment_id), self._verifiers.get(line.signed.signer)
            if entry is None or verifier is None:
                continue
            said = attestation_of(line.signed, entry, log_id=log_id, verifier=verifier)
            if said is not None:
                found[line.segment_id] = Proven(line.signed, said)
        return found

    def _state(self, *names: str) -> _State:
        return tuple(_stat(self._folder / name) for name in names)


def _stat(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError:
        return -1, -1, -1  # absent; where it cannot be looked at, reading it says why
    return status.st_ino, status.st_size, status.st_mtime_ns
