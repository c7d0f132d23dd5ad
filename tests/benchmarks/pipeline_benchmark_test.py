"""The benchmark of the whole box runs and adds up. Figures of time are reported, never asserted."""

import json
from pathlib import Path

import pytest

from tests.benchmarks import pipeline
from tests.benchmarks.lateness import SentTimes


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_benchmark_of_the_whole_box_loses_nothing() -> None:
    rows = {row.case: row for row in pipeline.run(seconds=60.0)}

    lost = [row for case, row in rows.items() if "samples lost" in case]
    assert len(lost) == 3
    assert all(row.met and row.ours == 0 for row in lost)
    for name in ("supervisor", "agent", "acquire:helmet", "acquire:cyton", "pipeline", "uplink"):
        assert rows[f"private memory: {name}"].ours > 0
    assert rows["CPU of the daemon, all processes"].ours > 0
    assert rows["helmet-mag: live messages"].ours > 0
    sample = rows["helmet: last byte of a sample -> subscriber, p50"]
    newest = rows["helmet: last byte sent -> filtered, p50"]
    assert 0 < newest.ours < sample.ours  # a sample cannot be seen before it was sent and filtered
    assert any(case.startswith("drain of a backlog") for case in rows)


def test_a_frame_leaves_with_its_last_row(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.json"
    ledger.write_text(json.dumps({"runs": [{"started_ns": 1_000}]}))
    sent = SentTimes(ledger, 1000.0)

    assert sent.due_ns(8) == 1_000 + 8_000_000
    assert [sent.sent_ns(seq) for seq in (0, 7, 8)] == [7_001_000, 7_001_000, 15_001_000]
    assert sent.sent_all_ns(7, 9).tolist() == [7_001_000, 15_001_000]


def test_a_device_that_was_started_twice_has_no_single_clock(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.json"
    ledger.write_text(json.dumps({"runs": [{"started_ns": 1}, {"started_ns": 2}]}))
    with pytest.raises(ValueError, match="started 2 times"):
        SentTimes(ledger, 1000.0)
