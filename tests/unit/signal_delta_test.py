"""Send-on-delta against the rule written out, row by row."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from brainforge_edge.kernels.delta import SendOnDelta
from brainforge_edge.signal.delta import Moves, Trigger

Rows = NDArray[np.float32]
Event = tuple[int, int, int, float]


def plain(rows: Rows, thresholds: list[float], refractory: int = 0) -> list[Event]:
    sent: dict[int, tuple[int, float]] = {}
    events: list[Event] = []
    for i, row in enumerate(rows.astype(np.float64)):
        for j, x in enumerate(row):
            if not np.isfinite(x):
                continue
            if j not in sent:
                direction = 0
            else:
                at, last = sent[j]
                if i <= at + refractory or abs(x - last) <= thresholds[j]:
                    continue
                direction = 1 if x > last else -1
            sent[j] = (i, x)
            events.append((i, j, direction, x))
    return events


def listed(moves: Moves) -> list[Event]:
    columns = (moves.index, moves.channel, moves.direction, moves.value)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def room(n: int) -> tuple[Any, Any, Any, Any]:
    return (
        np.empty(n, np.int64),
        np.empty(n, np.int32),
        np.empty(n, np.int8),
        np.empty(n, np.float32),
    )


def walk(n: int, n_channels: int, seed: int, *, holes: float = 0.0) -> Rows:
    rng = np.random.default_rng(seed)
    rows = np.cumsum(rng.standard_normal((n, n_channels)), axis=0).astype(np.float32)
    rows[rng.uniform(size=rows.shape) < holes] = np.nan
    rows[rng.uniform(size=rows.shape) < holes / 4] = np.inf
    return rows


@pytest.mark.parametrize("refractory", [0, 1, 7])
@pytest.mark.parametrize("holes", [0.0, 0.2])
def test_events_are_those_of_the_rule(refractory: int, holes: float) -> None:
    rows, thresholds = walk(400, 5, 3, holes=holes), [0.0, 0.5, 1.0, 3.0, 1e9]
    found = listed(Trigger(thresholds, refractory=refractory).push(rows))
    assert found == plain(rows, thresholds, refractory)
    assert sum(channel == 4 for _, channel, _, _ in found) == 1  # its first value alone


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 60), max_size=8),
    st.floats(0, 5),
    st.integers(0, 9),
    st.integers(0, 1000),
)
def test_chunks_change_no_event(
    cuts: list[int], threshold: float, refractory: int, seed: int
) -> None:
    rows = walk(sum(cuts) + 10, 3, seed, holes=0.1)
    whole = Trigger([threshold] * 3, refractory=refractory).push(rows)
    live = Trigger([threshold] * 3, refractory=refractory)
    parts = [listed(live.push(part)) for part in np.split(rows, np.cumsum(cuts))]
    assert [event for part in parts for event in part] == listed(whole)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(width=32, allow_infinity=True, allow_nan=True), max_size=60),
    st.floats(0, 1e38),
)
def test_what_a_receiver_holds_is_never_further_away_than_the_threshold(
    values: list[float], threshold: float
) -> None:
    rows = np.array(values, np.float32).reshape(-1, 1)
    held = Trigger([threshold]).push(rows).held(len(rows), 1)
    is_known = np.isfinite(rows)
    away = np.abs(rows[is_known].astype(np.float64) - held[is_known].astype(np.float64))
    assert (away <= threshold).all()
    assert np.isnan(held[: np.argmax(is_known)] if is_known.any() else held).all()


def test_a_value_that_is_no_number_makes_no_event_and_changes_none() -> None:
    rows = np.array([[np.nan], [1], [np.inf], [1.5], [-np.inf], [2.5], [np.nan], [2.6]], np.float32)
    assert listed(Trigger([1.0]).push(rows)) == [(1, 0, 0, 1.0), (5, 0, 1, 2.5)]


def test_after_a_gap_each_channel_begins_anew() -> None:
    live, rows = Trigger([1.0, 1.0]), walk(50, 2, 1)
    first = listed(live.push(rows))
    live.gap()
    assert listed(live.push(rows)) == first
    assert [event[2] for event in first[:2]] == [0, 0]


def test_a_storm_of_events_is_told_whole_in_bounded_steps() -> None:
    rows = np.tile(np.array([[0], [10]], np.float32), (3000, 3))
    moves = Trigger([1.0] * 3).push(rows)
    assert len(moves) == 18_000
    assert SendOnDelta(np.ones(3)).push(rows, *room(10)) == (3, 9)  # a fourth row might not fit


def test_what_cannot_be_meant_is_refused() -> None:
    for bad in ([-1.0], [np.nan], [np.inf], []):
        with pytest.raises(ValueError, match="thresholds"):
            Trigger(bad)
    with pytest.raises(ValueError, match="refractory"):
        Trigger([1.0], refractory=-1)
    with pytest.raises(ValueError, match="rows of shape"):
        Trigger([1.0]).push(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="room"):
        SendOnDelta(np.ones(2)).push(np.zeros((3, 2), np.float32), *room(1))
    index, channel, direction, _ = room(1)
    with pytest.raises(ValueError, match="one length"):
        SendOnDelta(np.ones(1)).push(
            np.zeros((3, 1), np.float32), index, channel, direction, np.empty(2, np.float32)
        )
