"""An I/O error at any write or sync of the acquire threads: every row is in the segments, once."""

import errno
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from brainforge_edge.codec import registry
from brainforge_edge.core.stream import Codec, Dtype
from brainforge_edge.recorder.chunk import MAGIC, unpack
from tests.faults.rig import STREAM, Rig, rows
from tests.unit.recorder_faulty_disk import FaultyDisk

N_CHANNELS = 12


@pytest.fixture
def ring_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="bf-test-", dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder)


def stored_rows(folder: Path) -> dict[int, np.ndarray]:
    """seq → row of every sample chunk in a stream's segments; a row twice must be the same row."""
    found: dict[int, np.ndarray] = {}
    for path in sorted(folder.glob("*.seg")):
        data = path.read_bytes()
        at = 0
        while data[at : at + 4] == MAGIC:
            chunk = unpack(data[at:])
            at += 128 + len(chunk.body) + 4
            if "gap" in chunk.extension:
                raise AssertionError("no gap was made here")
            if chunk.codec is Codec.DESCRIPTOR:
                continue
            decoded = registry.decode(
                chunk.codec, chunk.body, Dtype.I24, chunk.n_samples, chunk.n_channels
            )
            for i, row in enumerate(decoded):
                seq = chunk.seq + i
                if seq in found:
                    np.testing.assert_array_equal(found[seq], row)
                found[seq] = row
    return found


@pytest.mark.parametrize(
    ("call", "at", "fault"),
    [
        *(("pwrite", at, fault) for at in (0, 7, 60) for fault in (errno.EIO, errno.ENOSPC)),
        ("pwrite", 7, "short"),
        *(("fdatasync", at, errno.EIO) for at in (0, 1, 5, 9)),
    ],
)
def test_no_row_is_lost_when_a_call_fails(
    call: str, at: int, fault: str | int, tmp_path: Path, ring_folder: Path
) -> None:
    disk = FaultyDisk(watched=set())
    rig = Rig(tmp_path, ring_folder, disk, n_channels=N_CHANNELS, journal_s=2.0)
    rig.start()
    disk.watched, disk.at, disk.fault, disk.is_sticky = {call}, at, fault, True
    rig.push_for(1.0)
    head = rig.stream.ring.head
    rig.finish()
    assert disk.count > at, "the fault was never reached"
    found = stored_rows(tmp_path / "recordings" / "r1" / STREAM)
    assert sorted(found) == list(range(head))
    expected = rows(0, head, N_CHANNELS)
    for seq, row in found.items():
        np.testing.assert_array_equal(row, expected[seq])
    assert not (tmp_path / "recordings" / "r1" / "bench.journal").exists()
