"""A start after a power cut in short: nothing is lost, little is read and kept; a recovery that is wrong is caught."""

import os
import tracemalloc
from functools import partial
from pathlib import Path

import pytest

from brainforge_edge.codec import registry
from brainforge_edge.core.stream import Codec
from brainforge_edge.recorder.recover import recover_device
from tests.faults.recovery import MOST_MIB, MUTANTS, campaign
from tests.faults.recovery_material import DEVICE, MIB, Night
from tests.unit.recorder_faulty_disk import UnsyncedDisk

SEED = 20261130
small = partial(campaign, seed=SEED, n_channels=16, journal_s=20.0, segment_mib=2.0)


class CountingDisk(UnsyncedDisk):
    """`read`: bytes by the suffix of the file's name."""

    def __init__(self) -> None:
        super().__init__()
        self.read: dict[str, int] = {}

    def pread(self, fd: int, n: int, at: int) -> bytes:
        data = super().pread(fd, n, at)
        suffix = self._paths[fd].suffix
        self.read[suffix] = self.read.get(suffix, 0) + len(data)
        return data


def plain(packed: bytes, _: object) -> tuple[Codec, bytes]:
    return Codec.PACKED, registry.as_packed(packed)


def test_the_journal_is_read_once_and_once_more_where_a_chunk_is_made_of_it(tmp_path: Path) -> None:
    night = Night(tmp_path, journal_s=10.0, segment_mib=4.0, seed=SEED)
    night.make(20e6)
    last = max((night.folder / "helmet-mag").glob("*.seg")).stat().st_size
    disk = CountingDisk()
    tracemalloc.start()
    try:
        report = recover_device(tmp_path, DEVICE, encode=plain, disk=disk, random=os.urandom)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert report.entries == (night.end - night.first) // 8
    print(disk.read, most, night.journal_bytes)
    assert disk.read[".jrn"] < 2.05 * night.journal_bytes
    # The last one has a hole: its heads are read once more. Of the others the descriptor.
    assert disk.read[".seg"] < 3 * last + night.n_hollow * 100_000
    # SYNC_BYTES of chunks wait to be written, one is being made, and each entry has its place.
    assert most < 12 * MIB
    assert night.journal_bytes > 16 * MIB


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_box_records_again_and_has_every_row_of_its_journal(tmp_path: Path) -> None:
    night, outcome = small(tmp_path, gb=0.02)
    print(outcome)
    assert outcome.is_whole, outcome
    assert outcome.acknowledged == night.end - night.first > 10_000
    assert 0 < outcome.private_mib <= MOST_MIB


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize("mutant", sorted(MUTANTS))
def test_a_recovery_that_is_wrong_is_caught(tmp_path: Path, mutant: str) -> None:
    _, outcome = small(tmp_path, gb=0.005, mutant=mutant)
    assert not outcome.is_whole, outcome
