"""What lies where after a demo: ledgers, the box's segments, the aggregator's store.

Runs in: the demo process, main thread, after all others have ended. Reads chunk by chunk, so that an
hour needs no more memory than a minute.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from brainforge_edge.cli.account import Evidence, NamedGap, Span
from brainforge_edge.cli.demo.plan import Plan
from brainforge_edge.cli.demo.sources import Source, read_ledger
from brainforge_edge.cloud.store.reader import StoreReader
from brainforge_edge.codec import registry
from brainforge_edge.codec.packed import pack_rows
from brainforge_edge.core.stream import Codec, Dtype
from brainforge_edge.recorder.chunk import Opener
from brainforge_edge.recorder.keyfile import KEYS_FILE
from brainforge_edge.recorder.keyring import Keyring, in_folders
from brainforge_edge.recorder.reader import iter_chunks, read_segment
from brainforge_edge.security.keystore import FileKeyStore
from brainforge_edge.storage.files import SystemDisk

_BESIDE = "-residual"  # told between samples: no ledger holds what it was

Rows = tuple[Span, NDArray[Any]]


class Located(NamedTuple):
    """A chunk of samples in a segment of the box."""

    span: Span
    segment: Path
    offset: int
    end: int


class Comparison(NamedTuple):
    """Rows that were found, and the emulator's own for the same samples."""

    spans: list[Span]
    digest: str
    source_digest: str


def collect(plan: Plan, acquired: Mapping[str, int]) -> Iterator[Evidence]:
    """Evidence of every stream of samples that the daemon or the box's disk knows."""
    streams = stream_folders(plan.recordings)
    devices = tuple(f"{device.name}-" for device in plan.devices)
    known = sorted(
        name
        for name in {*streams, *acquired}
        if name.startswith(devices) and not name.endswith(_BESIDE)
    )
    for stream_id in known:
        yield _evidence(plan, stream_id, streams.get(stream_id, []), acquired.get(stream_id, 0))


def stream_folders(recordings: Path) -> dict[str, list[Path]]:
    """Folders of segments, by stream."""
    folders: dict[str, set[Path]] = {}
    for segment in recordings.glob("*/*/*.seg"):
        folders.setdefault(segment.parent.name, set()).add(segment.parent)
    return {stream_id: sorted(found) for stream_id, found in folders.items()}


def recorded_rows(recordings: Path) -> dict[str, int]:
    """Rows in the box's segments, by stream."""
    counted = {
        stream_id: sum(located.span.n for located in _locate(folders)[0])
        for stream_id, folders in stream_folders(recordings).items()
    }
    return {stream_id: rows for stream_id, rows in counted.items() if rows}


def _evidence(plan: Plan, stream_id: str, folders: list[Path], acquired: int) -> Evidence:
    device = next(d for d in plan.devices if stream_id.startswith(f"{d.name}-"))
    ledger = read_ledger(plan.ledger(device), stream_id.removeprefix(f"{device.name}-"))
    source = ledger.source()
    dtype = _dtype(folders)
    located, gaps = _locate(folders)
    recorded = _compare(_recorded(located, _box_opener(plan)), source, dtype)
    stored = _compare(_stored(plan, stream_id), source, dtype)
    return Evidence(
        stream_id=stream_id,
        emitted=ledger.emitted,
        dropped=ledger.dropped,
        acquired=acquired,
        recorded=recorded.spans,
        stored=stored.spans,
        gaps=gaps,
        recorded_digest=recorded.digest,
        stored_digest=stored.digest,
        source_of_recorded_digest=recorded.source_digest,
        source_of_stored_digest=stored.source_digest,
    )


def _locate(folders: Iterable[Path]) -> tuple[list[Located], list[NamedGap]]:
    """Chunks of samples in the order of their samples, and the gaps that they name."""
    found: list[Located] = []
    gaps: list[NamedGap] = []
    for folder in folders:
        for segment in sorted(folder.glob("*.seg")):
            for whole in iter_chunks(segment):
                head = whole.head
                if head.codec >= Codec.DESCRIPTOR or head.product != 0:
                    continue
                span = Span(head.incarnation, head.seq, head.n_samples)
                found.append(Located(span, segment, whole.offset, whole.end))
                gap = whole.chunk().extension.get("gap") if head.extension_bytes else None
                if gap is not None:
                    gaps.append(NamedGap(int(gap[0]), int(gap[1]), str(gap[3])))
    return sorted(found), gaps


def _box_opener(plan: Plan) -> Opener:
    """With the box's own key: as whoever stands at it could."""
    folders = [path.parent for path in plan.recordings.glob(f"*/{KEYS_FILE}")]
    return Keyring(FileKeyStore(plan.box_keys), in_folders(folders, SystemDisk())).opened


def _recorded(chunks: Iterable[Located], opened: Opener) -> Iterator[Rows]:
    for located in chunks:
        for whole in iter_chunks(located.segment, located.offset, located.end):
            chunk = opened(whole.chunk())
            rows = registry.decode(
                chunk.codec, chunk.body, Dtype(chunk.dtype), chunk.n_samples, chunk.n_channels
            )
            yield located.span, rows


def _stored(plan: Plan, stream_id: str) -> Iterator[Rows]:
    """With the aggregator's key."""
    private = FileKeyStore(plan.cloud_keys)
    reader = StoreReader(plan.cloud, decode=registry.decode, pack=pack_rows, private=private)
    try:
        for stream in reader.streams():
            if stream.stream_id == stream_id and stream.product == 0:
                for part, rows in reader.iter_rows(stream.log_id, stream_id):
                    yield Span(part.incarnation, part.first, part.end - part.first), rows
    finally:
        reader.close()


def _compare(pieces: Iterable[Rows], source: Source, dtype: Dtype) -> Comparison:
    spans: list[Span] = []
    found, original = hashlib.sha256(), hashlib.sha256()
    for span, rows in pieces:
        spans.append(span)
        found.update(pack_rows(rows, dtype))
        original.update(pack_rows(source(span.first, span.n), dtype))
    return Comparison(spans, found.hexdigest(), original.hexdigest())


def _dtype(folders: Iterable[Path]) -> Dtype:
    for folder in folders:
        for segment in sorted(folder.glob("*.seg")):
            descriptor = read_segment(segment).descriptor
            if descriptor is not None:
                return descriptor.info.dtype
    return Dtype.I24
