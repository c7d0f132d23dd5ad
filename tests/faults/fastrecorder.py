"""Recordings made faster than they are: the recorder's own journal, archive and segments, under a clock that is set.

One thread takes the turns of record, sync and archive, as in `tests/unit/archive_box.py`, but for any
stream, over several recordings, on a real disk. What is archived is announced as the worker does it.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.acquisition.archive import Archive
from brainforge_edge.acquisition.continuity import Continuity
from brainforge_edge.acquisition.record import Record
from brainforge_edge.acquisition.recording import Environment, Part, Recording
from brainforge_edge.acquisition.stream import AcquiredStream
from brainforge_edge.acquisition.sync import Sync
from brainforge_edge.codec import registry
from brainforge_edge.core import ipc
from brainforge_edge.core.block import BlockFlag, SampleBlock
from brainforge_edge.core.stream import ChannelInfo, Codec, Dtype, StreamInfo, chunk_samples
from brainforge_edge.recorder.chunk import Chunk
from brainforge_edge.recorder.identity import Identity
from brainforge_edge.recorder.journal import Journal
from brainforge_edge.recorder.log import RecordingLog
from brainforge_edge.recorder.segment import SegmentWriter
from brainforge_edge.rings.ring import SampleRing
from brainforge_edge.storage.files import SystemDisk
from tests.faults.uplinkprocess import NODE
from tests.unit.archive_box import SetClock

TURN_S = 32
CUT_S = 6 * 3600  # a recording is cut as `auto_record` does it
SEGMENT_BYTES = 32 * 1024 * 1024
BANK_ROWS = 2**16
ENCODED = 8  # seconds of a prepared stream that are encoded; the others repeat them
Announce = Callable[[ipc.Archived], None]


def stream_of(stream_id: str, n_channels: int, sfreq: float) -> StreamInfo:
    channels = tuple(ChannelInfo(f"c{i}", "mag", "T", 1e-15) for i in range(n_channels))
    return StreamInfo(stream_id, stream_id.split("-", maxsplit=1)[0], sfreq, Dtype.I24, channels)


def noise(n_channels: int, rows: int, seed: int) -> NDArray[np.int32]:
    """A slow walk and a noise of some 8 bits, as a magnetometer at rest."""
    chance = np.random.default_rng(seed)
    walk = np.cumsum(chance.normal(0, 10, (rows, n_channels)), axis=0)
    return (walk + chance.normal(0, 80, (rows, n_channels))).astype(np.int32)


def record(root: Path, info: StreamInfo, seconds: int, seed: int, announce: Announce) -> None:
    """So many seconds of `info` below `root`, through journal and archive. The ring lies in `root` too."""
    disk, clock = SystemDisk(), SetClock()
    recordings = root / "recordings"
    log = RecordingLog(recordings, disk=disk, random=os.urandom)
    ring = SampleRing.create(root / f"{info.stream_id}.ring", info, seconds=2.5 * TURN_S)
    number = log.stream_number(info.stream_id)
    incarnation = log.open_incarnation(info.stream_id, "")
    stream = AcquiredStream(
        info, number, ring, Continuity(info.sfreq, lambda _: incarnation), root / "ring"
    )
    bank = noise(info.n_channels, BANK_ROWS, seed)

    def told(recording: str, stream_id: str, segment: str, end: int) -> None:
        announce(ipc.Archived(recording=recording, stream_id=stream_id, segment=segment, end=end))

    env = Environment(
        recordings=recordings, node=NODE, log_id=log.log_id, boot_id="boot-1", disk=disk,
        clock=clock, random=os.urandom, sync_ms=80, segment_bytes=SEGMENT_BYTES,
        journal_s=2.0 * TURN_S, archived=told,
    )  # fmt: skip
    try:
        for n, first_s in enumerate(range(0, seconds, CUT_S), 1):
            until_s = min(seconds, first_s + CUT_S)
            _recording(
                f"day-{n}", stream, env, clock, bank, range(first_s, until_s, TURN_S), until_s
            )
    finally:
        ring.close()


def _recording(
    name: str, stream: AcquiredStream, env: Environment, clock: SetClock, bank: NDArray[np.int32],
    turns: range, until_s: int,
) -> None:  # fmt: skip
    info, ring, head = stream.info, stream.ring, stream.ring.head
    part = Part(stream, first=head, journaled=head, archived=head)
    journal = Journal.create(
        env.recordings / name / "device.journal", streams={stream.number: info},
        log_id=env.log_id, file_bytes=round(env.journal_s * info.row_bytes * info.sfreq),
        disk=env.disk, random=env.random, identity=env.identity(name, None),
    )  # fmt: skip
    recording = Recording(name, "device", {info.stream_id: part}, journal, env, lambda _: None)
    ring.recording_row = head
    turn, sync, archive = Record(recording), Sync(recording), Archive(recording)
    for at_s in turns:
        n = round((min(at_s + TURN_S, until_s) - at_s) * info.sfreq)
        _push(stream, clock, bank, n)
        turn.turn()
        while not sync.once():
            turn.turn()
        while archive.step(is_last=False):
            pass
    recording.close({info.stream_id: ring.head})
    turn.turn()
    assert sync.once()
    recording.synced.set()
    archive.run()
    ring.recording_row = None
    if recording.crashed is not None:
        raise recording.crashed
    assert recording.finished.is_set()
    assert part.archived == ring.head


def _push(stream: AcquiredStream, clock: SetClock, bank: NDArray[np.int32], n: int) -> None:
    ring, step = stream.ring, BANK_ROWS // 2
    for first in range(ring.head, ring.head + n, step):
        rows = min(step, ring.head + n - first)
        at = first * 7919 % step
        data = bank[at : at + rows].copy()
        data[:, 0] = np.arange(first, first + rows) & 0x7FFFFF
        flags = BlockFlag(0) if first else BlockFlag.FIRST
        ring.push(SampleBlock(stream.info.stream_id, 1, first, clock.now_ns, data, flags))
        clock.now_ns += round(rows / stream.info.sfreq * 1e9)
    stream.last_push_ns = clock.now_ns


def prepare(root: Path, info: StreamInfo, chunks: int, seed: int, announce: Announce) -> None:
    """So many chunks of `info` below `root`: the same few bodies over and over, each with its own place in time."""
    disk = SystemDisk()
    recordings = root / "recordings"
    log = RecordingLog(recordings, disk=disk, random=os.urandom)
    identity = Identity(recording="prepared", node=NODE, log_id=log.log_id, anchors=())
    folder = recordings / "prepared" / info.stream_id
    n = chunk_samples(info)
    bodies = [_body(info, n, seed + i) for i in range(min(ENCODED, chunks))]
    number, ordinal = log.stream_number(info.stream_id), 0
    writer: SegmentWriter | None = None
    facts: dict[str, Any] = {
        "dtype": info.dtype, "n_channels": info.n_channels, "n_samples": n, "log_id": log.log_id,
        "incarnation": log.open_incarnation(info.stream_id, ""), "stream_number": number,
        "sfreq": info.sfreq,
    }  # fmt: skip
    for i in range(chunks):
        if writer is None:
            ordinal += 1
            writer = SegmentWriter.create(
                folder, ordinal, info=info, number=number, identity=identity,
                size=SEGMENT_BYTES, disk=disk, random=os.urandom,
            )  # fmt: skip
        t_ns = round(i * n / info.sfreq * 1e9)
        body = bodies[i % len(bodies)]
        writer.append(Chunk(Codec.LOSSLESS, seq=i * n, t_first_ns=t_ns, body=body, **facts))
        is_last = writer.is_full or i == chunks - 1
        if is_last or i % ENCODED == ENCODED - 1:
            end = writer.sync()
            if is_last:
                writer.close()
            announce(ipc.Archived(
                recording="prepared", stream_id=info.stream_id, segment=writer.path.name, end=end
            ))  # fmt: skip
            writer = None if is_last else writer


def _body(info: StreamInfo, n: int, seed: int) -> bytes:
    return registry.encode(Codec.LOSSLESS, noise(info.n_channels, n, seed), info.dtype)
