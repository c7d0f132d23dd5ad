"""A headset behind the whole pull thread: rings, incarnations, notices, and a prompt end."""

import time
from pathlib import Path

from brainforge_edge.acquisition.linkstate import LinkState
from brainforge_edge.core.block import BlockFlag
from brainforge_edge.core.events import EventType
from tests.drivers.bluetooth import ward
from tests.drivers.pulling import pulled, rows, wait_for


def test_a_reconnect_starts_a_new_incarnation_and_names_the_gap(tmp_path: Path) -> None:
    with ward(tmp_path) as place:
        headset = place.add_muse()
        with pulled(tmp_path, lambda: place.muse_driver(silent_s=0.5)) as (pull, streams):
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
        with pulled(tmp_path, lambda: place.muse_driver(silent_s=0.5)) as (pull, streams):
            wait_for(lambda: rows(streams) >= 60)
            headset.switches.is_silent = True
            wait_for(lambda: pull.state is LinkState.LOST)
            headset.switches.is_silent = False
            had = rows(streams)
            wait_for(lambda: rows(streams) >= had + 60)
            assert pull.state is LinkState.STREAMING


def test_a_pull_that_searches_ends_at_once(tmp_path: Path) -> None:
    with ward(tmp_path) as place, pulled(tmp_path, place.muse_driver) as (pull, _):
        wait_for(lambda: pull.state is LinkState.CONNECTING)
        began = time.monotonic()
        pull.stop()
        assert time.monotonic() - began < 3
