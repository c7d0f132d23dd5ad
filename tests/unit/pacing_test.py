"""What is left out under load, in which order, and how it comes back; by a clock of the test's own."""

import pytest

from brainforge_edge.pipeline.pacing import (
    CALM_S,
    MOST_CALM_S,
    Level,
    Load,
    Pacing,
    every,
    shed,
)

LOOK_S = 0.25
BUSY, CALM, BETWEEN = 0.9, 0.1, 0.45


class Machine:
    """One stream's thread that is busy for a part of its time; looked at four times a second."""

    def __init__(self) -> None:
        self.pacing = Pacing()
        self._now_ns = 0
        self._worked_ns = 0

    def run(self, seconds: float, busy: float, behind_s: float = 0.0) -> list[Level]:
        """The levels at the looks."""
        found = []
        for _ in range(round(seconds / LOOK_S)):
            self._now_ns += round(LOOK_S * 1e9)
            self._worked_ns += round(busy * LOOK_S * 1e9)
            loads = {"a": Load(self._worked_ns, behind_s), "b": Load(0, 0.0)}
            self.pacing.look(loads, self._now_ns)
            found.append(self.pacing.level)
        return found


def test_under_load_one_thing_after_the_other_is_left_out() -> None:
    levels = Machine().run(6, BUSY)
    assert list(dict.fromkeys(levels)) == list(Level)
    assert levels == sorted(levels)


def test_rows_that_wait_are_load_too() -> None:
    machine = Machine()
    machine.run(5, CALM, behind_s=0.5)
    assert machine.pacing.level is Level.LOW_RATE
    assert machine.pacing.behind_s == 0.5


def test_in_calm_all_comes_back_step_by_step_in_the_other_order() -> None:
    machine = Machine()
    machine.run(6, BUSY)
    levels = machine.run(6 * CALM_S + 2, CALM)
    assert list(dict.fromkeys(levels)) == list(reversed(Level))
    assert levels.count(Level.HALF_RATE) == CALM_S / LOOK_S


def test_between_the_two_limits_nothing_changes() -> None:
    machine = Machine()
    machine.run(2.5, BUSY)
    machine.run(2.0, BETWEEN)
    level = machine.pacing.level
    assert Level.ALL < level < Level.LOW_RATE
    assert set(machine.run(60, BETWEEN)) == {level}


def test_a_moment_of_load_is_no_load() -> None:
    machine = Machine()
    for _ in range(20):
        assert set(machine.run(LOOK_S, 1.0) + machine.run(1.0, CALM)) == {Level.ALL}


def test_a_moment_of_load_ends_the_calm_that_was_counted() -> None:
    machine = Machine()
    machine.run(2.0, BUSY)
    level = machine.run(2.0, CALM)[-1]
    assert level > Level.ALL
    machine.run(CALM_S - 2, CALM)
    machine.run(2.0, BETWEEN)
    assert set(machine.run(CALM_S, CALM)) == {level}
    assert machine.run(2.5, CALM)[-1] == level - 1


def test_what_comes_back_in_vain_is_tried_less_and_less_often() -> None:
    """The machine bears coupling never: each try costs half a second of load."""
    machine = Machine()
    waited = []
    machine.run(2.0, BUSY)
    while machine.pacing.level > Level.NO_COUPLING:
        machine.run(LOOK_S, CALM)
    for _ in range(6):
        looks = 0
        while machine.pacing.level is not Level.ALL:
            machine.run(LOOK_S, CALM)
            looks += 1
        waited.append(looks * LOOK_S)
        while machine.pacing.level is Level.ALL:
            machine.run(LOOK_S, BUSY)
    assert waited == sorted(waited)
    assert waited[-1] >= MOST_CALM_S


def test_a_clock_that_stands_and_a_stream_that_is_new_change_nothing() -> None:
    pacing = Pacing()
    assert not pacing.look({"a": Load(10**12, 0.0)}, 5)
    assert not pacing.look({"a": Load(2 * 10**12, 0.0)}, 5)
    assert not pacing.look({"b": Load(10**12, 0.0)}, 10**9)
    assert pacing.level is Level.ALL


@pytest.mark.parametrize(
    ("update_hz", "rates"), [(10, [10, 5, 2]), (8, [8, 4, 2]), (5, [5, 5, 2.5])]
)
def test_rates_of_messages(update_hz: int, rates: list[float]) -> None:
    levels = (Level.NO_SLOW, Level.HALF_RATE, Level.LOW_RATE)
    assert [update_hz / every(level, update_hz) for level in levels] == rates


def test_words_for_what_is_left_out() -> None:
    assert shed(Level.ALL) == []
    assert shed(Level.LOW_RATE) == ["coupling", "octaves", "slow"]
