"""Fifty parts of a running box killed at random moments: every acknowledged sample is stored, once."""

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.faults.kill9 import campaign, differences

SEED = 20261121
KILLS = 50


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_fifty_kills_lose_no_acknowledged_sample(tmp_path: Path) -> None:
    run = Path(tempfile.mkdtemp(prefix="bf-", dir="/dev/shm"))
    try:
        results, kills = campaign(KILLS, SEED, root=tmp_path, run=run)
    finally:
        shutil.rmtree(run, ignore_errors=True)
    print(dict(kills))
    assert differences(results) == []
    assert {result.stream_id for result in results} == {"helmet-mag", "cyton-eeg", "cyton-acc"}
    assert all(result.recorded > 0 for result in results)
