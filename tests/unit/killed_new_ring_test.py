"""Rings that went with the power, and a process that died before it journalled the first row of new ones."""

import shutil
from pathlib import Path

import pytest

from brainforge_edge.core.block import GapCause
from brainforge_edge.recorder.verify import verify_recording
from tests.faults.ioerr_station import FAST, RECORDING, SLOW, Station, put_right
from tests.unit.recorder_box import decode
from tests.unit.recorder_faulty_disk import UnsyncedDisk

MISSED = {FAST.stream_id: 500, SLOW.stream_id: 10}  # rows while nobody was there


@pytest.mark.parametrize("deaths", [0, 1, 3])
def test_the_hole_before_rows_of_a_ring_that_a_dead_process_made_has_its_name(
    tmp_path: Path, deaths: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    station = Station(tmp_path, None)
    for _ in range(20):
        station.step()
    station.die()
    shutil.rmtree(station.rings)
    station.rings.mkdir()
    recorded = dict(station.acknowledged)
    put_right(station.root, UnsyncedDisk())
    assert min(recorded.values()) > 0
    for stream_id, rows in MISSED.items():
        station.sent[stream_id] += rows
    station.acknowledged = dict.fromkeys(recorded, 0)
    with monkeypatch.context() as patched:
        patched.setattr(station, "_turn", lambda _life: False)
        for _ in range(deaths):
            station.step()  # rows come into the rings, and no thread had its turn
            station.die()
    station.until_recorded()
    station.finish()
    station.close()
    put_right(station.root, UnsyncedDisk())
    account = verify_recording(station.root / RECORDING, decode=decode, disk=UnsyncedDisk())
    assert account.is_clean, account
    for stream in account.streams:
        (before, after) = stream.spans
        (named,) = stream.gaps
        assert named.seq == after.first
        assert (named.gap.n, named.gap.cause) == (after.first - before.end, GapCause.BOX)
        assert named.gap.n >= MISSED[stream.stream_id]
