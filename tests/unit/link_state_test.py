"""The state of a link: told once for each change, with its reason; a new reason is no new state."""

from typing import Any

from brainforge_edge.acquisition.linkstate import Link, LinkState
from brainforge_edge.core.events import EventType
from tests.unit.archive_box import SetClock


def test_each_change_of_state_is_told_with_its_reason_and_how_long_the_last_one_lasted() -> None:
    clock = SetClock()
    told: list[tuple[EventType, str, dict[str, Any]]] = []
    link = Link(clock, lambda *notice: told.append(notice))
    clock.sleep(2.0)
    link.turn(LinkState.CONNECTING, "opening")
    link.turn(LinkState.STREAMING, "samples")
    link.turn(LinkState.STREAMING, "samples")
    clock.sleep(1.5)
    link.turn(LinkState.LOST, "device.silent")
    assert [event_type for event_type, _, _ in told] == [EventType.LINK_CHANGED] * 3
    assert told[-1][2] == {
        "state": "lost", "was": "streaming", "reason": "device.silent", "lasted_ms": "1500"
    }  # fmt: skip
    assert told[0][2]["lasted_ms"] == "2000"


def test_a_new_reason_for_the_same_state_is_shown_and_not_told() -> None:
    clock = SetClock()
    told: list[str] = []
    link = Link(clock, lambda *_: told.append("told"))
    link.turn(LinkState.LOST, "device.link_lost")
    clock.sleep(0.3)
    link.turn(LinkState.LOST, "device.no_such_port")
    assert told == ["told"]
    shown = link.figures(clock.monotonic_ns())
    assert shown == {"link": "lost", "since_ms": 300, "reason": "device.no_such_port"}
