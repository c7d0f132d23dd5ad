"""Four people, four headsets, one radio: each recording is its wearer's, and one that goes harms no other."""

import threading
import time
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import numpy as np

from brainforge_edge.acquisition.linkstate import LinkState
from brainforge_edge.export.recording import read_parts
from brainforge_edge.recorder.catalog import read_recording
from brainforge_edge.storage.files import SystemDisk
from tests.drivers.bluetooth import address_of, ward
from tests.drivers.pulling import Acquired, closed, rows, verified, wait_for

WEARERS = {1: "p-anna", 2: "p-ben", 3: "p-cleo", 4: "p-dan"}


def test_four_headsets_are_recorded_each_for_its_wearer_while_one_drops_and_returns(
    tmp_path: Path,
) -> None:
    disk = SystemDisk()
    with ward(tmp_path) as place, ExitStack() as stack:
        headsets = {number: place.add_muse(number) for number in WEARERS}
        boxes = {
            number: stack.enter_context(
                Acquired(
                    tmp_path,
                    lambda number=number: place.muse_driver(  # type: ignore[misc]
                        f"muse{number}", address=address_of(number)
                    ),
                    f"muse{number}",
                    participant=wearer,
                )
            )
            for number, wearer in WEARERS.items()
        }

        def had(number: int) -> int:
            return rows(boxes[number].streams, f"muse{number}-eeg")

        for number in WEARERS:
            wait_for(lambda number=number: had(number) >= 100, 40)  # type: ignore[misc]
        for box in boxes.values():
            box.record("r1")
        wait_for(lambda: all(had(number) >= 700 for number in WEARERS))
        place.switch_off(headsets[3])
        wait_for(lambda: boxes[3].pull.state is LinkState.LOST)
        threading.Event().wait(1.5)
        before = had(3)
        place.switch_on(headsets[3])
        returned = time.monotonic()
        wait_for(lambda: had(3) > before)
        assert time.monotonic() - returned < 10
        wait_for(lambda: had(3) >= before + 300)
        for box in boxes.values():
            box.close_recording("r1")
        counters = {number: box.pull.counters for number, box in boxes.items()}
        reconnects = {number: box.pull.reconnects for number, box in boxes.items()}
    folder = closed(tmp_path, "r1")
    assert verified(folder).is_clean
    assert len(read_recording(folder, disk).streams) == 4 * 3
    for number, wearer in WEARERS.items():
        for suffix in ("eeg", "acc", "gyro"):
            (recorded,) = read_parts(folder, f"muse{number}-{suffix}", disk)
            assert recorded.identity.participant == wearer
        (eeg,) = read_parts(folder, f"muse{number}-eeg", disk)
        runs = list(eeg.runs())
        for run in runs:
            expected = headsets[number].source.rows(run.seq, len(run.data))
            np.testing.assert_array_equal(run.data, expected)
        if number == 3:
            assert len({run.incarnation for run in runs}) == 2
            assert reconnects[number] >= 1
            continue
        assert reconnects[number] == 0
        assert counters[number]["lost_samples"] == counters[number]["dropped_packets"] == 0
        for one, two in pairwise(runs):
            assert (two.incarnation, two.seq) == (one.incarnation, one.seq + len(one.data))
