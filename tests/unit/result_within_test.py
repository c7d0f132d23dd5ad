"""Waiting by a clock that is given: one that goes slowly gives more time."""

from concurrent.futures import Future

import pytest

from brainforge_edge.core.threads import result_within


class Steps:
    """Each look costs so much of its time."""

    def __init__(self, step_s: float) -> None:
        self.looks = 0
        self._step_ns = round(step_s * 1e9)

    def monotonic_ns(self) -> int:
        self.looks += 1
        return self.looks * self._step_ns

    def utc_ns(self) -> int | None:
        return None

    def sleep(self, seconds: float) -> None:
        raise AssertionError(f"nobody sleeps here: {seconds}")


def test_what_is_done_is_given_out_at_once() -> None:
    done: Future[int] = Future()
    done.set_result(3)
    clock = Steps(100.0)
    assert result_within(done, 0.0, clock) == 3
    failed: Future[int] = Future()
    failed.set_exception(KeyError("x"))
    with pytest.raises(KeyError):
        result_within(failed, 1.0, clock)


def test_the_time_is_that_of_the_clock() -> None:
    never: Future[int] = Future()
    clock = Steps(0.5)
    with pytest.raises(TimeoutError):
        result_within(never, 1.5, clock)
    assert clock.looks == 4
