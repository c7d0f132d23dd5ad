"""Processes that die in unit tests."""

from collections.abc import Iterator

import pytest

from tests.unit.recorder_faulty_disk import MortalDisk


@pytest.fixture(autouse=True)
def dead_processes_hold_no_descriptors(no_descriptor_outlives_its_test: None) -> Iterator[None]:
    """Before the descriptors are counted."""
    yield
    MortalDisk.bury()
