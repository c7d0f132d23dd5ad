"""The demo's account: does everything that the devices emitted lie in the store, once and unchanged?

Pure: takes what was found at each stage, returns numbers and the differences in words.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec


class Span(NamedTuple):
    """Consecutive samples that lie somewhere: `first` … `first + n - 1` of one incarnation."""

    incarnation: int
    first: int
    n: int

    @property
    def end(self) -> int:
        return self.first + self.n


class NamedGap(NamedTuple):
    """A hole that the recording names, with its cause (`core.block.GapCause`)."""

    n: int
    plus_minus: int
    cause: str


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What was found about one stream; the digests are hex SHA-256 over packed rows in order."""

    stream_id: str
    emitted: int  # samples the emulator's ledger says it produced
    dropped: int  # … and of those, the ones that its FIFO had no room for
    cut: int = 0  # … and the ones that it was told to lose on the link
    acquired: int  # rows that the box put into its ring
    recorded: Sequence[Span]
    stored: Sequence[Span]
    gaps: Sequence[NamedGap]
    recorded_digest: str
    stored_digest: str
    source_of_recorded_digest: str  # the emulator's own rows, recomputed for the same samples
    source_of_stored_digest: str


class StreamAccount(msgspec.Struct, frozen=True, kw_only=True):
    """One stream's account; `differences` is empty if and only if it adds up."""

    stream_id: str
    emitted: int
    acquired: int
    recorded: int
    stored: int
    gaps: int  # samples in named gaps
    lost: int  # samples missing without a reason that the demo asked for
    duplicates: int
    digest_equal: bool
    differences: tuple[str, ...] = ()


def account(evidence: Evidence) -> StreamAccount:
    """Count, compare and say what differs.

    A named gap is no excuse by itself: on a pseudo-terminal nothing is lost on the way, so a gap is
    the box's doing (a decoder that dropped frames, a reader that was too slow) unless the emulator
    was told to cut just as many samples. All others are `lost`.
    """
    recorded, twice_recorded = _coverage(evidence.recorded)
    stored, twice_stored = _coverage(evidence.stored)
    gaps = sum(gap.n for gap in evidence.gaps)
    missing = max(0, evidence.emitted - stored - gaps)
    unexplained = max(0, gaps - evidence.cut)
    lost = missing + max(unexplained, evidence.dropped)
    digest_equal = (
        evidence.recorded_digest == evidence.source_of_recorded_digest
        and evidence.stored_digest == evidence.source_of_stored_digest
        and (evidence.recorded_digest == evidence.stored_digest)
    )
    differences: list[str] = []
    if evidence.emitted == 0:
        differences.append("the device emitted nothing")
    if evidence.emitted != evidence.acquired + gaps:
        differences.append(
            f"emitted {evidence.emitted} is not acquired {evidence.acquired} + gaps {gaps}"
        )
    if evidence.acquired != recorded:
        differences.append(f"acquired {evidence.acquired} is not recorded {recorded}")
    if recorded != stored:
        differences.append(f"recorded {recorded} is not stored {stored}")
    if lost:
        differences.append(f"{lost} samples are lost ({_reasons(evidence, missing)})")
    if twice_recorded:
        differences.append(f"{twice_recorded} samples are recorded twice")
    if twice_stored:
        differences.append(f"{twice_stored} samples are stored twice")
    differences.extend(_digest_differences(evidence))
    return StreamAccount(
        stream_id=evidence.stream_id,
        emitted=evidence.emitted,
        acquired=evidence.acquired,
        recorded=recorded,
        stored=stored,
        gaps=gaps,
        lost=lost,
        duplicates=twice_stored,
        digest_equal=digest_equal,
        differences=tuple(differences),
    )


def verdict(accounts: Iterable[StreamAccount]) -> str:
    """One sentence for people."""
    accounts = list(accounts)
    wrong = [a for a in accounts if a.differences]
    if not accounts:
        return "The account does not add up: no stream was seen."
    if not wrong:
        total = sum(a.stored for a in accounts)
        return f"Every sample is accounted for: {total} emitted, recorded and stored, 0 lost."
    parts = "; ".join(f"{a.stream_id}: {', '.join(a.differences)}" for a in wrong)
    return f"The account does not add up: {parts}."


def _coverage(spans: Sequence[Span]) -> tuple[int, int]:
    """Samples covered at least once, and samples covered again."""
    covered = again = 0
    end: tuple[int, int] | None = None
    for span in sorted(spans):
        if end is None or span.incarnation != end[0]:
            end = (span.incarnation, span.first)
        overlap = min(span.n, max(0, end[1] - span.first))
        again += overlap
        covered += span.n - overlap
        end = (span.incarnation, max(end[1], span.end))
    return covered, again


def _reasons(evidence: Evidence, missing: int) -> str:
    reasons: list[str] = []
    if missing:
        reasons.append(f"{missing} without any trace")
    if evidence.dropped:
        reasons.append(f"{evidence.dropped} dropped by the device, whose buffer was full")
    causes = sorted({gap.cause for gap in evidence.gaps})
    for cause in causes:
        n = sum(gap.n for gap in evidence.gaps if gap.cause == cause)
        reasons.append(f"{n} in gaps with the cause {cause!r}")
    return ", ".join(reasons)


def _digest_differences(evidence: Evidence) -> Iterable[str]:
    if evidence.recorded_digest != evidence.source_of_recorded_digest:
        yield "recorded samples differ from those emitted"
    if evidence.stored_digest != evidence.source_of_stored_digest:
        yield "stored samples differ from those emitted"
    if evidence.recorded_digest != evidence.stored_digest:
        yield "stored samples differ from those recorded"
