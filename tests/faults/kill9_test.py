"""Fifty parts of a running box killed at random moments: every acknowledged sample is stored, once."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.kill9 import campaign, differences
from tests.faults.kill9_mutants import MUTANTS

SEED = 20261121
KILLS = 50


@pytest.fixture
def run() -> Iterator[Path]:
    """For rings and sockets."""
    folder = Path(tempfile.mkdtemp(prefix="bf-", dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.timeout(900)  # five minutes beside others
def test_fifty_kills_lose_no_acknowledged_sample(tmp_path: Path, run: Path) -> None:
    results, kills = campaign(KILLS, SEED, root=tmp_path, run=run, settled=0.1)
    print(dict(kills))
    assert differences(results) == []
    assert {result.stream_id for result in results} == {"helmet-mag", "cyton-eeg", "cyton-acc"}
    assert all(result.recorded > 0 for result in results)


@pytest.mark.long  # half a minute to two minutes each
@pytest.mark.timeout(400)
@pytest.mark.parametrize("mutant", sorted(MUTANTS))
def test_a_box_that_is_wrong_when_it_is_killed_is_caught(
    tmp_path: Path, run: Path, mutant: str
) -> None:
    results, _ = campaign(
        3, SEED, root=tmp_path, run=run, targets=("acquire:helmet",), settled=1.0, mutant=mutant
    )
    wrong = differences(results)
    print(wrong)
    word = "+ gaps 0" if mutant == "gaps-zeroed" else "are lost"
    assert any(line.startswith("helmet-mag") and word in line for line in wrong)
    assert all(result.acquired for result in results)
