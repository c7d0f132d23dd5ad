"""The benchmark of recording runs and adds up. Figures of time are reported by it, never asserted."""

import math
import os
from pathlib import Path

import pytest

from tests.benchmarks import loopdisk, record
from tests.benchmarks.processes import private_mib, private_mib_of, threads_cpu_s


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_recording_benchmark_loses_nothing_and_counts_its_bytes() -> None:
    rows = {row.case: row for row in record.run(seconds=3.0)}

    lost = [row for case, row in rows.items() if "samples lost" in case]
    assert len(lost) == 2
    assert all(row.met and row.ours == 0 for row in lost)
    assert not any(math.isnan(row.ours) for row in rows.values())
    threads = {case.rpartition("thread ")[2] for case in rows if ", thread " in case}
    assert {"pull", "record", "sync", "archive"} <= threads
    if loopdisk.is_possible():
        journal = rows["306 ch @ 1000 Hz: journal at the device"]
        assert journal.ratio is not None
        assert journal.ratio >= 0.9  # the rows themselves reached the device


def test_private_memory_leaves_out_mappings_by_name() -> None:
    assert private_mib(os.getpid()) > 0
    smaps = Path("/proc/self/smaps").read_text()
    assert 0 < private_mib_of(smaps, without=".so.6") < private_mib_of(smaps, without=".ring")
    assert private_mib_of(smaps, without="") == 0  # every name ends in nothing


def test_the_cpu_of_threads_is_told_by_name() -> None:
    assert sum(threads_cpu_s(os.getpid()).values()) > 0
