"""The benchmark of recording runs and adds up. Figures of time are reported by it, never asserted."""

import math
import os
import time
from pathlib import Path

import pytest

from tests.benchmarks import hotpath, loopdisk, record
from tests.benchmarks.processes import (
    private_mib,
    private_mib_of,
    threads_cpu_s,
    threads_switches,
)


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


@pytest.mark.slow
def test_the_benchmark_of_a_frame_measures_both_threads_and_its_peer() -> None:
    rows = {row.case: row for row in hotpath.run(frames=150)}

    assert set(rows) == {
        f"{how}: {case}" for how in ("warm", "cold") for case in ("pull", "record", "both")
    }
    assert all(row.ours > 0 and row.peer is not None and row.peer > 0 for row in rows.values())


def test_private_memory_leaves_out_mappings_by_name() -> None:
    assert private_mib(os.getpid()) > 0
    smaps = Path("/proc/self/smaps").read_text()
    assert 0 < private_mib_of(smaps, without=".so.6") < private_mib_of(smaps, without=".absent")
    assert private_mib_of(smaps, without="") == 0  # every name ends in nothing


def test_the_cpu_of_threads_is_told_by_name() -> None:
    assert sum(threads_cpu_s(os.getpid()).values()) > 0


def test_a_thread_that_waits_is_told_by_name() -> None:
    before = threads_switches(os.getpid())
    name = Path("/proc/self/comm").read_text().strip()
    time.sleep(0.001)
    assert threads_switches(os.getpid())[name] > before[name]
