"""What comes on `desired` and `job/…` costs bounded memory, and reaches the agent however often it is started again."""

import itertools
import tracemalloc

import pytest

from brainforge_edge.core import ipc, topics
from brainforge_edge.security.order import MOST_BYTES
from brainforge_edge.uplink.inbox import Heard
from brainforge_edge.uplink.orderdesk import AGAIN_S, MOST_AT_ONCE, MOST_JOBS, OrderDesk

JOB = "0123456789abcdef"


class Stand:
    """A desk, and what the agent and the pump have of it."""

    def __init__(self) -> None:
        self.beside: list[Heard] = []
        self.handed: list[ipc.Directive] = []
        self.desk = OrderDesk("bed-1", self.beside.append)
        self.now = 100.0

    def beat(self, seconds: float = 0.25) -> list[str]:
        """Jobs that were handed over, "" for a desired state."""
        self.now += seconds
        self.handed.clear()

        def keep(message: ipc.Message) -> None:
            assert isinstance(message, ipc.Directive)
            self.handed.append(message)

        self.desk.hand_over(keep, self.now)
        return [each.job for each in self.handed]


def test_both_are_handed_over_once_and_forgotten_when_they_are_settled() -> None:
    stand = Stand()
    stand.desk.hear(topics.job("bed-1", JOB), b"order")
    stand.desk.hear(topics.desired("bed-1"), b"state")
    assert stand.beat() == ["", JOB]
    assert [each.payload for each in stand.handed] == [b"state", b"order"]
    stand.desk.settled(JOB)
    stand.desk.settled("")
    assert stand.beat(1000.0) == []
    stand.desk.hear(topics.desired("bed-1"), b"state")
    assert stand.beat() == [""]


def test_what_is_not_settled_is_handed_over_again_later_and_later() -> None:
    """By an agent that was started again, or has to wait for the time or the end of a recording."""
    stand = Stand()
    stand.desk.hear(topics.desired("bed-1"), b"state")
    times: list[float] = []
    while len(times) < 9:
        if stand.beat(1.0):
            times.append(stand.now)
        stand.desk.hear(topics.desired("bed-1"), b"state")  # as a broker repeats it
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert gaps[0] == AGAIN_S[0]
    assert gaps == sorted(gaps)
    assert gaps[-1] == AGAIN_S[1]


def test_a_newer_state_is_not_forgotten_with_the_one_before() -> None:
    stand = Stand()
    stand.desk.hear(topics.desired("bed-1"), b"old")
    stand.beat()
    stand.desk.hear(topics.desired("bed-1"), b"new")
    stand.desk.settled("")
    assert stand.beat() == [""]
    assert stand.handed[0].payload == b"new"


@pytest.mark.parametrize(
    "topic",
    ["bf/v1/bed-2/desired", "bf/v1/bed-1/ack/-", "", "bf/v1/bed-1/job/a/status", "elsewhere"],
)
def test_what_belongs_elsewhere_goes_there(topic: str) -> None:
    stand = Stand()
    stand.desk.hear(topic, b"word")
    assert stand.beside == [Heard(topic, b"word")]
    assert stand.beat() == []


@pytest.mark.parametrize("job", ["+", "#", "0" * 15, "0" * 17, "A" * 16, "../../../../x", "é" * 16])
def test_a_name_that_no_order_has_is_not_handed_over(job: str) -> None:
    """A hostile broker delivers what a topic of an answer could not even be made of."""
    stand = Stand()
    stand.desk.hear(topics.job("bed-1", job), b"order")
    assert stand.beat() == []


def test_a_retained_message_that_was_deleted_changes_nothing() -> None:
    stand = Stand()
    stand.desk.hear(topics.desired("bed-1"), b"")
    stand.desk.hear(topics.job("bed-1", JOB), b"")
    assert stand.beat() == []
    stand.desk.hear(topics.desired("bed-1"), b"state")
    stand.desk.hear(topics.desired("bed-1"), b"")
    assert stand.beat() == [""]


def test_ten_thousand_messages_of_garbage_hold_no_more_than_a_few() -> None:
    stand = Stand()
    big, most = b"x" * 1024 * 1024, b"y" * MOST_BYTES
    tracemalloc.start()
    try:
        for i in range(10_000):
            stand.desk.hear(topics.job("bed-1", f"{i:016x}"), bytes(most))
            stand.desk.hear(topics.desired("bed-1"), bytes(big))
            stand.desk.hear(topics.job("bed-1", "x" * 1000), b"order")
            stand.desk.hear(f"bf/v1/bed-1/desired/{i}", b"order")
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 4 * MOST_JOBS * MOST_BYTES
    assert stand.beside == []
    assert len(stand.beat()) == MOST_AT_ONCE
    figures = stand.desk.figures()
    assert figures["waiting"] == MOST_JOBS
    assert figures["refused"]["oversize"] == 10_000
    assert figures["refused"]["foreign"] == 20_000
    assert figures["refused"]["dropped"] == 10_000 - MOST_JOBS
    stand.desk.hear(topics.desired("bed-1"), b"state")
    assert stand.beat()[0] == ""
