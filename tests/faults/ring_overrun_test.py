"""A disk so slow that the ring comes round: what left the ring is read from the journal, or named."""

import errno
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brainforge_edge.acquisition.archive import Archive
from brainforge_edge.acquisition.record import Record
from brainforge_edge.codec import registry
from brainforge_edge.core.block import GapCause
from brainforge_edge.core.stream import Dtype
from brainforge_edge.recorder.chunk import Chunk
from brainforge_edge.recorder.verify import StreamAccount, verify_recording
from tests.faults.ioerr_test import stored_rows
from tests.faults.rig import STREAM, Rig, rows
from tests.unit.recorder_faulty_disk import UnsyncedDisk

N_CHANNELS = 12
RING_S = 1.0


@pytest.fixture
def ring_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="bf-test-", dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def tmp_path(ring_folder: Path) -> Path:
    """In memory: a real disk that others keep busy stalls longer than a ring of a second holds."""
    return ring_folder


class SlowDisk(UnsyncedDisk):
    """While `is_slow`, the calls named in `slow` wait on files that end with `suffix`."""

    def __init__(self, slow: str, suffix: str, *, then: int = 0) -> None:
        super().__init__()
        self.slow = slow
        self.suffix = suffix
        self.then = then  # errno of the first call that waited
        self.go = threading.Event()
        self.go.set()

    def syscall(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        if name == self.slow and not self.go.is_set():
            path = self._paths.get(args[0])
            if path is not None and path.suffix == self.suffix:
                self.go.wait(20.0)
                if self.then:
                    number, self.then = self.then, 0
                    raise OSError(number, os.strerror(number))
        return super().syscall(name, function, *args)


def stream_account(rig: Rig) -> StreamAccount:
    def packed(chunk: Chunk) -> bytes:
        dtype = Dtype(chunk.dtype)
        found = registry.decode(chunk.codec, chunk.body, dtype, chunk.n_samples, chunk.n_channels)
        return registry.pack_rows(found, dtype)

    folder = rig.root / "recordings" / "r1"
    (stream,) = verify_recording(folder, decode=packed, disk=UnsyncedDisk()).streams
    return stream


def check_all_stored(rig: Rig, head: int) -> None:
    found = stored_rows(rig.root / "recordings" / "r1" / STREAM)
    assert sorted(found) == list(range(head))
    expected = rows(0, head, N_CHANNELS)
    for seq, row in found.items():
        np.testing.assert_array_equal(row, expected[seq])
    assert stream_account(rig).is_clean
    assert not (rig.root / "recordings" / "r1" / "bench.journal").exists()


@pytest.mark.parametrize("journal_s", [1.0, 30.0])
def test_an_archive_that_lags_more_than_the_ring_reads_the_journal(
    journal_s: float, tmp_path: Path, ring_folder: Path
) -> None:
    disk = SlowDisk("pwrite", ".seg")
    rig = Rig(
        tmp_path, ring_folder, disk, n_channels=N_CHANNELS, ring_s=RING_S, journal_s=journal_s
    )
    rig.start()
    rig.push_for(0.7)
    disk.go.clear()
    rig.push_for(3.5)
    disk.go.set()
    rig.push_for(0.5)
    head = rig.stream.ring.head
    rig.finish()
    check_all_stored(rig, head)


def test_a_chunk_that_the_disk_refuses_while_the_ring_comes_round_is_not_lost(
    tmp_path: Path, ring_folder: Path
) -> None:
    disk = SlowDisk("pwrite", ".seg", then=errno.ENOSPC)
    rig = Rig(tmp_path, ring_folder, disk, n_channels=N_CHANNELS, ring_s=RING_S)
    rig.start()
    rig.push_for(0.3)
    disk.go.clear()
    rig.push_for(2.5)
    disk.go.set()
    head = rig.stream.ring.head
    rig.finish()
    check_all_stored(rig, head)


class LateRecord(Record):
    """What is to be written again leaves the ring meanwhile, for the machine stands still."""

    def _go_back(self) -> None:
        super()._go_back()
        self._recording.env.clock.sleep(0.4)


@pytest.mark.parametrize("record", [Record, LateRecord])
def test_a_sync_that_fails_after_the_ring_came_round_loses_nothing_that_was_written(
    record: type[Record], tmp_path: Path, ring_folder: Path
) -> None:
    class Unarchived(Archive):
        """Far behind, so that what the sync did not confirm is nowhere but in the bad file."""

        def run(self) -> None:
            disk.go.wait(20.0)
            super().run()

    disk = SlowDisk("fdatasync", ".jrn", then=errno.EIO)
    rig = Rig(
        tmp_path,
        ring_folder,
        disk,
        n_channels=N_CHANNELS,
        ring_s=RING_S,
        record=record,
        archive=Unarchived,
    )
    rig.start()
    rig.push_for(0.3)
    disk.go.clear()
    rig.push_for(2.5)
    durable = rig.stream.ring.durable
    disk.go.set()
    rig.push_for(0.5)
    head = rig.stream.ring.head
    assert durable < head - 2000
    rig.finish()
    check_all_stored(rig, head)


def test_rows_that_left_the_ring_before_they_were_written_are_a_named_gap(
    tmp_path: Path, ring_folder: Path
) -> None:
    disk = SlowDisk("pwrite", ".jrn")
    rig = Rig(tmp_path, ring_folder, disk, n_channels=N_CHANNELS, ring_s=RING_S)
    rig.start()
    rig.push_for(0.5)
    disk.go.clear()
    rig.push_for(3.0)
    disk.go.set()
    until = time.monotonic() + 5.0
    while rig.stream.ring.written < rig.stream.ring.head and time.monotonic() < until:
        time.sleep(0.01)
    rig.push_for(0.5)
    head = rig.stream.ring.head
    rig.finish()
    stream = stream_account(rig)
    assert stream.is_clean, stream
    (named,) = stream.gaps
    assert named.gap.cause is GapCause.BOX
    assert stream.rows + named.gap.n == head
    assert rig.stream.box_drops == named.gap.n
