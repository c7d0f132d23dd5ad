"""What the chain costs: reading and hashing closed segments, as the agent's thread does it.

Segments of 32 MiB with the packed rows of 306 channels; the peer is SHA-256 alone, over the same bytes in
memory. The part of a core is at the full rate, packed: the codec only makes it less. `with rests` sleeps
behind each block three times as long as it took.
"""

import hashlib
import os
import tempfile
import time
from pathlib import Path

from brainforge_edge.core.block import BlockFlag
from brainforge_edge.core.stream import ChannelInfo, Codec, Dtype, StreamInfo
from brainforge_edge.recorder.catalog import RecordingFile, write_recording_file
from brainforge_edge.recorder.chain import CHAIN_FILE
from brainforge_edge.recorder.chaining import extend_chain
from brainforge_edge.recorder.cut import make_chunk
from brainforge_edge.recorder.digest import BLOCK_BYTES, Rest, no_rest
from brainforge_edge.recorder.identity import Identity
from brainforge_edge.recorder.segment import SegmentWriter
from brainforge_edge.storage.files import SystemDisk
from tests.benchmarks.row import Row

N_CHANNELS, SFREQ, GRID = 306, 1000.0, 856
SEGMENTS, SEGMENT_BYTES = 6, 32 * 2**20
RESTS = 3.0
GOAL = 1.0  # % of a core
INFO = StreamInfo(
    "helmet-mag", "helmet", SFREQ, Dtype.I24,
    tuple(ChannelInfo(f"MEG{k:03}", "mag", "T") for k in range(N_CHANNELS)),
)  # fmt: skip


def run() -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        _record(root)
        paths = sorted(root.glob("r/*/*.seg"))
        size = sum(path.stat().st_size for path in paths)
        warm_cpu, warm = min(_chained(root) for _ in range(5))
        alone = min(_hashed(paths) for _ in range(5))
        _forget(paths)
        _, cold = _chained(root)
        _, rested = _chained(root, _resting())
    part = 100 * INFO.row_bytes * SFREQ / (size / warm_cpu)
    return [
        Row("a segment, of CPU; SHA-256 alone", size / warm_cpu / 1e6, size / alone / 1e6, "MB/s", alone / warm_cpu),
        Row("a segment in memory, of wall", size / warm / 1e6, None, "MB/s", None),
        Row("a segment on the disk, of wall", size / cold / 1e6, None, "MB/s", None),
        Row("a segment, with rests, of wall", size / rested / 1e6, None, "MB/s", None),
        Row("306 ch @ 1 kHz, packed", part, None, "% of a core", None, f"<= {GOAL:g}", part <= GOAL),
    ]  # fmt: skip


def _record(root: Path) -> None:
    disk = SystemDisk()
    for ordinal in range(1, SEGMENTS + 1):
        writer = SegmentWriter.create(
            root / "r" / INFO.stream_id, ordinal, info=INFO, number=1,
            identity=Identity(recording="r", node="n", log_id=bytes(16)), size=SEGMENT_BYTES,
            disk=disk, random=os.urandom,
        )  # fmt: skip
        while not writer.is_full:
            writer.append(
                make_chunk(
                    os.urandom(GRID * INFO.row_bytes), info=INFO, number=1,
                    identity=writer.descriptor.identity, incarnation=1, seq=0, t_first_ns=0,
                    flags=BlockFlag(0), gap=None, encode=lambda rows, _: (Codec.PACKED, rows),
                )
            )  # fmt: skip
        writer.close()
    write_recording_file(root, RecordingFile("r", None, "n", closed=True), disk)


def _chained(root: Path, rest: Rest = no_rest) -> tuple[float, float]:
    """Seconds of CPU and of wall."""
    (root / "r" / CHAIN_FILE).unlink(missing_ok=True)
    cpu, wall = time.thread_time(), time.perf_counter()
    assert len(list(extend_chain(root / "r", SystemDisk(), rest))) == SEGMENTS
    return time.thread_time() - cpu, time.perf_counter() - wall


def _hashed(paths: list[Path]) -> float:
    """Seconds of CPU for the digest alone."""
    spent = 0.0
    for path in paths:
        data = memoryview(path.read_bytes())
        cpu = time.thread_time()
        digest = hashlib.sha256()
        for at in range(0, len(data), BLOCK_BYTES):
            digest.update(data[at : at + BLOCK_BYTES])
        spent += time.thread_time() - cpu
    return spent


def _forget(paths: list[Path]) -> None:
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def _resting() -> Rest:
    since = [time.perf_counter()]

    def rest() -> None:
        time.sleep(RESTS * min(time.perf_counter() - since[0], 0.2))
        since[0] = time.perf_counter()

    return rest
