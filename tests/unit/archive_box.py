"""The real record, sync and archive bodies of one recording, taken in turn: one thread, a clock that is set."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from brainforge_edge.acquisition.archive import Archive
from brainforge_edge.acquisition.continuity import Continuity
from brainforge_edge.acquisition.record import Record
from brainforge_edge.acquisition.recording import Environment, Part, Recording
from brainforge_edge.acquisition.stream import AcquiredStream
from brainforge_edge.acquisition.sync import Sync
from brainforge_edge.core.block import BlockFlag, SampleBlock
from brainforge_edge.core.stream import ChannelInfo, Dtype, StreamInfo
from brainforge_edge.recorder.catalog import RecordingFile, write_recording_file
from brainforge_edge.recorder.journal import Journal
from brainforge_edge.recorder.reader import Whole, iter_chunks, scan
from brainforge_edge.recorder.recover import recover_device, repair_recording
from brainforge_edge.recorder.verify import StreamAccount, verify_recording
from brainforge_edge.rings.ring import SampleRing
from brainforge_edge.storage.files import Disk
from tests.unit.recorder_box import decode, encode
from tests.unit.recorder_faulty_disk import UnsyncedDisk
from tests.unit.recorder_material import LOG_ID, seeded

SFREQ = 1000.0  # chunks of 1 s: several between two syncs
FAST = StreamInfo("dev-fast", "dev", SFREQ, Dtype.I16, (ChannelInfo("c0"),))
CHUNK_BYTES = 2200  # of noise, about
SEGMENT_BYTES = 72_000 + 11 * CHUNK_BYTES  # closed after a dozen chunks


def noise(first: int, n: int) -> np.ndarray:
    """A function of the row's index that no codec shortens."""
    index = np.arange(first, first + n, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return (index >> np.uint64(40)).astype(np.uint16).view(np.int16)[:, None].copy()


class SetClock:
    def __init__(self) -> None:
        self.now_ns = 1_000_000_000

    def monotonic_ns(self) -> int:
        return self.now_ns

    def utc_ns(self) -> int | None:
        return None

    def sleep(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


@dataclass
class ArchiveBox:
    """`start`, `seconds`, `finish`, and always `close`."""

    root: Path
    ring_folder: Path
    disk: Disk
    ring_s: float = 64.0
    journal_bytes: int = 30_000  # 15 s a file
    announced: dict[str, int] = field(default_factory=dict)  # segment → bytes that may be delivered
    heard: list[tuple[str, int]] = field(default_factory=list)  # the same, one by one
    archived: list[int] = field(default_factory=list)  # rows, after each second

    def __post_init__(self) -> None:
        self.ring_folder.mkdir()
        path = self.ring_folder / "fast.ring"
        ring = SampleRing.create(path, FAST, seconds=self.ring_s)
        self.clock = SetClock()
        self.stream = AcquiredStream(FAST, 1, ring, Continuity(SFREQ, lambda _: 1), path)
        self.part = Part(self.stream, first=0, journaled=0, archived=0)

    def start(self) -> None:
        random = seeded(3)
        env = Environment(
            recordings=self.root, node="node-1", log_id=LOG_ID, boot_id="boot-1", disk=self.disk,
            clock=self.clock, random=random, sync_ms=80, segment_bytes=SEGMENT_BYTES,
            journal_s=10.0, archived=self._hear,
        )  # fmt: skip
        journal = Journal.create(
            self.root / "rec-1" / "dev.journal", streams={1: FAST}, log_id=LOG_ID,
            file_bytes=self.journal_bytes, disk=self.disk, random=random,
            identity=env.identity("rec-1", None),
        )  # fmt: skip
        self.stream.ring.recording_row = 0
        parts = {FAST.stream_id: self.part}
        self.recording = Recording("rec-1", "dev", parts, journal, env, lambda _: None)
        self.record = Record(self.recording)
        self.sync = Sync(self.recording)
        self.archive = Archive(self.recording)

    def _hear(self, recording: str, stream_id: str, segment: str, end: int) -> None:
        assert (recording, stream_id) == ("rec-1", FAST.stream_id)
        self.announced[segment] = end
        self.heard.append((segment, end))

    def seconds(self, n: int, *, records: bool = True, archives: bool = True) -> None:
        """Acquire for so long; each thread has its turn once a second."""
        for _ in range(n):
            head = self.stream.ring.head
            flags = BlockFlag(0) if head else BlockFlag.FIRST
            block = SampleBlock(
                FAST.stream_id, 1, head, self.clock.now_ns, noise(head, 1000), flags
            )
            assert self.stream.ring.push(block) == head + 1000
            self.stream.last_push_ns = self.clock.now_ns = self.clock.now_ns + 1_000_000_000
            if records:
                self.record.turn()
                self.sync.once()
            while archives and self.archive.step(is_last=False):
                pass
            self.archived.append(self.part.archived)

    def finish(self) -> None:
        """As a recording is stopped."""
        self.recording.close({FAST.stream_id: self.stream.ring.head})
        while not self.sync.once():
            self.record.turn()
        self.record.turn()
        assert self.sync.once()
        self.recording.synced.set()
        self.archive.run()
        if self.recording.crashed is not None:
            raise self.recording.crashed
        assert self.recording.finished.is_set()

    def close(self) -> None:
        self.stream.ring.close()


def recover(root: Path) -> None:
    """As the next acquire process does."""
    recover_device(root, "dev", encode=encode, disk=UnsyncedDisk(), random=seeded(9))


def repair(root: Path) -> None:
    """As `brainforge-edge repair` does."""
    repair_recording(root / "rec-1", encode=encode, disk=UnsyncedDisk(), random=seeded(9))


def account(root: Path) -> StreamAccount:
    disk = UnsyncedDisk()
    write_recording_file(root, RecordingFile("rec-1", None, "node-1", closed=True), disk)
    found = verify_recording(root / "rec-1", decode=decode, disk=disk)
    assert not found.problems
    (stream,) = found.streams
    return stream


def check_stored(root: Path, at_least: int, at_most: int) -> None:
    """Rows from the first on, each once, as they were; and nothing in the files that is not whole."""
    stream = account(root)
    assert stream.is_clean, stream
    assert not stream.gaps
    (span,) = stream.spans
    assert span.first == 0
    assert at_least <= span.end <= at_most
    for path in sorted((root / "rec-1" / FAST.stream_id).glob("*.seg")):
        for whole in iter_chunks(path):
            if whole.head.n_samples:
                rows = np.frombuffer(decode(whole.chunk()), dtype="<i2")[:, None]
                np.testing.assert_array_equal(rows, noise(whole.head.seq, whole.head.n_samples))


def check_announced(root: Path, announced: dict[str, int]) -> None:
    """What a subscriber was told of lies there whole, whatever happened since."""
    for segment, end in announced.items():
        path = root / "rec-1" / FAST.stream_id / segment
        pieces = list(scan(path, end=end))
        assert all(isinstance(piece, Whole) for piece in pieces), (segment, pieces)
