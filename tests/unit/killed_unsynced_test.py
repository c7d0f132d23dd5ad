"""A process that was killed between the write of rows and their sync: the next one records each of them once."""

from pathlib import Path

import pytest

from brainforge_edge.core.block import SampleBlock
from tests.faults.ioerr_station import (
    FAST,
    RECORDING,
    RING_S,
    STREAMS,
    Station,
    compare,
    put_right,
)
from tests.faults.reference import Found
from tests.faults.turns import Life, rows_of
from tests.unit.recorder_faulty_disk import UnsyncedDisk


@pytest.mark.parametrize("told", ["at its start", "later"])
@pytest.mark.parametrize("is_marked", [True, False], ids=["written", "journalled only"])
def test_rows_that_were_not_synced_when_the_process_died_are_recorded_once(
    tmp_path: Path, told: str, *, is_marked: bool
) -> None:
    """`later`: the box starts with no word of the open recording, which the agent brings a moment after."""
    station = Station(tmp_path, None)
    for _ in range(20):
        station.step()
    life = station.life
    assert life is not None
    first, n = station.sent[FAST.stream_id], 50
    t_ns = station.clock.now_ns + round(first * 1e9 / FAST.sfreq)
    block = SampleBlock(FAST.stream_id, 0, first, t_ns, rows_of(FAST, first, n))
    assert life.push(block, "device-boot-1")
    station.sent[FAST.stream_id] += n
    ring = life.streams.all[FAST.stream_id].ring
    written = ring.written
    if not is_marked:
        ring.set_written = lambda row: None  # type: ignore[method-assign]
    next(thread for thread in life._threads if thread.name == "record").turn()
    assert ring.written == written + n * is_marked
    assert ring.durable <= written
    station.die()
    station.life = Life(
        station._env, STREAMS, rings=station.rings, ring_s=RING_S,
        open_recording=RECORDING if told == "at its start" else "",
    )  # fmt: skip
    station.step()
    if told == "later":
        station.life.recording.request(RECORDING, 60.0)
    for _ in range(20):
        station.step()
    station.until_recorded()
    station.finish()
    station.close()
    put_right(station.root, UnsyncedDisk())
    assert compare(station.root, station.sent, station.sent) == (Found(), "")
