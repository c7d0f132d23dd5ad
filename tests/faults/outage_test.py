"""An outage in short: nothing is lost or stored twice, in little memory; a box that hoards is caught."""

from pathlib import Path

import pytest

from tests.faults.outage import CAUGHT, run

SEED = 20261121

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_what_was_recorded_without_a_broker_is_delivered_once_and_soon(tmp_path: Path) -> None:
    found = run(tmp_path, 0.2, 120, SEED, lambda _: None)
    print(found)
    assert found["met"], found
    assert found["parts"]["day"]["chunks"] > 180
    assert found["parts"]["meg"]["tries"] >= 12


@pytest.mark.long  # a minute
@pytest.mark.parametrize("mutant", CAUGHT)
def test_a_product_that_hoards_or_believes_too_early_is_caught(tmp_path: Path, mutant: str) -> None:
    found = run(tmp_path, 0.0, 120, SEED, lambda _: None, mutant)
    print(found)
    assert not found["met"]
    part = found["parts"]["meg"]
    assert part["lost"] or part["uplink_mib"]["plus_minus_percent"] > 20
