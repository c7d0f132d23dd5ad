"""Backlog drain: log → uplink → broker → ingest → durable store, against the recording rate of 306 channels at 1 kHz.

The peer is the rate at which the same samples are recorded; everything runs on this machine.
"""

import os
import tempfile
import time
from pathlib import Path

import numpy as np

from brainforge_edge.cloud.broker.embedded import BrokerKind, EmbeddedBroker, find
from brainforge_edge.core import log
from brainforge_edge.core.stream import ChannelInfo, Dtype, StreamInfo, chunk_samples
from tests.benchmarks.row import Row
from tests.broker.rig import Box, BoxLog, Ingest

INFO = StreamInfo(
    "opm-mag", "opm", 1000.0, Dtype.I24, tuple(ChannelInfo(f"ch{i}") for i in range(306))
)
CHUNKS = 100
GOAL = 10.0
MOST_CPU = 1.0  # % of a core at the recording rate


def run() -> list[Row]:
    """Raw megabytes per second through the whole path, and the uplink's CPU per megabyte."""
    log.configure("drain", level="error")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        root = Path(folder)
        n = _record(root / "box")
        for kind in BrokerKind:
            if find(kind) is not None:
                rows += _drain(root, kind, n)
    return rows


def _record(root: Path) -> int:
    """A backlog in packed chunks, larger on the wire than coded ones; rows per chunk."""
    n = chunk_samples(INFO)
    samples = np.random.default_rng(0).integers(-(2**18), 2**18, (n, 306), dtype=np.int32)
    box_log = BoxLog(root)
    for i in range(CHUNKS):
        box_log.append(INFO, i * n, n, rows=samples, segment_bytes=32 * 1024 * 1024)
    box_log.close()
    return n


def _drain(root: Path, kind: BrokerKind, n: int) -> list[Row]:
    for file in (root / "box").glob("uplink.sqlite*"):
        file.unlink()
    rate = INFO.sfreq * INFO.row_bytes / 1e6
    with EmbeddedBroker(root / f"broker-{kind}", kind=kind) as broker:
        ingest = Ingest(root / f"cloud-{kind}", broker.port).start()
        box = Box(root / "box", broker.port)
        cpu, start = time.process_time(), time.monotonic()
        box.start()
        try:
            box.wait_drained(timeout_s=120.0)
            assert box.pump.sender.counts["receipted"] >= CHUNKS
            wall, cpu = time.monotonic() - start, time.process_time() - cpu
        finally:
            box.stop()
            ingest.stop()
    raw = CHUNKS * n * INFO.row_bytes / 1e6
    case = f"drain, {kind}, protocol {box.pump.connection.protocol}"
    times = raw / wall / rate
    share = 100 * cpu * rate / raw
    return [
        Row(case, round(raw / wall, 1), round(rate, 3), "MB/s raw", round(times, 1),
            f">= {GOAL:g}x", times >= GOAL),
        Row(f"{case}, CPU of the uplink", round(share, 2), MOST_CPU, "% of a core",
            round(share / MOST_CPU, 2), "<= 1x", share <= MOST_CPU),
    ]  # fmt: skip
