"""Clock steps in short: order and gaps stay, labels come later; readers that are wrong are caught."""

from pathlib import Path

import pytest

from tests.faults.clock import CASES, MUTANTS, run

SEED = 20261130


def test_no_step_of_the_wall_clock_moves_a_row(tmp_path: Path) -> None:
    found = run(tmp_path, n=1, seed=SEED)
    assert found["met"], found
    assert found["runs"] == len(CASES)


@pytest.mark.parametrize("mutant", sorted(MUTANTS))
def test_a_reader_that_believes_the_wall_clock_is_caught(tmp_path: Path, mutant: str) -> None:
    found = run(tmp_path, n=1, seed=SEED, mutant=mutant)
    assert not found["met"], found
