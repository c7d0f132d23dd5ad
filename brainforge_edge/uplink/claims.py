"""Asks the aggregator whether it holds closed segments byte for byte, and keeps what it signed. Runs in: uplink process, pump thread.

One claim is under way at a time. What is denied is not claimed again until this process or the store
begins anew: its reason is for a person.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from brainforge_edge.core import log, topics, wire
from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.garbled import GARBLED
from brainforge_edge.core.retry import backoff
from brainforge_edge.recorder.attested import (
    FREEING_LOCK,
    AttestedSegment,
    add_attested,
    attestation_of,
    read_attested,
    set_aside,
)
from brainforge_edge.recorder.chain import ATTESTED_FILE, CHAIN_FILE, ChainEntry, read_lines
from brainforge_edge.security.sign import Signed, Verifier
from brainforge_edge.storage.files import Disk
from brainforge_edge.uplink.client import Connection
from brainforge_edge.uplink.cursor import Ref
from brainforge_edge.uplink.index import LogIndex

MOST_SEGMENTS = 16  # of a claim
FIRST_PATIENCE_S = 15.0  # for the next answer; twice as long each time that none came
MOST_PATIENCE_S = 600.0
IDLE_S = 2.0  # between looks for something to claim
_NEVER = float("inf")
_signed = msgspec.msgpack.Decoder(Signed)

State = tuple[tuple[int, int], tuple[int, int]]  # size and mtime of `chain` and of `attested`


class _Closed(NamedTuple):
    """A segment that may be claimed."""

    recording: str
    entry: ChainEntry


class Claims:
    """For one log; without a `verifier` nothing is claimed, for nothing that was said could be checked."""

    def __init__(
        self,
        index: LogIndex,
        *,
        node: str,
        log_id: bytes,
        verifier: Verifier | None,
        random: Callable[[int], bytes],
    ) -> None:
        self.attested = 0  # by this process
        self.denied: Counter[str] = Counter()  # segments, by reason
        self._index = index
        self._recordings: Path = index.recordings
        self._disk: Disk = index.disk
        self._node = node
        self._log_id = log_id
        self._verifier = verifier
        self._random = random
        self._seen: dict[str, State] = {}
        self._open: dict[bytes, _Closed] = {}  # by segment id, neither attested nor denied
        self._denied: set[bytes] = set()
        self._asked: set[bytes] = set()  # of the claim under way
        self._token = ""
        self._delays = backoff(FIRST_PATIENCE_S, MOST_PATIENCE_S)
        self._patience_s = FIRST_PATIENCE_S
        self.due = 0.0 if verifier is not None else _NEVER  # the next look, or the end of patience
        self._log = log.get(part="claims")

    def look(self) -> None:
        """Read what was closed since, and what of it was signed for."""
        if self._verifier is None:
            return
        present = {path.parent.name for path in self._recordings.glob(f"*/{CHAIN_FILE}")}
        for recording in sorted(present):
            state = self._state(recording)
            if state != self._seen.get(recording):
                try:
                    self._read(recording, self._verifier)
                except StorageError as error:
                    self._log.warning("chain not readable", error=str(error))
                    continue
                self._seen[recording] = state
        for recording in self._seen.keys() - present:
            del self._seen[recording]
            self._forget(recording)

    def restart(self, now: float) -> None:
        """The aggregator answered to our hello: what was asked before is asked again."""
        if self._verifier is not None:
            self._asked.clear()
            self._delays = backoff(FIRST_PATIENCE_S, MOST_PATIENCE_S)
            self.due = now

    def void(self) -> None:
        """The store has less than it had, or is another: no statement holds any more. Raises StorageError."""
        if paths := sorted(self._recordings.glob(f"*/{ATTESTED_FILE}")):
            # The agent looks at the lines for the last time under this lock: none that is void frees any more.
            with self._disk.exclusive(self._recordings / FREEING_LOCK):
                for path in paths:
                    if set_aside(path.parent, self._disk):
                        self._log.warning("attestations set aside", recording=path.parent.name)
        self._denied.clear()
        self.denied.clear()
        self._asked.clear()
        self._seen.clear()
        self.look()

    def ask(self, connection: Connection, now: float) -> None:
        """Send the next claim, if it is time."""
        if now < self.due:
            return
        claimed = self._next()
        topic = topics.claim(self._node)
        while claimed:
            self._token = self._random(8).hex()
            claim = wire.Claim(self._log_id, self._token, tuple(claimed))
            payload = msgspec.msgpack.encode(claim)
            if connection.fits(topic, len(payload)):
                break
            if len(claimed) == 1:
                self._deny(claimed[0].segment_id, "oversize")
            claimed = claimed[: len(claimed) // 2]
        self._asked = {segment.segment_id for segment in claimed}
        self.due = now + IDLE_S
        if claimed:
            self._patience_s = next(self._delays)
            self.due = now + self._patience_s
            connection.publish(topic, payload, qos=1)

    def answered(self, answer: wire.Answer, generation: int, now: float) -> None:
        """Keep what was signed, if it is what was asked for, of the store as it is now."""
        if answer.answers != self._token or answer.segment_id not in self._asked:
            return
        self._asked.discard(answer.segment_id)
        self._delays = backoff(FIRST_PATIENCE_S, MOST_PATIENCE_S)
        self.due = now + self._patience_s if self._asked else now
        closed = self._open.get(answer.segment_id)
        if closed is None:
            return  # gone from the disk meanwhile
        if not answer.statement:
            self._deny(answer.segment_id, answer.reason[:32] or "denied")
            return
        signed = self._genuine(answer.statement, closed.entry, generation)
        if signed is None:
            self._deny(answer.segment_id, "unproven")
            return
        if self._keep(closed.recording, AttestedSegment(answer.segment_id, signed)):
            del self._open[answer.segment_id]
            self.attested += 1
        else:
            self.due = max(self.due, now + FIRST_PATIENCE_S)

    def _keep(self, recording: str, line: AttestedSegment) -> bool:
        before = self._state(recording)
        try:
            add_attested(self._recordings / recording, line, self._disk)
        except StorageError as error:
            self._log.warning("attestation not kept, will be asked for again", error=str(error))
            return False
        if self._seen.get(recording) == before:  # our own line is no news
            self._seen[recording] = before[0], self._state(recording)[1]
        return True

    def _genuine(self, statement: bytes, entry: ChainEntry, generation: int) -> Signed | None:
        try:
            signed = _signed.decode(statement)
        except GARBLED:
            return None
        assert self._verifier is not None
        said = attestation_of(signed, entry, log_id=self._log_id, verifier=self._verifier)
        return signed if said is not None and said.store_generation == generation else None

    def _next(self) -> list[wire.ClosedSegment]:
        """Segments of which the aggregator said that it has all."""
        found: list[wire.ClosedSegment] = []
        for closed in self._open.values():
            entry = closed.entry
            ref = Ref(closed.recording, entry.stream_id, entry.segment)
            cursor = self._index.delivered(ref, entry.segment_id, entry.size)
            if cursor is not None:
                found.append(
                    wire.ClosedSegment(
                        stream_id=entry.stream_id, product=entry.product,
                        segment_id=entry.segment_id, chunks=entry.chunks, size=entry.size,
                        sha256=entry.sha256, ranges=cursor.receipted, head=entry.head,
                    )
                )  # fmt: skip
            if len(found) == MOST_SEGMENTS:
                break
        return found

    def _deny(self, segment_id: bytes, reason: str) -> None:
        closed = self._open.pop(segment_id)
        self._denied.add(segment_id)
        self.denied[reason] += 1
        self._log.warning(
            "segment not attested", reason=reason, recording=closed.recording,
            stream=closed.entry.stream_id, segment=closed.entry.segment,
        )  # fmt: skip

    def _read(self, recording: str, verifier: Verifier) -> None:
        folder = self._recordings / recording
        entries = read_lines(folder / CHAIN_FILE, self._disk, ChainEntry)
        known = read_attested(folder, entries, self._disk, log_id=self._log_id, verifier=verifier)
        self._forget(recording)
        for entry in entries:
            if entry.segment_id not in known and entry.segment_id not in self._denied:
                self._open[entry.segment_id] = _Closed(recording, entry)

    def _forget(self, recording: str) -> None:
        for segment_id in [key for key, c in self._open.items() if c.recording == recording]:
            del self._open[segment_id]

    def _state(self, recording: str) -> State:
        folder = self._recordings / recording
        return _stat(folder / CHAIN_FILE), _stat(folder / ATTESTED_FILE)


def _stat(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns
