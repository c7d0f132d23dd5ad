"""What the recorder holds of a session, for its summary. Runs in: agent process, a thread of its own: a night is long."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.stream import Codec
from brainforge_edge.recorder.catalog import read_recording
from brainforge_edge.recorder.chunk import ChunkFlag, Head, unpack
from brainforge_edge.recorder.cut import gap_of
from brainforge_edge.recorder.reader import Located, iter_heads
from brainforge_edge.sessions.summary import StreamAccount
from brainforge_edge.storage.files import Disk


class Held(NamedTuple):
    """Of one recording."""

    streams: tuple[StreamAccount, ...]
    markers: int


def held_of(folder: Path, devices: Iterable[str], disk: Disk) -> Held:
    """From the heads of its chunks; bodies are not read, so it needs no key. What cannot be read is None."""
    try:
        segments = read_recording(folder, disk).streams
    except StorageError:
        return Held((), 0)
    owners = sorted(devices, key=len, reverse=True)
    streams = []
    markers = 0
    for stream_id, paths in sorted(segments.items()):
        device = next((name for name in owners if stream_id.startswith(f"{name}-")), "")
        try:
            account, n_markers = _account(stream_id, device, paths, disk)
        except (StorageError, ValueError):
            account, n_markers = (
                StreamAccount(stream_id=stream_id, device=device, n_samples=None),
                0,
            )
        markers += n_markers
        if device:
            streams.append(account)
    return Held(tuple(streams), markers)


def _account(
    stream_id: str, device: str, paths: tuple[Path, ...], disk: Disk
) -> tuple[StreamAccount, int]:
    samples = markers = 0
    sfreq = 0.0
    gaps: list[tuple[int, int]] = []
    for path in paths:
        for located in iter_heads(path, disk=disk):
            head = located.head
            if head.codec == Codec.MARKERS:
                markers += head.n_samples
            if not _holds_rows(head):
                continue
            samples += head.n_samples
            sfreq = head.sfreq
            if head.flags & ChunkFlag.GAP_BEFORE:
                gaps.append(_gap(path, located, disk))
    account = StreamAccount(
        stream_id=stream_id, device=device, sfreq=sfreq, n_samples=samples, gaps=tuple(gaps)
    )
    return account, markers


def _holds_rows(head: Head) -> bool:
    return head.codec < Codec.DESCRIPTOR and not head.product


def _gap(path: Path, located: Located, disk: Disk) -> tuple[int, int]:
    """How large the gap before a chunk is, and by how much that may be wrong: its extension says so."""
    fd = disk.open(path, "read")
    try:
        chunk = unpack(disk.pread(fd, located.head.total_bytes, located.offset))
    finally:
        disk.close(fd)
    gap = gap_of(chunk)
    return (0, 0) if gap is None else (gap.n, gap.plus_minus)
