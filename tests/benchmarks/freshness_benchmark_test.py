"""The benchmark of freshness runs and adds up. Figures of time are reported, never asserted."""

import pytest

from tests.benchmarks import freshness


@pytest.mark.long  # on a machine that is busy already its pipeline starts, and paces, as it can
@pytest.mark.timeout(900)
def test_the_benchmark_of_freshness_sees_every_stream() -> None:
    rows = {row.case: row for row in freshness.run(seconds=5.0)}
    for case in freshness.GOALS_MS:
        for name in ("helmet-mag", *(f"muse{k}-eeg" for k in range(4))):
            assert rows[f"{case}: {name}, messages"].ours > 0
        assert rows[f"{case}: helmet, 306 ch: last byte -> features, p50"].ours > 0
        assert rows[f"{case}: pipeline, private"].ours > 0
