"""Processes that die in unit tests, and a session of four whose keys can be erased."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from brainforge_edge.security.wrap import Recipient
from tests.unit.erasure_material import Make, pairs, session
from tests.unit.recorder_faulty_disk import MortalDisk
from tests.unit.sealed_material import DISK


@pytest.fixture(autouse=True)
def dead_processes_hold_no_descriptors(no_descriptor_outlives_its_test: None) -> Iterator[None]:
    """Before the descriptors are counted."""
    yield
    MortalDisk.bury()


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("private")


@pytest.fixture(scope="module")
def recipients(private: Path) -> tuple[Recipient, ...]:
    return pairs(private)


@pytest.fixture
def make(private: Path, recipients: tuple[Recipient, ...]) -> Make:
    return lambda root: session(root, private, recipients, DISK)
