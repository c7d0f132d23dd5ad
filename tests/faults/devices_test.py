"""All wired kinds at once for a minute, drivers killed in turn; and boxes that must not pass.

The latter by command, `tests/run -m long tests/faults/devices_test.py`.
"""

from pathlib import Path

import pytest

from tests.faults.devices import DEVICES, MUTANTS, STREAMS, Campaign


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_all_kinds_at_once_lose_nothing_but_around_their_own_kill(tmp_path: Path) -> None:
    campaign = Campaign(seconds=60.0, kill_every_s=9.0)
    campaign.run(tmp_path)
    print()
    print(campaign.table())
    assert campaign.wrong == []
    assert {account.stream_id for account in campaign.accounts} == STREAMS.keys()
    assert all(account.rows and account.alignment.n for account in campaign.accounts)
    assert all(campaign.costs[name].kills >= 1 for name in DEVICES)
    assert all(cost.cores > 0 and cost.private_mib > 0 for cost in campaign.costs.values())


@pytest.mark.long
@pytest.mark.timeout(150)
@pytest.mark.parametrize(("mutant", "kill_every_s"), [(MUTANTS[1], 100.0), (MUTANTS[2], 12.0)])
def test_a_box_that_loses_samples_fails_the_account(
    tmp_path: Path, mutant: str, kill_every_s: float
) -> None:
    campaign = Campaign(seconds=24.0, kill_every_s=kill_every_s, mutant=mutant)
    campaign.run(tmp_path)
    lost = {line.partition(":")[0] for line in campaign.wrong if line.endswith("samples lost")}
    assert lost, campaign.wrong
    if mutant == MUTANTS[2]:  # the helmet is killed, the optical helmet in secret with it
        assert {"light-flow", "light-flux"} <= lost
