"""Bit rot in short: damage of every class is found, and a product that overlooks one is caught."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.bitrot import Campaign, result
from tests.faults.bitrot_mutants import MUTANTS, mutant

SEED = 20261121
N = 30
FULL_BYTES = 512 * 1024
WHERE = {"stale-lap": ("journals",), "ends-not-noted": ("ends",)}  # the others show in "small"


@pytest.mark.timeout(300)  # seconds of computing; slow where others compute too
def test_all_damage_is_found_and_nothing_else_is_lost(tmp_path: Path) -> None:
    campaign = Campaign(N, SEED, tmp_path, full_bytes=FULL_BYTES)
    campaign.run()
    found = result(campaign)
    print(f"seed {SEED}: {found}")
    assert found["met"], found
    assert len(found["classes"]) == 16
    assert all(
        count["runs"] == count["found"] + count["harmless"] for count in found["classes"].values()
    )


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_product_that_overlooks_damage_is_caught(name: str, tmp_path: Path) -> None:
    campaign = Campaign(N, SEED, tmp_path, full_bytes=FULL_BYTES)
    with mutant(name):
        campaign.run(WHERE.get(name, ("small",)), stops=True)
    print(f"seed {SEED}: {result(campaign)}")
    assert not campaign.is_met


def test_a_mutant_s_campaign_ends_with_status_1() -> None:
    command = [sys.executable, "-m", "tests.faults", "bitrot", "--n", "20", "--seed", "1", "--json"]
    done = subprocess.run(
        [*command, "--mutant", "chunk-crc-unchecked"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["met"] is False
