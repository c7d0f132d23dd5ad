"""The benchmarks of the kernels run; what they say about correctness must hold on any machine."""

import pytest

from tests.benchmarks import ring
from tests.benchmarks.__main__ import names, table
from tests.benchmarks.bands import run as run_bands
from tests.benchmarks.cleaning import CASES
from tests.benchmarks.cleaning import run as run_cleaning
from tests.benchmarks.decode import run as run_decode
from tests.benchmarks.filter import run as run_filter
from tests.benchmarks.models import run as run_models
from tests.benchmarks.row import Row


def _by_case(rows: list[Row]) -> dict[str, Row]:
    return {row.case: row for row in rows}


def test_every_benchmark_of_the_table_can_be_named() -> None:
    assert {
        "filter",
        "ring",
        "decode",
        "bands",
        "cleaning",
        "models",
        "lossless",
        "record",
        "pipeline",
        "drain",
    } <= set(names())


def test_a_table_shows_rows_without_a_peer() -> None:
    rows = [Row("a", 1.0, None, "s", None), Row("b", 2.0, 4.0, "s", 0.5, "<= 1", met=True)]
    lines = table(rows).splitlines()
    assert len(lines) == 3
    assert lines[2].endswith("<= 1  met")


@pytest.mark.slow
def test_the_filter_benchmark_finds_the_output_equal() -> None:
    equal = [row for case, row in _by_case(run_filter()).items() if case.startswith("equal")]
    assert equal
    assert all(row.met for row in equal)


@pytest.mark.slow
def test_the_benchmark_of_bands_finds_their_powers_right() -> None:
    judged = [row for row in run_bands(seconds=60.0, rounds=3) if row.case.startswith("worst")]
    assert len(judged) == 2
    assert all(row.met for row in judged)


def test_the_benchmark_of_cleaning_tells_of_each_stage_and_stream() -> None:
    rows = run_cleaning(rounds=1)
    assert len(rows) == 7 * len(CASES)
    assert all(row.ours > 0 for row in rows)


def test_the_benchmark_of_models_finds_its_peers_equal() -> None:
    rows = run_models(rounds=1)  # it asserts that while it runs
    assert len(rows) == 12
    assert all(row.ours > 0 for row in rows)


@pytest.mark.slow
def test_the_decoder_benchmark_accepts_no_corrupted_frame() -> None:
    rows = run_decode()
    judged = [row for row in rows if row.case.startswith("corrupted")]
    assert len(judged) == 2
    assert all(row.met for row in judged)


@pytest.mark.slow
def test_the_ring_benchmark_sees_no_torn_row() -> None:
    torn = [row for row in ring.run(seconds=2.0) if row.case.startswith("torn")]
    assert torn
    assert all(row.met for row in torn)
