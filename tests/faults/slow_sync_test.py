"""A slow disk delays `durable` alone: `written`, and so everything live, keeps within a few rows."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from brainforge_edge.acquisition.record import Record
from brainforge_edge.acquisition.recording import Recording
from brainforge_edge.acquisition.sync import Sync
from brainforge_edge.storage.files import SystemDisk
from tests.faults.rig import FRAME, Rig

SECONDS = 4.0


class SlowDisk(SystemDisk):
    """Every fdatasync takes 25 ms more, every twentieth 400 ms more."""

    def __init__(self) -> None:
        super().__init__()
        self.syncs = 0

    def fdatasync(self, fd: int) -> None:
        super().fdatasync(fd)
        self.syncs += 1
        time.sleep(0.4 if self.syncs % 20 == 0 else 0.025)


class SyncInRecordThread(Record):
    """The mutant: the record thread syncs its own writes, as a simple recorder would."""

    def __init__(self, recording: Recording) -> None:
        super().__init__(recording)
        self._sync = Sync(recording)

    def _write_all(self) -> bool:
        wrote = super()._write_all()
        if wrote:
            self._sync.once()
        return wrote


@pytest.fixture
def ring_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="bf-test-", dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder)


def p99_lag(rig: Rig) -> float:
    return float(np.percentile(rig.lags, 99))


def test_written_follows_head_within_a_frame_on_a_disk_that_syncs_slowly(
    tmp_path: Path, ring_folder: Path
) -> None:
    rig = Rig(tmp_path, ring_folder, SlowDisk())
    rig.start()
    rig.push_for(SECONDS)
    rig.finish()
    # Two frames in hand (16 rows) is what a busy two-core machine may add to the one just pushed.
    assert p99_lag(rig) <= 2 * FRAME


def test_the_mutant_that_syncs_in_the_record_thread_is_caught(
    tmp_path: Path, ring_folder: Path
) -> None:
    rig = Rig(tmp_path, ring_folder, SlowDisk(), record=SyncInRecordThread)
    rig.start()
    rig.push_for(SECONDS)
    rig.finish()
    assert p99_lag(rig) > 10 * FRAME
