"""The reservoir's kernel against its equation in plain numpy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from brainforge_edge.kernels.reservoir import EchoState
from brainforge_edge.signal.reservoir import Network, ReservoirConfig, network

Floats = NDArray[np.float64]


def made(n_inputs: int = 3, n_units: int = 50, seed: int = 1, **settings: float) -> Network:
    config = ReservoirConfig(n_units=n_units, n_links=7, **settings)
    return network(n_inputs, config, np.random.default_rng(seed))


def plain(fixed: Network, rows: NDArray[np.float32]) -> Floats:
    """The equation, in float64, with a dense matrix."""
    n = fixed.n_units
    dense = np.zeros((n, n))
    for weights, links in zip(fixed.weights, fixed.links, strict=True):
        dense[np.arange(n), links] += weights
    x = np.zeros(n)
    states = []
    for u in rows:
        drive = dense @ x + u.astype(np.float64) @ fixed.inputs + fixed.bias[0]
        x = (1 - fixed.leak) * x + fixed.leak * np.tanh(drive)
        states.append(x)
    return np.array(states)


def states(fixed: Network, rows: NDArray[np.float32], cuts: tuple[int, ...] = ()) -> Floats:
    state = fixed.start()
    parts = []
    for part in np.split(rows, np.cumsum(cuts)):
        out = np.empty((len(part), fixed.n_units), np.float32)
        state.states(np.ascontiguousarray(part), out)
        parts.append(out)
    return np.concatenate(parts)


def rows(n: int, n_inputs: int = 3, scale: float = 1.0) -> NDArray[np.float32]:
    return (scale * np.random.default_rng(n).standard_normal((n, n_inputs))).astype(np.float32)


@pytest.mark.parametrize("n_units", [7, 16, 133])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 100.0])
@pytest.mark.parametrize("leak", [0.1, 1.0])
def test_states_follow_the_equation(n_units: int, scale: float, leak: float) -> None:
    fixed = made(n_units=n_units, leak=leak)
    x = rows(150, scale=scale)
    rounding = 5e-6 * max(
        1.0, scale / 10
    )  # of the sum that drives a unit, which is as large as its inputs
    np.testing.assert_allclose(states(fixed, x), plain(fixed, x), atol=rounding, rtol=0)


def test_the_tangent_is_right_over_its_whole_range() -> None:
    v = np.linspace(-12, 12, 200_001, dtype=np.float32)[:, None]
    one = np.ones((1, 1), np.float32)
    state = EchoState(one, 0 * one, 0 * one, np.zeros((1, 1), np.int32), 1.0)
    found = np.empty_like(v)
    state.states(v, found)
    wanted = np.tanh(v.astype(np.float64))
    assert np.abs(found - wanted).max() < 2e-7
    small = np.abs(v) < 0.3
    assert (np.abs(found - wanted)[small] <= 1e-6 * np.abs(wanted)[small]).all()
    assert np.abs(found).max() == 1


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 40), max_size=8).map(tuple))
def test_chunks_change_no_bit(cuts: tuple[int, ...]) -> None:
    x = rows(sum(cuts) + 20)
    assert np.array_equal(states(made(), x, cuts), states(made(), x))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30, -2e6])
def test_a_value_that_cannot_be_used_is_held_counted_and_poisons_nothing(bad: float) -> None:
    x = rows(100)
    hurt, held = x.copy(), x.copy()
    hurt[0, 1], held[0, 1] = bad, 0
    hurt[40:50, 2], held[40:50, 2] = bad, x[39, 2]
    assert np.array_equal(states(made(), hurt), states(made(), held))
    state = made().start()
    state.states(hurt, np.empty((100, 50), np.float32))
    assert state.n_held == 11


def test_the_largest_values_and_silence_leave_usable_states() -> None:
    fixed = made(radius=0.5, bias_scale=0.0)
    state = fixed.start()
    out = np.empty((20_000, 50), np.float32)
    state.states(np.full((20_000, 3), 1e6, np.float32), out)
    assert np.abs(out).max() <= 1
    state.states(np.zeros((20_000, 3), np.float32), out)
    assert (out[-1] == 0).all()  # and not subnormal, which is a hundred times slower


def test_the_readout_is_of_constant_inputs_and_states() -> None:
    fixed, x = made(), rows(60)
    readout = np.random.default_rng(5).standard_normal((54, 2)).astype(np.float32)
    out = np.empty((60, 2), np.float32)
    fixed.start().apply(x, readout, out)
    design = np.hstack([np.ones((60, 1)), x, states(fixed, x)])
    np.testing.assert_allclose(out, design @ readout.astype(np.float64), rtol=1e-5, atol=1e-5)


def test_reset_starts_from_rest() -> None:
    state, x = made().start(), rows(50)
    first, second, third = (np.empty((50, 50), np.float32) for _ in range(3))
    state.states(x, first)
    state.states(x, second)
    state.reset()
    state.states(x, third)
    assert not np.array_equal(first, second)
    assert np.array_equal(first, third)


def test_what_is_no_network_is_refused() -> None:
    one = np.ones((1, 4), np.float32)
    links = np.zeros((1, 4), np.int32)
    with pytest.raises(ValueError, match="finite"):
        EchoState(one * np.nan, one, one, links, 0.5)
    with pytest.raises(ValueError, match="at most 1000"):
        EchoState(one, one, one * 1e4, links, 0.5)
    with pytest.raises(ValueError, match="links must name units"):
        EchoState(one, one, one, links + 4, 0.5)
    with pytest.raises(ValueError, match="links must name units"):
        EchoState(one, one, one, links - 1, 0.5)
    with pytest.raises(ValueError, match="leak"):
        EchoState(one, one, one, links, 0.0)
    with pytest.raises(ValueError, match="leak"):
        EchoState(one, one, one, links, float("nan"))
    with pytest.raises(ValueError, match="bias"):
        EchoState(one, one[:, :3].copy(), one, links, 0.5)
    with pytest.raises(ValueError, match="weights and links"):
        EchoState(one, one, one, links[:, :3].copy(), 0.5)
    state = EchoState(one, one, one, links, 0.5)
    with pytest.raises(ValueError, match="rows must be"):
        state.states(np.zeros((2, 2), np.float32), np.zeros((2, 4), np.float32))
    with pytest.raises(ValueError, match="out must be"):
        state.states(np.zeros((2, 1), np.float32), np.zeros((3, 4), np.float32))
    with pytest.raises(ValueError, match="readout must be"):
        state.apply(
            np.zeros((2, 1), np.float32), np.zeros((5, 1), np.float32), np.zeros((2, 1), np.float32)
        )
    with pytest.raises(ValueError, match="Buffer dtype mismatch"):
        state.states(np.zeros((2, 1)), np.zeros((2, 4), np.float32))


def test_links_have_the_radius_that_was_asked_for() -> None:
    fixed = made(n_units=80, radius=0.9)
    dense = np.zeros((80, 80))
    for weights, links in zip(fixed.weights, fixed.links, strict=True):
        dense[np.arange(80), links] = weights
    assert np.abs(np.linalg.eigvals(dense)).max() == pytest.approx(0.9, rel=1e-5)
    assert ((dense != 0).sum(axis=1) == 7).all()
