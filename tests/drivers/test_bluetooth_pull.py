"""A headset behind the whole pull thread: rings, incarnations, notices, and a prompt end."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from brainforge_edge.acquisition.linkstate import LinkState
from brainforge_edge.acquisition.pull import Pull
from brainforge_edge.acquisition.streams import Streams
from brainforge_edge.core.block import BlockFlag
from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.events import EventType
from brainforge_edge.recorder.log import RecordingLog
from brainforge_edge.storage.files import SystemDisk
from tests.drivers.bluetooth import Ward, ward


@contextmanager
def pulled(place: Ward, folder: Path) -> Iterator[tuple[Pull, Streams]]:
    log = RecordingLog(folder / "recordings", disk=SystemDisk(), random=Random(1).randbytes)
    (folder / "rings").mkdir()
    streams = Streams("dut", rings=folder / "rings", log=log)
    pull = Pull(
        make_driver=lambda: place.muse_driver(silent_s=0.5),
        adopt=lambda infos: streams.adopt(
            infos, layout_changes=lambda: None, is_recorded=lambda: False
        ),
        admit=threading.Lock(),
        is_recording=lambda: False,
        wake_record=lambda: None,
        clock=SystemClock(),
    )
    thread = threading.Thread(target=pull.run)
    thread.start()
    try:
        yield pull, streams
    finally:
        pull.stop()
        thread.join(10)
        streams.close()
        assert not thread.is_alive()
        assert pull.crashed is None


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        threading.Event().wait(0.02)


def rows(streams: Streams) -> int:
    stream = streams.all.get("dut-eeg")
    return stream.ring.head if stream is not None else 0


def test_a_reconnect_starts_a_new_incarnation_and_names_the_gap(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        headset = place.add_muse()
        with pulled(place, tmp_path) as (pull, streams):
            wait_for(lambda: rows(streams) >= 120)
            place.drop_link(headset)
            wait_for(lambda: pull.reconnects == 1)
            had = rows(streams)
            wait_for(lambda: rows(streams) >= had + 120)
            ring = streams.all["dut-eeg"].ring
            runs = ring.runs(0, ring.head)
            gaps = [notice for notice in pull.notices if notice[0] is EventType.STREAM_GAP]
    first = [run for run in runs if run.flags & BlockFlag.FIRST]
    assert [run.incarnation for run in first] == [1, 2]
    assert first[1].flags & BlockFlag.GAP_BEFORE
    assert {data["basis"] for _, _, data in gaps} == {"clock"}
    assert len(headset.ledger.runs) == 2


def test_a_headset_that_stops_and_goes_on_is_found_again(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        headset = place.add_muse()
        with pulled(place, tmp_path) as (pull, streams):
            wait_for(lambda: rows(streams) >= 60)
            headset.switches.is_silent = True
            wait_for(lambda: pull.state is LinkState.LOST)
            headset.switches.is_silent = False
            had = rows(streams)
            wait_for(lambda: rows(streams) >= had + 60)
            assert pull.state is LinkState.STREAMING


def test_a_pull_that_searches_ends_at_once(tmp_path: Path) -> None:
    with ward(tmp_path) as place, pulled(place, tmp_path) as (pull, _):
        wait_for(lambda: pull.state is LinkState.CONNECTING)
        began = time.monotonic()
        pull.stop()
        assert time.monotonic() - began < 3
