"""Which segments may go, which of those go now, and why the others wait. Runs in: agent process, thread `keep`; tools.

Nothing is removed here: recorder/freeing.py does it, and looks at the proof itself.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from brainforge_edge.core.config import RetentionConfig
from brainforge_edge.core.errors import BrainforgeError, StorageError
from brainforge_edge.recorder.attested import AttestedSegment, attestation_of
from brainforge_edge.recorder.catalog import RecordingEntry, list_recordings, segment_sizes
from brainforge_edge.recorder.chain import ATTESTED_FILE, ChainEntry, read_lines
from brainforge_edge.recorder.digest import Rest, no_rest
from brainforge_edge.recorder.freed import Evidence, Freed, judged, read_gone
from brainforge_edge.recorder.freeing import finish_freeing, free_segment
from brainforge_edge.recorder.proofs import Proofs
from brainforge_edge.recorder.signers import Verifiers
from brainforge_edge.security.sign import Signed, Verifier
from brainforge_edge.storage.files import Disk

FOR_GOOD = {"storage.changed", "storage.not_proven"}
_DAY_NS = 86_400 * 1_000_000_000


class Attested(NamedTuple):
    """Proof that the aggregator has a segment, and since when by its clock."""

    signed: Signed
    utc_ns: int


@dataclass(slots=True)
class Holding:
    """A recording as retention sees it."""

    recording: RecordingEntry
    chained: list[ChainEntry]  # segments of its chain that are here
    holds: bool  # its chain
    attested: dict[bytes, Attested]  # segment id → proof, of those
    freed: list[Freed]  # gone, with evidence
    unproven: list[Freed]  # … and without
    unchained: int  # segments that are here and not in the chain
    sizes: dict[str, int]  # of all that are here


def read_holding(
    recording: RecordingEntry,
    *,
    log_id: bytes,
    verifier: Verifier | None,
    verifiers: Verifiers,
    disk: Disk,
) -> Holding:
    """From the recording's own files; nothing is hashed. `verifier`: of what may go; `verifiers`: of what went."""
    folder = recording.folder
    evidence = Evidence(folder, disk, verifiers)
    here = {(stream, path.name) for stream, paths in recording.streams.items() for path in paths}
    chained = [entry for entry in evidence.entries if (entry.stream_id, entry.segment) in here]
    attested = {}
    by_id = {entry.segment_id: entry for entry in chained}
    if verifier is not None and ATTESTED_FILE in disk.names(folder):
        for line in read_lines(folder / ATTESTED_FILE, disk, AttestedSegment):
            entry = by_id.get(line.segment_id)
            if entry is None:
                continue
            said = attestation_of(line.signed, entry, log_id=log_id, verifier=verifier)
            if said is not None:
                attested[line.segment_id] = Attested(line.signed, said.attested_utc_ns)
    known = judged(read_gone(folder, disk), evidence)
    return Holding(
        recording,
        chained,
        evidence.holds,
        attested,
        [each.freed for each in known if not each.fault],
        [each.freed for each in known if each.fault],
        len(here) - len(chained),
        segment_sizes(recording, disk),
    )


def days_left(proof: Attested, keep_days: float, utc_ns: int | None) -> float | None:
    """Until an attested segment may go, 0 or less if it may; None while the box does not know the time."""
    return None if utc_ns is None else keep_days - (utc_ns - proof.utc_ns) / _DAY_NS


def waits(
    holding: Holding, config: RetentionConfig, utc_ns: int | None, undelivered: Collection[bytes]
) -> list[tuple[str, int]]:
    """Why segments that are here are kept, in words, and how many for each reason."""
    words: Counter[str] = Counter()
    if holding.unchained:
        words[_wait_of_all(holding, config) or "not in the chain yet"] += holding.unchained
    for entry in holding.chained:
        why = _wait_of_all(holding, config) or _wait(holding, entry, config, utc_ns, undelivered)
        words[why] += 1
    return words.most_common()


def _wait_of_all(holding: Holding, config: RetentionConfig) -> str:
    if not config.enabled:
        return "retention is off"
    return "" if holding.recording.is_closed else "the recording is open"


def _wait(
    holding: Holding,
    entry: ChainEntry,
    config: RetentionConfig,
    utc_ns: int | None,
    undelivered: Collection[bytes],
) -> str:
    if not holding.holds:
        return "the chain does not hold"
    if entry.segment_id in undelivered:
        return "not delivered"
    proof = holding.attested.get(entry.segment_id)
    if proof is None:
        return "not attested"
    left = days_left(proof, config.keep_days, utc_ns)
    if left is None:
        return "the time is not known"
    if left <= 0:
        return "due"
    n = math.ceil(left)
    return f"kept for {n} more {'day' if n == 1 else 'days'}"


@dataclass(slots=True)
class Outcome:
    """What a look at all recordings came to."""

    freed: dict[str, list[ChainEntry]] = field(default_factory=dict)  # by recording
    errors: list[BrainforgeError] = field(default_factory=list)
    is_full: bool = False  # no room for a line: nothing more is hashed in vain

    def add(self, recording: str, entry: ChainEntry) -> None:
        self.freed.setdefault(recording, []).append(entry)


