"""A recording process without descriptors and without memory, in short; one that drops rows then is caught."""

from pathlib import Path

import pytest

from tests.faults.box import is_root
from tests.faults.fds import MUTANTS, campaign

SEED = 20261130

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not is_root(), reason="needs root, to bound another process"),
]


def test_a_process_without_descriptors_or_memory_loses_nothing(tmp_path: Path) -> None:
    found = campaign(tmp_path, n=1, seed=SEED).result("fds")
    print(found)
    assert found["met"], found


@pytest.mark.long
@pytest.mark.parametrize("mutant", sorted(MUTANTS))
def test_a_process_that_drops_rows_is_caught(tmp_path: Path, mutant: str) -> None:
    found = campaign(tmp_path, n=1, seed=SEED, mutant=mutant).result("fds")
    assert not found["met"], found
