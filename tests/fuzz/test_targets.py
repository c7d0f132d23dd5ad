"""A short seeded run of each target: no parser raises anything but errors of ours, whatever comes."""

import resource
import time

import pytest

from tests.fuzz.mutator import mutated
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

SEED = 20
INPUTS = 600
MOST_S = 2.0  # of the processor, for one input
MOST_KIB = 256 * 1024  # all inputs together


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_mutated_input_is_read_or_refused_in_bounded_time_and_memory(target: Target) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with target.start() as run:
        for data in mutated(target.seeds(), seed=SEED, n=INPUTS, max_bytes=target.max_bytes):
            began = time.process_time()
            try:
                run(data)
            except BaseException as error:
                error.add_note(f"seed {SEED}, input {data.hex()}")
                raise
            assert time.process_time() - began < MOST_S, data.hex()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_KIB


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_the_seeds_of_a_target_are_several_and_within_its_length(target: Target) -> None:
    seeds = target.seeds()
    assert len(set(seeds)) == len(seeds) >= 4
    assert max(len(seed) for seed in seeds) <= target.max_bytes
