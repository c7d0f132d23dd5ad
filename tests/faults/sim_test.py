"""The simulation in short: a few seeds, one of them twice, and products that are wrong."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.edited import edited_all
from tests.faults.sim import Campaign
from tests.faults.sim_box import Box
from tests.faults.sim_check import _recorded
from tests.faults.sim_mutants import MUTANTS
from tests.faults.turns import SetClock
from tests.unit.recorder_faulty_disk import MortalDisk

SEED = 20261201
# A seed that shows the fault of each: the simulation finds it among a few, at the latest.
SHOWN_BY = {
    "receipt-before-commit": 1,
    "no-deduplication": 1,
    "written-first": 3,
    "acknowledged-first": 6,
    "gaps-not-counted": 1,
    "file-id-again": 4,
}


@pytest.fixture(autouse=True)
def dead_processes_hold_no_descriptors(no_descriptor_outlives_its_test: None) -> Iterator[None]:
    """Before the descriptors are counted."""
    yield
    MortalDisk.bury()


def test_a_few_lives_lose_and_double_nothing() -> None:
    campaign = Campaign(600.0)
    campaign.run(SEED, 3)
    found = campaign.result()
    print(found)
    assert found["met"], found
    assert found["box_seconds"] > 3 * 600
    assert len(found["faults"]) > 10
    assert found["acknowledged"] > 6_000


@pytest.mark.parametrize("seed", [93, 124])
def test_a_segment_that_was_cut_and_not_synced_stays_cut(seed: int) -> None:
    """Its process died between the two, and power failed long after recovery had found it closed."""
    campaign = Campaign(2500.0)
    campaign.one(seed)
    assert campaign.is_met, campaign.failed


def test_a_seed_replays_exactly() -> None:
    """In other processes too, where a set of texts has another order."""
    command = [sys.executable, "-m", "tests.faults", "sim", "--seed", str(SEED), "--seconds", "300"]
    digests = [
        json.loads(
            subprocess.run(
                [*command, "--json"], env=os.environ | {"PYTHONHASHSEED": salt},
                stdout=subprocess.PIPE, check=True,
            ).stdout
        )["digest"]
        for salt in ("1", "2", "3")
    ]  # fmt: skip
    assert len(set(digests)) == 1, digests


def test_the_hole_that_a_power_cut_leaves_is_named(tmp_path: Path) -> None:
    """The ring went with it; the device counts on."""
    clock = SetClock()
    box = Box(tmp_path, random.Random(SEED), clock)
    for step in range(24):
        clock.now_ns += 4_000_000_000
        if step == 12:
            box.cut_power()
        box.is_linked = step not in {12, 13}
        box.step()
    box.stop()
    while not box.is_closed:
        clock.now_ns += 4_000_000_000
        box.step()
    box.close_files()
    recorded, wrong = _recorded(box)
    assert not wrong
    assert [len(samples) for samples in recorded.values()] == [2, 2]


@pytest.mark.long  # 3 s of computing each
@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_product_that_is_wrong_is_found(name: str) -> None:
    campaign = Campaign(1500.0)
    with edited_all(MUTANTS[name]):
        campaign.one(SHOWN_BY[name])
    print(campaign.result())
    assert not campaign.is_met
