"""Power cuts in short, on real ext4; a product that acknowledges too early is caught."""

from pathlib import Path

import pytest

from tests.faults.cuttable import is_possible
from tests.faults.powercut import MUTANTS, Campaign

SEED = 20261121

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not is_possible(), reason="needs root, /dev/fuse and a loop device"),
]


def test_cuts_lose_no_acknowledged_row(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path, SEED, lambda _: None)
    campaign.run(8, 6.0, "")
    found = campaign.result()
    print(found)
    assert found["met"], found
    assert found["acknowledged"] > 8 * 1000


@pytest.mark.long  # half a minute each
@pytest.mark.parametrize("mutant", sorted(MUTANTS))
def test_a_product_that_acknowledges_too_early_is_caught(tmp_path: Path, mutant: str) -> None:
    campaign = Campaign(tmp_path, SEED, lambda _: None)
    campaign.run(8, 6.0, mutant)
    found = campaign.result()
    print(found)
    assert found["cuts_with_loss"] >= 4
    assert not found["met"]
