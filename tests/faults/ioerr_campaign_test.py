"""I/O errors in short: a part of the simulated faults, three calls of the real daemon, and recorders that are wrong."""

from pathlib import Path

import pytest

from tests.faults.edited import edited_all
from tests.faults.ioerr import Campaign, result
from tests.faults.ioerr_daemon import Daemon, missing
from tests.faults.ioerr_disk import WATCHED
from tests.faults.ioerr_mutants import MUTANTS

SEED = 20261130
# Where the fault of each mutant shows: the seldom ones need not be waited for.
WHERE = {
    "journal-sync-again": frozenset({"fdatasync"}),
    "segment-sync-again": frozenset({"fdatasync"}),
    "sync-error-swallowed": frozenset({"fdatasync"}),
    "written-first": frozenset({"pwrite"}),
}


def test_errors_of_any_call_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path, SEED)
    campaign.run(part=60)
    found = result(campaign)
    print(found)
    assert found["met"], found
    assert found["acknowledged"] > 30 * 6000
    assert set(found["calls"]) == WATCHED


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_recorder_that_is_wrong_is_found(name: str, tmp_path: Path) -> None:
    campaign = Campaign(tmp_path, SEED)
    with edited_all(MUTANTS[name]):
        campaign.run(part=7, stops=True, calls=WHERE[name])
    found = result(campaign)
    print(found)
    assert not found["met"]


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}")
def test_errors_in_the_daemon_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, SEED)
    daemon.run(3)
    print(daemon.result())
    assert daemon.is_met, daemon.result()
