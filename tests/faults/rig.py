"""One stream of one device in this process: a paced pusher, the three threads of a recording, any Disk."""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from brainforge_edge.acquisition.archive import Archive
from brainforge_edge.acquisition.continuity import Continuity
from brainforge_edge.acquisition.record import Record
from brainforge_edge.acquisition.recording import Environment, Part, Recording
from brainforge_edge.acquisition.stream import AcquiredStream
from brainforge_edge.acquisition.sync import Sync
from brainforge_edge.core.block import SampleBlock
from brainforge_edge.core.clock import SystemClock, boot_id
from brainforge_edge.core.stream import ChannelInfo, Dtype, StreamInfo
from brainforge_edge.recorder.journal import Journal
from brainforge_edge.rings.ring import SampleRing
from brainforge_edge.storage.files import Disk

STREAM = "bench-mag"
FRAME = 8


def stream_info(n_channels: int = 306, sfreq: float = 1000.0) -> StreamInfo:
    channels = tuple(ChannelInfo(f"c{i}", "mag", "T", 1e-15) for i in range(n_channels))
    return StreamInfo(STREAM, "bench", sfreq, Dtype.I24, channels)


def rows(first: int, n: int, n_channels: int) -> np.ndarray:
    """A pure function of the index: sample index in channel 0, noise of a few bits elsewhere."""
    index = np.arange(first, first + n, dtype=np.int64)[:, None]
    column = np.arange(n_channels, dtype=np.int64)[None, :]
    mixed = (index * 2654435761 + column * 40503) & 0xFFFFFFFF
    mixed ^= mixed >> 13
    data = ((mixed * 2246822519 >> 7) & 0xFFF).astype(np.int32) - 2048
    data[:, 0] = (index[:, 0] & 0x7FFFFF).astype(np.int32)
    return np.ascontiguousarray(data)


@dataclass
class Rig:
    """`start`, `push_for`, `finish`. `lags`: rows between head and written, seen at each push."""

    root: Path
    ring_folder: Path
    disk: Disk
    record: Callable[[Recording], Record] = Record
    sync: Callable[[Recording], Sync] | None = Sync
    archive: Callable[[Recording], Archive] = Archive
    n_channels: int = 306
    ring_s: float = 30.0
    segment_bytes: int = 16 * 1024 * 1024
    journal_s: float = 10.0
    lags: list[int] = field(default_factory=list)
    durable_lags: list[int] = field(default_factory=list)
    recording: Recording | None = None
    threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        info = stream_info(self.n_channels)
        path = self.ring_folder / f"{STREAM}.ring"
        ring = SampleRing.create(path, info, seconds=self.ring_s)
        self.stream = AcquiredStream(info, 1, ring, Continuity(info.sfreq, lambda _: 1), path)
        env = Environment(
            recordings=self.root / "recordings", node="bench", log_id=b"L" * 16, boot_id=boot_id(),
            disk=self.disk, clock=SystemClock(), random=os.urandom, sync_ms=80,
            segment_bytes=self.segment_bytes, journal_s=self.journal_s,
            archived=lambda *_: None,
        )  # fmt: skip
        self.disk.make_folder(self.root / "recordings" / "r1")
        journal = Journal.create(
            self.root / "recordings" / "r1" / "bench.journal",
            streams={1: info}, log_id=env.log_id,
            file_bytes=round(self.journal_s * info.row_bytes * info.sfreq),
            disk=self.disk, random=os.urandom, identity=env.identity("r1", None),
        )  # fmt: skip
        ring.recording_row = 0
        part = Part(self.stream, first=0, journaled=0, archived=0)
        self.recording = Recording("r1", "bench", {STREAM: part}, journal, env, lambda _: None)
        bodies: list[Record | Sync | Archive] = [
            self.record(self.recording),
            self.archive(self.recording),
        ]
        if self.sync is not None:
            bodies.append(self.sync(self.recording))
        self.threads = [threading.Thread(target=body.run) for body in bodies]
        for thread in self.threads:
            thread.start()

    def push_for(self, seconds: float) -> None:
        """Push frames of 8 rows on the wall clock; a late frame delays those behind it, skips none.

        A machine that stood still would else end it with a burst that overruns a ring of a second.
        """
        assert self.recording is not None
        ring = self.stream.ring
        start = time.monotonic()
        frames = round(seconds * 1000 / FRAME)
        first = ring.head
        for k in range(frames):
            due = start + k * FRAME / 1000 - time.monotonic()
            if due > 0:
                time.sleep(due)
            else:
                start -= due
            self.lags.append(ring.head - ring.written)
            self.durable_lags.append(ring.head - ring.durable)
            seq = first + k * FRAME
            data = rows(seq, FRAME, self.n_channels)
            now = time.monotonic_ns()
            ring.push(SampleBlock(STREAM, 1, seq, now, data))
            self.stream.last_push_ns = now
            self.recording.poke()

    def finish(self, timeout_s: float = 30.0) -> None:
        recording = self.recording
        assert recording is not None
        recording.close({STREAM: self.stream.ring.head})
        if not recording.finished.wait(timeout_s):
            recording.abort.set()
        for thread in self.threads:
            thread.join(5.0)
        if recording.crashed is not None:
            raise recording.crashed
        assert recording.finished.is_set()
        self.stream.ring.close()
