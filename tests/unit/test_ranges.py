"""Intervals against a set of integers."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from brainforge_edge.core.ranges import Intervals

pairs = st.tuples(st.integers(0, 60), st.integers(0, 60))


@given(added=st.lists(pairs), asked=pairs)
def test_intervals_answer_like_a_set(added: list[tuple[int, int]], asked: tuple[int, int]) -> None:
    intervals = Intervals(added)
    plain = {x for first, end in added for x in range(first, end)}
    wanted = set(range(*asked))
    assert intervals.covers(*asked) == (wanted <= plain)
    missing = intervals.missing(*asked)
    assert [x for first, end in missing for x in range(first, end)] == sorted(wanted - plain)
    assert intervals.total == len(plain)
    merged = list(intervals)
    assert all(end < after for (_, end), (after, _) in itertools.pairwise(merged))
    assert {x for first, end in merged for x in range(first, end)} == plain
