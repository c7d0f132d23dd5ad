"""What boxes claim that the store holds: a segment at a time is read back, then signed for or denied. Runs in: ingest, writer thread.

Nothing that a box claims can make this long or large: one claim a log, the newest; a queue of few bytes;
one segment read back a step.
"""

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import msgspec

from brainforge_edge.cloud.store.chunks import MAX_RANGE, ChunkStore
from brainforge_edge.core import log, wire
from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.garbled import GARBLED
from brainforge_edge.security.sign import ATTESTATION, Signer

MOST_SEGMENTS = 16  # of a claim
MOST_SEGMENT_BYTES = 66 * 1024 * 1024  # boxes reserve at most 64 MiB
MOST_CHUNKS = 128 * 1024  # of a segment
MOST_RANGES = 64 * 1024  # … and ranges of its samples
MOST_QUEUED_BYTES = 4 * 1024 * 1024  # of claims, as they came
UNREADABLE = "unreadable"  # the store's disk does not give it back
IMPOSSIBLE = "impossible"  # larger than segments are, or no such numbers
UNSIGNED = "unsigned"  # there is no key to sign with

_decoder = msgspec.msgpack.Decoder(wire.Claim)


@dataclass(slots=True)
class _Waiting:
    node: str
    token: str
    size: int
    segments: deque[wire.ClosedSegment]


class Claims:
    """Claims that wait, by log; `step` deals with one segment."""

    def __init__(
        self,
        store: ChunkStore,
        signer: Signer | None,
        say: Callable[[str, wire.Answer], object],
        *,
        utc_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """`say` tells a node an answer."""
        self.attested = 0
        self.denied: Counter[str] = Counter()
        self._store = store
        self._signer = signer
        self._say = say
        self._utc_ns = utc_ns
        self._waiting: dict[bytes, _Waiting] = {}  # log → claim, the next one first
        self._log = log.get(part="claims")

    @property
    def waiting(self) -> int:
        """Segments that wait to be read back."""
        return sum(len(claim.segments) for claim in self._waiting.values())

    def hear(self, node: str, payload: bytes) -> str:
        """Queue a claim; why it was not, or ""."""
        try:
            claim = _decoder.decode(payload)
        except GARBLED:
            return "malformed_claim"
        if not _is_sound(claim):
            return "malformed_claim"
        if self._store.nodes().get(claim.log_id) != node:
            return "foreign_claim"
        others = (each for log_id, each in self._waiting.items() if log_id != claim.log_id)
        if sum(each.size for each in others) + len(payload) > MOST_QUEUED_BYTES:
            return "too_many_claims"  # asked again later
        # Who asks again has given up what it asked before, and keeps its place.
        self._waiting[claim.log_id] = _Waiting(
            node, claim.token, len(payload), deque(claim.segments)
        )
        return ""

    def step(self) -> None:
        """Answer for the next segment, if any waits."""
        if not self._waiting:
            return
        log_id = next(iter(self._waiting))
        claim = self._waiting.pop(log_id)
        segment = claim.segments.popleft()
        if self._store.nodes().get(log_id) != claim.node:
            return  # another box speaks for the log since
        if claim.segments:
            self._waiting[log_id] = claim  # behind those of other logs
        self._say(claim.node, self._answer(log_id, claim.token, segment))

    def _answer(self, log_id: bytes, token: str, segment: wire.ClosedSegment) -> wire.Answer:
        reason = UNSIGNED if self._signer is None else self._objection(log_id, segment)
        answer = wire.Answer(log_id, token, segment.segment_id, reason=reason)
        if reason or self._signer is None:
            self.denied[reason] += 1
            self._log.warning(
                "segment denied", reason=reason, log_id=log_id.hex(),
                stream=segment.stream_id, segment=segment.segment_id.hex(),
            )  # fmt: skip
            return answer
        self.attested += 1
        said = wire.Attestation(log_id, segment, self._store.generation, self._utc_ns())
        signed = self._signer.sign(ATTESTATION, msgspec.msgpack.encode(said))
        return msgspec.structs.replace(answer, statement=msgspec.msgpack.encode(signed))

    def _objection(self, log_id: bytes, segment: wire.ClosedSegment) -> str:
        if not _is_possible(segment):
            return IMPOSSIBLE
        try:
            return self._store.objection(log_id, segment)
        except (OSError, StorageError) as error:
            self._log.error("segment not read back", error=str(error))
            return UNREADABLE


def _is_sound(claim: wire.Claim) -> bool:
    return (
        len(claim.log_id) == 16
        and len(claim.token) <= 64
        and 1 <= len(claim.segments) <= MOST_SEGMENTS
        and all(len(segment.segment_id) == 16 for segment in claim.segments)
    )


def _is_possible(segment: wire.ClosedSegment) -> bool:
    return (
        len(segment.sha256) == len(segment.head) == 32
        and len(segment.stream_id) <= 64
        and 0 <= segment.product < 2**16
        and 1 <= segment.chunks <= MOST_CHUNKS
        and 1 <= segment.size <= MOST_SEGMENT_BYTES
        and len(segment.ranges) <= min(MOST_RANGES, segment.chunks)
        and all(
            0 <= r.incarnation < 2**62 and 0 <= r.first < r.end <= MAX_RANGE for r in segment.ranges
        )
        and all(_is_behind(before, after) for before, after in pairwise(segment.ranges))
    )


def _is_behind(before: wire.Range, after: wire.Range) -> bool:
    """As boxes write them: no sample is looked for twice."""
    if before.incarnation != after.incarnation:
        return before.incarnation < after.incarnation
    return before.end <= after.first
