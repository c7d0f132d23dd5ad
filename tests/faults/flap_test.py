"""A flapping line in short: nothing is lost or stored twice, and a product that believes too early is caught."""

from pathlib import Path

import pytest

from tests.faults.flap import CAUGHT, Flap

SEED = 20261121
KILLS = 5

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_kills_and_a_deaf_line_lose_nothing_and_store_nothing_twice(tmp_path: Path) -> None:
    flap = Flap(tmp_path, SEED, lambda _: None)
    flap.run(KILLS, every=KILLS)
    found = flap.result()
    print(found)
    assert found["met"], found
    assert found["acknowledged"] > 1000
    assert min(found["messages"].values()) > 0


@pytest.mark.long  # half a minute to two minutes each
@pytest.mark.parametrize("mutant", CAUGHT)
def test_a_product_that_believes_too_early_or_stores_twice_is_caught(
    tmp_path: Path, mutant: str
) -> None:
    flap = Flap(tmp_path, SEED, lambda _: None, mutant)
    flap.run(KILLS, every=KILLS, stalled_s=40.0)
    found = flap.result()
    print(found)
    assert not found["met"]
    assert found["duplicated" if mutant == "no-deduplication" else "lost"] > 0
