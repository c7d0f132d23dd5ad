"""What sealing costs: a frame's journal entry and a second's chunk, sealed and not, at the full MEG rate.

The journal's own `append_rows` from a ring, and a segment's `append`, on a disk that takes everything and
does nothing; the peer is the same in the clear. The part of a core is that of 125 frames and of the chunks of
a second, beside one thread that seals the same bytes once (the cipher alone).
"""

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from brainforge_edge.core.block import BlockFlag, SampleBlock
from brainforge_edge.core.stream import ChannelInfo, Codec, Dtype, StreamInfo
from brainforge_edge.recorder.chunk import Chunk, pack
from brainforge_edge.recorder.entry import CRC_BYTES, ENTRY_HEAD, Entry
from brainforge_edge.recorder.journal import Journal
from brainforge_edge.rings.ring import SampleRing
from brainforge_edge.security.seal import JOURNAL, SEGMENT
from brainforge_edge.security.wrap import make_data_key
from brainforge_edge.storage.files import Buffer, SystemDisk
from tests.benchmarks.row import Row
from tests.benchmarks.timing import alternate

N_CHANNELS, SFREQ, FRAME = 306, 1000.0, 8
FRAMES_S = SFREQ / FRAME
CODED = 0.34  # of packed rows: the codec's size on the Elekta recording (docs/benchmarks.md)
GOAL = 0.5  # % of a core
INFO = StreamInfo(
    "helmet-mag", "helmet", SFREQ, Dtype.I24,
    tuple(ChannelInfo(f"MEG{k:03}", "mag", "T") for k in range(N_CHANNELS)),
)  # fmt: skip


class NoDisk(SystemDisk):
    """Takes every write and keeps nothing."""

    def pwrite_all(self, fd: int, data: Buffer, at: int) -> None:
        pass


def run() -> list[Row]:
    key = make_data_key(os.urandom)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        folder = Path(name)
        ring = SampleRing.create(folder / "helmet.ring", INFO)
        rows = np.random.default_rng(1).integers(-(2**20), 2**20, (FRAME, N_CHANNELS), np.int32)
        ring.push(SampleBlock(INFO.stream_id, 1, 0, 0, rows, BlockFlag(0)))
        journals = []
        for kind in (None, key):
            journal = Journal.create(
                folder / f"{kind is None}.journal", streams={1: INFO}, log_id=bytes(16),
                file_bytes=1 << 20, disk=NoDisk(), random=os.urandom, key=kind,
            )  # fmt: skip
            first = Entry(1, 1, 0, 0, 1, BlockFlag(0), None, bytes(INFO.row_bytes))
            journal.append([first])  # a lap is begun by it
            journals.append(journal)

        def frame(journal: Journal) -> None:
            lap = journal._current
            assert lap is not None
            lap.at = journal._header_bytes  # the same place again: a lap is never full
            assert journal.append_rows(ring, 1, 0, FRAME) is not None

        size = ENTRY_HEAD.size + FRAME * INFO.row_bytes + CRC_BYTES
        cipher = key.file(bytes(16), JOURNAL)
        plain, sealed, alone = alternate(
            lambda: frame(journals[0]),
            lambda: frame(journals[1]),
            lambda: cipher.seal(1, bytes(size), b""),
        )
        for journal in journals:
            journal.close()
        ring.close()
    chunk = _chunk()
    seal = key.file(bytes(16), SEGMENT)
    named = replace(chunk, key_id=key.key_id)
    chunk_plain, chunk_sealed = alternate(lambda: pack(chunk), lambda: pack(named, seal))
    cost = (sealed - plain) * FRAMES_S + (chunk_sealed - chunk_plain) * SFREQ / chunk.n_samples
    return [
        Row("journal entry of a frame, sealed; in the clear", sealed * 1e6, plain * 1e6, "us", sealed / plain),
        Row("journal entry of a frame, more; the cipher alone", (sealed - plain) * 1e6, alone * 1e6, "us", (sealed - plain) / alone),
        Row("chunk, sealed; in the clear", chunk_sealed * 1e6, chunk_plain * 1e6, "us", chunk_sealed / chunk_plain),
        Row("sealing at 306 ch @ 1 kHz", 100 * cost, None, "% of a core", None, f"<= {GOAL:g}", 100 * cost <= GOAL),
    ]  # fmt: skip


def _chunk() -> Chunk:
    n = 856  # docs/decisions/0006
    body = os.urandom(round(n * INFO.row_bytes * CODED))
    return Chunk(
        codec=Codec.LOSSLESS, dtype=INFO.dtype, n_channels=N_CHANNELS, n_samples=n, log_id=bytes(16),
        incarnation=1, stream_number=1, seq=0, t_first_ns=0, sfreq=SFREQ, body=body,
    )  # fmt: skip
