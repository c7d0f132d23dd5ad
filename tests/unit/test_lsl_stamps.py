"""Stamps of an LSL stream become an index: gaps where stamps stay late, none where they only jitter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainforge_edge.devices.lsl_stamps import SETTLE_S, ClockJumped, Piece, Stamps

SFREQ = 1000.0


def _fed(
    stamps: np.ndarray, *, chunk: int, sfreq: float = SFREQ, jitter_s: float = 0.02
) -> list[Piece]:
    """All rows, chunk by chunk; a row holds its place, and time passes as the stamps say."""
    follower = Stamps(sfreq, jitter_s=jitter_s)
    rows = np.arange(len(stamps))[:, None]
    pieces = []
    for first in range(0, len(stamps), chunk):
        part = slice(first, first + chunk)
        now_ns = round(stamps[part].max() * 1e9)
        pieces += follower.feed(rows[part], stamps[part], now_ns)
    return pieces + follower.settle(0, at_once=True)


def _check_whole(pieces: list[Piece], n: int) -> None:
    """Every row once, in order; indices never overlap and holes are named."""
    rows = np.concatenate([piece.data for piece in pieces])[:, 0]
    np.testing.assert_array_equal(rows, np.arange(n))
    expected = 0
    for piece in pieces:
        assert piece.seq == expected + piece.missing
        assert (piece.plus_minus > 0) == (piece.missing > 0)
        expected = piece.seq + len(piece.data)


def test_steady_stamps_are_given_out_at_once_and_without_a_gap() -> None:
    follower = Stamps(SFREQ, jitter_s=0.02)
    (piece,) = follower.feed(np.zeros((16, 1)), 5.0 + np.arange(16) / SFREQ, 0)
    assert (piece.seq, len(piece.data), piece.missing) == (0, 16, 0)
    assert follower.held == 0


@settings(deadline=None, max_examples=60)
@given(
    holes=st.lists(
        st.tuples(st.integers(600, 1400), st.integers(25, 5000)), min_size=1, max_size=4
    ),
    chunk=st.integers(1, 60),
    drift=st.floats(-2e-4, 2e-4),
)
def test_a_hole_in_the_stamps_is_a_gap_of_its_size_at_its_place(
    holes: list[tuple[int, int]], chunk: int, drift: float
) -> None:
    index: list[int] = []
    places: dict[int, int] = {}
    at = 0
    for run, hole in holes:
        index += range(at, at + run)
        at += run + hole
        places[len(index)] = hole
    index += range(at, at + 600)
    pieces = _fed(3.0 + np.array(index) * (1 + drift) / SFREQ, chunk=chunk)
    _check_whole(pieces, len(index))
    found = {int(piece.data[0, 0]): piece for piece in pieces if piece.missing}
    assert found.keys() == places.keys()
    for place, hole in places.items():
        assert abs(found[place].missing - hole) <= found[place].plus_minus


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    burst=st.integers(1, 120),
    late_s=st.floats(0, 0.15),
    chunk=st.integers(1, 100),
)
def test_bursts_that_come_late_are_no_gaps(
    seed: int, burst: int, late_s: float, chunk: int
) -> None:
    """A radio that holds packets back: every other burst is late by its own delay."""
    n = 3000
    each = np.random.default_rng(seed).uniform(0, late_s, n // burst + 1)
    each[::2] = each[-2:] = 0
    delays = np.repeat(each, burst)[:n]
    pieces = _fed(np.arange(n) / SFREQ + delays, chunk=chunk)
    _check_whole(pieces, n)
    assert sum(piece.missing for piece in pieces) == 0


def test_a_hole_beside_jitter_says_how_uncertain_it_is() -> None:
    random = np.random.default_rng(7)
    index = np.r_[0:3000, 3100:6000]
    pieces = _fed(index / SFREQ + random.uniform(0, 0.015, len(index)), chunk=16)
    _check_whole(pieces, len(index))
    (gap,) = [piece for piece in pieces if piece.missing]
    assert abs(gap.missing - 100) <= gap.plus_minus
    assert 10 <= gap.plus_minus <= 40


def test_rows_are_held_no_longer_than_the_verdict_takes() -> None:
    follower = Stamps(SFREQ, jitter_s=0.02)
    follower.feed(np.zeros((100, 1)), np.arange(100) / SFREQ, 0)
    assert follower.feed(np.zeros((20, 1)), 1.0 + np.arange(20) / SFREQ, 0) == []
    assert follower.held == 20
    (piece,) = follower.settle(round(SETTLE_S * 1e9))
    assert (piece.seq, piece.missing, follower.held) == (1000, 900, 0)


def test_late_rows_at_the_end_of_a_link_are_a_gap_that_may_be_none() -> None:
    last = _fed(np.r_[0:500, 560:565] / SFREQ, chunk=100)[-1]
    assert (last.missing, last.plus_minus) == (60, 60)


def test_a_slow_stream_needs_more_than_one_and_a_half_periods_for_a_gap() -> None:
    stamps = np.array([0.0, 1.0, 2.0, 3.3, 4.0, 7.0, 8.0])
    pieces = _fed(stamps, chunk=1, sfreq=1.0)
    _check_whole(pieces, 7)
    assert [piece.missing for piece in pieces if piece.missing] == [2]


@pytest.mark.parametrize("jump", [-2.0, 1e6, float("nan"), float("inf")])
def test_stamps_of_another_clock_are_refused(jump: float) -> None:
    follower = Stamps(SFREQ, jitter_s=0.02)
    follower.feed(np.zeros((50, 1)), 100.0 + np.arange(50) / SFREQ, 0)
    with pytest.raises(ClockJumped):
        follower.feed(np.zeros((2, 1)), np.array([100.05, 100.051 + jump]), 0)
