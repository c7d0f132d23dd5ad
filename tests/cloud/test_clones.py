"""Who speaks for a log: goodbyes, silent deaths and clones."""

from brainforge_edge.cloud.ingest.logs import LogRegistry
from brainforge_edge.core.wire import Hello


def hello(connection: str, *, leaving: bool = False) -> Hello:
    return Hello("bed-1", bytes(16), connection, (), token=connection, leaving=leaving)


def test_the_first_and_the_same_again_are_welcome() -> None:
    logs = LogRegistry()
    assert logs.hear(hello("a"), 0.0) == ("welcome", None)
    assert logs.hear(hello("a"), 1.0) == ("welcome", None)


def test_after_a_goodbye_the_next_is_welcome_at_once() -> None:
    logs = LogRegistry()
    logs.hear(hello("a"), 0.0)
    assert logs.hear(hello("a", leaving=True), 1.0) == ("gone", None)
    assert logs.hear(hello("b"), 1.0) == ("welcome", None)


def test_a_late_goodbye_of_the_dead_does_not_evict_the_living() -> None:
    logs = LogRegistry()
    logs.hear(hello("b"), 0.0)
    logs.hear(hello("a", leaving=True), 1.0)
    assert logs.hear(hello("c"), 2.0) == ("probe", None)


def test_a_rival_takes_over_only_when_the_first_stays_silent() -> None:
    logs = LogRegistry(probe_s=2.0)
    logs.hear(hello("a"), 0.0)
    assert logs.hear(hello("b"), 10.0) == ("probe", None)
    assert logs.hear(hello("b"), 11.0) == ("wait", None)
    assert logs.ripe(11.9) == []
    assert [h.connection for h in logs.ripe(12.0)] == ["b"]
    assert logs.hear(hello("b"), 12.1) == ("welcome", None)


def test_a_rival_is_refused_when_the_first_answers() -> None:
    logs = LogRegistry(probe_s=2.0)
    logs.hear(hello("a"), 0.0)
    logs.hear(hello("b"), 10.0)
    verdict, rival = logs.hear(hello("a"), 10.5)
    assert verdict == "welcome"
    assert rival is not None
    assert rival.connection == "b"
    assert logs.ripe(99.0) == []
    assert logs.clones == 1


def test_after_a_lost_link_nobody_is_held_against_a_box() -> None:
    logs = LogRegistry()
    logs.hear(hello("a"), 0.0)
    logs.forget()
    assert logs.hear(hello("b"), 1.0) == ("welcome", None)
