"""The `attested` file of a recording: segments for which the aggregator signed. Runs in: uplink process; read by the agent and by tools.

A line says what it says only while the store holds what it held then: when the aggregator has less, or
says that it was restored, the uplink sets the file aside, and asks anew (docs/formats.md).
"""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from brainforge_edge.core.garbled import GARBLED
from brainforge_edge.core.wire import Attestation, ClosedSegment
from brainforge_edge.recorder.chain import ATTESTED_FILE, ChainEntry, read_lines
from brainforge_edge.security.sign import ATTESTATION, Signed, Verifier
from brainforge_edge.storage.files import Disk
from brainforge_edge.storage.lines import append_line

# Beside the recordings: held by who removes a segment, sets lines aside, or adds to `copied` and `released`.
FREEING_LOCK = ".freeing"

_decoder = msgspec.msgpack.Decoder(Attestation)


class AttestedSegment(msgspec.Struct, frozen=True):
    """One line; binary values are base64 in JSON."""

    segment_id: bytes
    signed: Signed  # an Attestation as msgpack, in the domain "attestation"


def attestation_of(
    signed: Signed, entry: ChainEntry, *, log_id: bytes, verifier: Verifier
) -> Attestation | None:
    """What was signed, if the signature is genuine and it is about exactly this segment of this log."""
    if not verifier.is_genuine(ATTESTATION, signed):
        return None
    try:
        said = _decoder.decode(signed.body)
    except GARBLED:
        return None
    return said if said.log_id == log_id and _is_same(said.segment, entry) else None


def read_attested(
    recording: Path,
    entries: Iterable[ChainEntry],
    disk: Disk,
    *,
    log_id: bytes,
    verifier: Verifier,
) -> dict[bytes, Attestation]:
    """Of the closed segments those that the aggregator holds, by segment id; each signature is checked."""
    by_id = {entry.segment_id: entry for entry in entries}
    found: dict[bytes, Attestation] = {}
    for line in read_lines(recording / ATTESTED_FILE, disk, AttestedSegment):
        entry = by_id.get(line.segment_id)
        if entry is None:
            continue
        said = attestation_of(line.signed, entry, log_id=log_id, verifier=verifier)
        if said is not None:
            found[line.segment_id] = said
    return found


def add_attested(recording: Path, line: AttestedSegment, disk: Disk) -> None:
    """On the disk when this returns."""
    append_line(recording / ATTESTED_FILE, msgspec.json.encode(line), disk)


def set_aside(recording: Path, disk: Disk) -> bool:
    """The lines say nothing about the store of now: kept as `attested.1`, `attested.2` …; False if there were none."""
    names = set(disk.names(recording))
    if ATTESTED_FILE not in names:
        return False
    number = 1
    while f"{ATTESTED_FILE}.{number}" in names:
        number += 1
    disk.rename(recording / ATTESTED_FILE, recording / f"{ATTESTED_FILE}.{number}")
    return True


def _is_same(segment: ClosedSegment, entry: ChainEntry) -> bool:
    return all(
        getattr(segment, name) == getattr(entry, name)
        for name in ("stream_id", "product", "segment_id", "chunks", "size", "sha256", "head")
    )