class Retention:
    """`finish` once after a start, then `once` now and again. `is_over` is asked between two segments."""

    def __init__(
        self,
        recordings: Path,
        config: RetentionConfig,
        *,
        log_id: bytes,
        verifier: Verifier | None,
        disk: Disk,
        utc_ns: Callable[[], int | None],
        is_full: Callable[[], bool],
        rest: Rest = no_rest,
        is_over: Callable[[], bool] = lambda: False,
        on_freed: Callable[[str, list[ChainEntry]], object] = lambda *_: None,
    ) -> None:
        """`is_full`: whether the disk is so full that what is attested goes before its time.

        `on_freed` is told of a recording's segments as soon as `once` has come to the end of that recording.
        """
        self._recordings = recordings
        self._config = config
        self._log_id = log_id
        self._trusted = self._verifier = verifier
        self._verifiers = {} if verifier is None else {verifier.id: verifier}
        self._disk = disk
        self._utc_ns = utc_ns
        self._is_full = is_full
        self._rest = rest
        self._is_over = is_over
        self._on_freed = on_freed
        self._proofs: dict[str, Proofs] = {}  # by recording
        self._refused: dict[
            Path, StorageError
        ] = {}  # FOR_GOOD: not read again before the next start

    def trust(self, verifier: Verifier | None) -> None:
        """Whose word counts from the next `once` on. From any thread."""
        self._trusted = verifier

    def finish(self) -> Outcome:
        """Removals that a crash interrupted, whether or not retention is on now: their line is written."""
        outcome = Outcome()
        for recording in self._listed(outcome):
            try:
                finish_freeing(
                    recording.folder,
                    log_id=self._log_id,
                    verifiers=self._verifiers,
                    disk=self._disk,
                    rest=self._rest,
                )
            except StorageError as error:
                outcome.errors.append(error)
        return outcome

    def once(self) -> Outcome:
        """Free what is due; on a full disk what is attested, the oldest first, until it is not full.

        A recording that cannot be read is told of, and the others go on.
        """
        outcome = Outcome()
        if self._trusted is not self._verifier:
            self._verifier = verifier = self._trusted
            self._verifiers = {} if verifier is None else {verifier.id: verifier}
            self._proofs.clear()
        if not self._config.enabled or self._verifier is None:
            return outcome
        # Oldest first: recordings as they were begun, segments as they were closed.
        found = self._listed(outcome)
        for name in self._proofs.keys() - {recording.name for recording in found}:
            del self._proofs[name]
        found.sort(key=lambda item: ((item.file and item.file.created_utc_ns) or 0, item.name))
        for recording in found:
            try:
                self._free_due(recording, outcome)
                if freed := outcome.freed.get(recording.name):
                    self._on_freed(recording.name, freed)
            except StorageError as error:
                outcome.errors.append(error)
            if self._is_over() or outcome.is_full:
                break
        return outcome

    def _free_due(self, recording: RecordingEntry, outcome: Outcome) -> None:
        for entry, proof in self._attested(recording):
            if self._is_over() or outcome.is_full:
                return
            left = days_left(proof, self._config.keep_days, self._utc_ns())
            if (left is not None and left <= 0) or self._is_full():
                self._free(recording.folder, entry, outcome)

    def _listed(self, outcome: Outcome) -> list[RecordingEntry]:
        return list_recordings(
            self._recordings, self._disk, lambda _, error: outcome.errors.append(error)
        )

    def _attested(self, recording: RecordingEntry) -> list[tuple[ChainEntry, Attested]]:
        """Of what is here."""
        if not recording.is_closed or not recording.streams:
            return []
        proofs = self._proofs.setdefault(
            recording.name, Proofs(recording.folder, self._disk, self._verifiers)
        )
        attested = proofs.attested(self._log_id)
        if not attested or not (evidence := proofs.evidence()).holds:
            return []
        here = {(name, path.name) for name, paths in recording.streams.items() for path in paths}
        return [
            (entry, Attested(proven.signed, proven.said.attested_utc_ns))
            for entry in evidence.entries
            if (proven := attested.get(entry.segment_id)) is not None
            and (entry.stream_id, entry.segment) in here
        ]

    def _free(self, folder: Path, entry: ChainEntry, outcome: Outcome) -> None:
        path = folder / entry.stream_id / entry.segment
        if path in self._refused:
            outcome.errors.append(self._refused[path])
            return
        try:
            # Asked once more: the uplink sets the file aside when the aggregator's store was restored.
            proofs = self._proofs[folder.name]
            proven = proofs.attested(self._log_id).get(entry.segment_id)
            if proven is not None and free_segment(
                folder,
                entry,
                log_id=self._log_id,
                proof=proven.signed,
                verifiers=self._verifiers,
                utc_ns=self._utc_ns(),
                disk=self._disk,
                rest=self._rest,
                proofs=proofs,
            ):
                outcome.add(folder.name, entry)
        except StorageError as error:
            if error.code in FOR_GOOD:
                self._refused[path] = error
            outcome.is_full = error.code == "storage.full"
            outcome.errors.append(error)
