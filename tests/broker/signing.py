"""A site's signing key, and closed segments in the chain of their recording."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import msgspec

from brainforge_edge.core import topics
from brainforge_edge.core.wire import ClosedSegment, Range
from brainforge_edge.recorder.chain import CHAIN_FILE, NO_HEAD, ChainEntry, head_after, read_lines
from brainforge_edge.recorder.chunk import Head, read_head
from brainforge_edge.security.sign import Signer, Verifier, acknowledging
from brainforge_edge.security.signfiles import make_signing_pair, signer_at, verifier_at
from brainforge_edge.storage.files import SystemDisk
from brainforge_edge.storage.lines import append_line
from tests.broker.conftest import Site

DISK = SystemDisk()


class Keys(NamedTuple):
    """Where a pair lies."""

    folder: Path

    @property
    def private(self) -> Path:
        return self.folder / "signer.key"

    @property
    def public(self) -> str:
        return str(self.folder / "signer.pem")

    @property
    def signer(self) -> Signer:
        return signer_at(self.private)

    @property
    def verifier(self) -> Verifier:
        return verifier_at(Path(self.public))


def keys(site: Site, name: str = "signing") -> Keys:
    folder = site.root / name
    folder.mkdir()
    make_signing_pair(folder, DISK.write_new)
    return Keys(folder)


def signed_for(signer: Signer, topic: str, word: msgspec.Struct) -> bytes:
    """A word as the owner of this key would say it there."""
    return msgspec.msgpack.encode(signer.sign(acknowledging(topic), msgspec.msgpack.encode(word)))


def heads(path: Path) -> list[tuple[int, Head]]:
    """Chunks of a closed segment by their offset."""
    data = path.read_bytes()
    found, at = [], 0
    while at < len(data):
        found.append((at, read_head(data[at:])))
        at += found[-1][1].total_bytes
    return found


def close(recording: Path) -> list[ChainEntry]:
    """Put all segments of a recording into its chain, as the agent does when they are closed."""
    known = read_lines(recording / CHAIN_FILE, DISK, ChainEntry)
    names = {(entry.stream_id, entry.segment) for entry in known}
    for path in sorted(recording.glob("*/*.seg")):
        if (path.parent.name, path.name) in names:
            continue
        first, sha256 = heads(path)[0][1], hashlib.sha256(path.read_bytes()).digest()
        head = known[-1].head if known else NO_HEAD
        size = path.stat().st_size
        entry = ChainEntry(
            stream_id=path.parent.name, segment=path.name, segment_id=first.segment_id,
            product=0, chunks=len(heads(path)), size=size, sha256=sha256,
            head=head_after(head, segment_id=first.segment_id, size=size, sha256=sha256),
        )  # fmt: skip
        append_line(recording / CHAIN_FILE, msgspec.json.encode(entry), DISK)
        known.append(entry)
    return known


def claimed(recording: Path, entry: ChainEntry) -> ClosedSegment:
    """A chain entry as it is claimed."""
    chunks = heads(recording / entry.stream_id / entry.segment)
    ranges = tuple(Range(h.incarnation, h.seq, h.end) for _, h in chunks if h.n_samples)
    fields = {name: getattr(entry, name) for name in entry.__struct_fields__ if name != "segment"}
    return ClosedSegment(**fields, ranges=ranges)


ACK_LOG = topics.ack("bed-1", topics.LOG)
