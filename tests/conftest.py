"""What holds for every test."""

import gc
from collections.abc import Iterator
from multiprocessing import resource_tracker
from pathlib import Path

import pytest
import structlog

_DESCRIPTORS = Path("/proc/self/fd")
_PROCESS_WIDE = ("/dev/null", "/dev/urandom")


@pytest.fixture(scope="session", autouse=True)
def multiprocessing_keeps_its_pipe() -> None:
    """Opened once by whoever first starts a process: before anything is counted."""
    resource_tracker.ensure_running()


@pytest.fixture(autouse=True)
def no_test_logs_to_what_another_one_captured() -> Iterator[None]:
    """A command that runs in this process sends its log to the stderr of its own test."""
    yield
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def no_descriptor_outlives_its_test() -> Iterator[None]:
    """What leaks here leaks in days of running; past 1,024 descriptors `select` fails."""
    before = _open_files()
    yield
    left = _left(before)
    if left:
        gc.collect()  # a failed test's traceback may hold them
        left = _left(before)
    assert not left, f"left open: {left}"


def _left(before: dict[int, str]) -> list[str]:
    return [
        target
        for fd, target in _open_files().items()
        if before.get(fd) != target and not target.startswith(_PROCESS_WIDE)
    ]


def _open_files() -> dict[int, str]:
    found: dict[int, str] = {}
    for entry in _DESCRIPTORS.iterdir():
        try:
            found[int(entry.name)] = str(entry.readlink())
        except FileNotFoundError:
            continue  # the descriptor of this listing
    return found
