"""What is recorded beside us meets the same faults: the harness finds their losses, in short."""

from pathlib import Path
from random import Random

from tests.faults.peers import flipped, killed


def test_samples_that_a_killed_streamer_had_handed_out_are_counted(tmp_path: Path) -> None:
    found = killed(tmp_path, 1, Random(5))
    assert found["acknowledged"] > 200
    assert 0 <= found["lost"] < found["acknowledged"]


def test_a_flipped_bit_in_a_format_without_checksums_is_seen_to_pass(tmp_path: Path) -> None:
    found = flipped(tmp_path, 20, Random(5))
    assert found["accepted"] > 10
