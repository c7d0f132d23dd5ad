"""A disk that fills under a recording, in short: closed whole, refused, begun again; a wrong budget is caught."""

from pathlib import Path

import pytest

from tests.faults.box import is_root
from tests.faults.diskfull import MUTANTS, campaign

SEED = 20261130

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not is_root(), reason="needs root, to mount a small disk"),
]


def test_a_full_disk_loses_nothing_and_what_was_closed_for_it_begins_again(tmp_path: Path) -> None:
    found = campaign(tmp_path, n=1, seed=SEED).result("diskfull")
    print(found)
    assert found["met"], found


@pytest.mark.long  # a minute of waiting for what does not come
@pytest.mark.parametrize("mutant", sorted(MUTANTS))
def test_a_budget_that_is_wrong_is_caught(tmp_path: Path, mutant: str) -> None:
    found = campaign(tmp_path, n=1, seed=SEED, mutant=mutant).result("diskfull")
    assert not found["met"], found
