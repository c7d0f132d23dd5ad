"""Motion regression on a synthetic whose truth is known: 3 axes, dense lags, gains that change."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import signal

from brainforge_edge.signal.chain import Chain, ChainConfig
from brainforge_edge.signal.design import design
from brainforge_edge.signal.motion import MOST_LAGS, MotionRegression, even_lags
from tests.unit.signal_material import noise

Floats = NDArray[np.float64]
SFREQ = 250
N = 6


def band(x: Floats, low: float, high: float) -> Floats:
    found: Floats = signal.sosfilt(
        signal.butter(2, [low, high], "bandpass", fs=SFREQ, output="sos"), x, axis=0
    )
    return found


class Truth:
    """Signal of a head, movement of three axes that share a part, and the motion it makes: each
    channel answers with 25 lags of its own, and its gain changes by ± 30 % in the course of minutes."""

    def __init__(self, seconds: float, *, seed: int = 1, strength: float = 10.0) -> None:
        rng = np.random.default_rng(seed)
        n = round(seconds * SFREQ)
        self.signal = band(noise(seconds, SFREQ, N, seed=seed).astype(np.float64), 0.5, 45)
        self.signal /= self.signal.std(axis=0)
        own = rng.standard_normal((n, 3)) + 0.7 * rng.standard_normal((n, 1))
        self.reference = band(own, 0.5, 8.0)
        self.reference /= self.reference.std(axis=0)
        taps = rng.standard_normal((25, 3, N)) * np.exp(-np.arange(25) / 8)[:, None, None]
        motion = np.stack(
            [
                sum(signal.lfilter(taps[:, a, c], 1, self.reference[:, a]) for a in range(3))
                for c in range(N)
            ],
            axis=1,
        )
        t = np.arange(n) / SFREQ
        gain = 1 + 0.3 * np.sin(2 * np.pi * t[:, None] / 300 + np.arange(N))
        self.motion = strength * gain * motion / motion.std(axis=0)
        self.rows = self.signal + self.motion


def decibel(over: Floats, under: Floats) -> Floats:
    found: Floats = 10 * np.log10((over**2).mean(axis=0) / (under**2).mean(axis=0))
    return found


def gain(found: Floats, truth: Floats) -> Floats:
    """Of the truth within what was found, dB."""
    kept: Floats = 20 * np.log10((found * truth).sum(axis=0) / (truth**2).sum(axis=0))
    return kept


def in_chunks(
    regression: MotionRegression, rows: Floats, reference: Floats, cuts: list[int]
) -> Floats:
    ends = np.cumsum(cuts)
    parts = np.split(np.arange(len(rows)), ends[ends < len(rows)])
    return np.concatenate([regression.push(rows[i], reference[i]).rows for i in parts])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_motion_falls_by_20_db_and_the_signal_by_less_than_1(seed: int) -> None:
    truth = Truth(180, seed=seed)
    found = MotionRegression(SFREQ, N).push(truth.rows, truth.reference)
    late = slice(60 * SFREQ, None)
    left = found.rows[late] - truth.signal[late]
    assert decibel(truth.motion[late], left).min() > 20
    assert gain(found.rows[late], truth.signal[late]).min() > -1
    slow = band(found.rows, 0.5, 8)[late], band(truth.signal, 0.5, 8)[late]
    assert gain(*slow).min() > -1  # where the motion is as well


def test_a_signal_without_motion_is_kept_though_the_head_moves() -> None:
    truth = Truth(120, strength=0.0)
    found = MotionRegression(SFREQ, N).push(truth.rows, truth.reference).rows
    assert np.abs(decibel(found, truth.signal)).max() < 1
    assert gain(band(found, 0.5, 8), band(truth.signal, 0.5, 8)).min() > -1


def test_weights_are_those_of_weighted_least_squares() -> None:
    truth = Truth(20)
    lags = (0, 3, 7)
    regression = MotionRegression(SFREQ, N, lags=lags, memory_s=5)
    regression.push(truth.rows, truth.reference)
    block = round(0.05 * SFREQ)
    n = len(truth.rows) // block * block
    x = np.concatenate([truth.reference[7 - lag : n - lag] for lag in lags], axis=1)
    age = (n - 1 - np.arange(7, n)) // block
    root = np.sqrt(np.exp(-age * block / (5 * SFREQ)))[:, None]
    wanted = np.linalg.lstsq(root * x, root * truth.rows[7:n], rcond=None)[0]
    np.testing.assert_allclose(regression.weights, wanted, rtol=1e-3, atol=1e-3)


def test_the_size_of_chunks_changes_no_bit() -> None:
    truth = Truth(20)
    whole = MotionRegression(SFREQ, N).push(truth.rows, truth.reference).rows
    rng = np.random.default_rng(5)
    for most in (2, 40, 1000):
        cuts = rng.integers(1, most, len(truth.rows)).tolist()
        found = in_chunks(MotionRegression(SFREQ, N), truth.rows, truth.reference, cuts)
        assert np.array_equal(found, whole)


def test_no_row_depends_on_later_ones() -> None:
    truth = Truth(10)
    changed = truth.rows.copy()
    changed[1500:] = 7
    first = MotionRegression(SFREQ, N).push(truth.rows, truth.reference).rows
    second = MotionRegression(SFREQ, N).push(changed, truth.reference).rows
    assert np.array_equal(first[:1500], second[:1500])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e200])
def test_bad_values_of_a_channel_freeze_it_and_leave_the_others_alone(bad: float) -> None:
    truth = Truth(60)
    half = 30 * SFREQ
    clean, hurt = MotionRegression(SFREQ, N), MotionRegression(SFREQ, N)
    for regression in (clean, hurt):
        regression.push(truth.rows[:half], truth.reference[:half])
    before = hurt.weights[:, 2].copy()
    rows = truth.rows.copy()
    rows[half:, 2] = bad
    found = hurt.push(rows[half:], truth.reference[half:]).rows
    wanted = clean.push(truth.rows[half:], truth.reference[half:]).rows
    others = [0, 1, 3, 4, 5]
    np.testing.assert_allclose(found[:, others], wanted[:, others], rtol=1e-9, atol=1e-9)
    assert np.array_equal(hurt.weights[:, 2], before)
    assert np.array_equal(found[:, 2], rows[half:, 2], equal_nan=True)


def test_a_channel_that_comes_back_is_cleaned_at_once() -> None:
    truth = Truth(50)
    rows = truth.rows.copy()
    back = 40 * SFREQ
    rows[30 * SFREQ : back, 2] = np.nan
    found = MotionRegression(SFREQ, N).push(rows, truth.reference).rows
    after = slice(back, back + 3 * SFREQ)
    assert decibel(truth.motion[after], found[after] - truth.signal[after]).min() > 18


def test_values_in_trouble_are_cleaned_but_not_learned_from() -> None:
    truth = Truth(30)
    regression = MotionRegression(SFREQ, N)
    half = 15 * SFREQ
    regression.push(truth.rows[:half], truth.reference[:half])
    before = regression.weights.copy()
    troubles = np.zeros((half, N), np.int8)
    troubles[:, 1] = 3
    regression.push(truth.rows[half:] * 50, truth.reference[half:], troubles)
    assert np.array_equal(regression.weights[:, 1], before[:, 1])
    assert not np.array_equal(regression.weights[:, 0], before[:, 0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
def test_a_hole_in_the_reference_removes_nothing_teaches_nothing_and_is_told(bad: float) -> None:
    truth = Truth(40)
    regression = MotionRegression(SFREQ, N)
    half = 4992  # whole blocks: what is under way would be learned
    regression.push(truth.rows[:half], truth.reference[:half])
    before = regression.weights.copy()
    reference = truth.reference[half:].copy()
    reference[:, 0] = bad
    found = regression.push(truth.rows[half:], reference)
    assert not found.is_cleaned.any()
    assert np.isfinite(found.rows).all()
    assert np.array_equal(regression.weights, before)
    reference[:] = bad
    last = regression.push(truth.rows[:half], reference[:half]).rows
    past = max(even_lags(SFREQ))
    assert np.array_equal(last[past:], truth.rows[past:half])


def test_after_a_hole_rows_are_clean_once_it_has_left_the_lags() -> None:
    truth = Truth(20)
    reference = truth.reference.copy()
    reference[3000] = np.nan
    found = MotionRegression(SFREQ, N, lags=(0, 4, 9)).push(truth.rows, reference)
    assert np.flatnonzero(~found.is_cleaned[2000:]).tolist() == [1000, 1004, 1009]


def test_a_gap_begins_the_lags_anew_and_keeps_the_weights() -> None:
    truth = Truth(20)
    regression = MotionRegression(SFREQ, N, lags=(0, 9))
    regression.push(truth.rows[:4007], truth.reference[:4007])
    before = regression.weights.copy()
    regression.gap()
    found = regression.push(truth.rows[4500:4512], truth.reference[4500:4512])
    assert found.is_cleaned.tolist() == [False] * 9 + [True] * 3
    x = np.concatenate([truth.reference[4511], truth.reference[4502]])
    np.testing.assert_allclose(found.rows[11], truth.rows[4511] - x @ before, atol=1e-9)


def test_a_pop_of_an_electrode_is_not_learned() -> None:
    truth = Truth(40)
    popped = truth.rows.copy()
    popped[5000:5200, 3] += 1e4
    found = MotionRegression(SFREQ, N).push(popped, truth.reference).rows
    after = slice(5200, 5200 + 5 * SFREQ)
    left = found[after] - truth.signal[after]
    assert decibel(truth.motion[after], left).min() > 20


def test_a_gain_that_jumps_is_followed_in_three_memories() -> None:
    truth = Truth(80)
    jump = 40 * SFREQ
    gain_ = np.where(np.arange(len(truth.rows)) < jump, 1.0, -2.0)[:, None]
    rows = truth.signal + gain_ * truth.motion
    found = MotionRegression(SFREQ, N).push(rows, truth.reference).rows
    after = slice(jump + 15 * SFREQ, None)
    left = found[after] - truth.signal[after]
    assert decibel(gain_[after] * truth.motion[after], left).min() > 20


def test_a_level_that_stays_is_believed_in_the_end() -> None:
    truth = Truth(40)
    rows = truth.rows.copy()
    rows[20 * SFREQ :] *= 1e4
    found = MotionRegression(SFREQ, N).push(rows, truth.reference).rows
    after = slice(35 * SFREQ, None)
    assert decibel(rows[after], found[after]).min() > 15
    rows[: 20 * SFREQ] = 0
    assert (
        decibel(
            rows[after], MotionRegression(SFREQ, N).push(rows, truth.reference).rows[after]
        ).min()
        > 15
    )


def test_axes_that_are_the_same_signal_have_bounded_weights() -> None:
    truth = Truth(30)
    same = np.repeat(truth.reference[:, :1], 3, axis=1)
    regression = MotionRegression(SFREQ, N, lags=(0,))
    regression.push(truth.rows, same)
    assert np.ptp(regression.weights, axis=0).max() < 1e-3
    assert np.abs(regression.weights).max() < 10


@pytest.mark.parametrize("level", [0.0, 1e-161])
def test_a_reference_that_stands_still_removes_nothing(level: float) -> None:
    truth = Truth(20)
    regression = MotionRegression(SFREQ, N)
    found = regression.push(truth.rows, level * truth.reference).rows
    assert np.array_equal(found, truth.rows)
    assert not regression.weights.any()


def test_noise_of_the_resting_reference_gets_no_weight() -> None:
    truth = Truth(30, strength=0.0)
    rest = 0.01 * np.random.default_rng(3).standard_normal(truth.reference.shape)
    held = MotionRegression(SFREQ, N, noise=0.1)
    free = MotionRegression(SFREQ, N)
    for regression in (held, free):
        regression.push(truth.rows, rest)
    assert np.abs(held.weights).max() < 0.05 * np.abs(free.weights).max()


def test_nothing_is_removed_before_enough_was_learned() -> None:
    truth = Truth(5)
    found = MotionRegression(SFREQ, N, settle_s=3).push(truth.rows, truth.reference)
    assert np.array_equal(found.rows[: 3 * SFREQ], truth.rows[: 3 * SFREQ])
    assert not found.is_cleaned[: 3 * SFREQ].any()
    assert found.is_cleaned[-1]


def test_what_is_given_stays_as_it_is_and_keeps_its_type() -> None:
    truth = Truth(5)
    rows, reference = truth.rows.astype(np.float32), truth.reference.astype(np.float32)
    copies = rows.copy(), reference.copy()
    assert MotionRegression(SFREQ, N).push(rows, reference).rows.dtype == np.float32
    assert np.array_equal(rows, copies[0])
    assert np.array_equal(reference, copies[1])


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"lags": ()}, "lags"),
        ({"lags": (-1, 0)}, "lags"),
        ({"lags": (1, 1)}, "lags"),
        ({"lags": tuple(range(MOST_LAGS + 1))}, "lags"),
        ({"lags": (251,)}, "more than 1 s"),
        ({"n_axes": 0}, "axes"),
        ({"memory_s": 0.1}, "memory_s"),
        ({"noise": float("nan")}, "noise"),
    ],
)
def test_what_has_no_sense_is_refused(settings: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        MotionRegression(SFREQ, N, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("sfreq", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(sfreq: float) -> None:
    with pytest.raises(ValueError, match="Hz"):
        MotionRegression(sfreq, N)


def test_other_shapes_are_refused() -> None:
    regression = MotionRegression(SFREQ, 2)
    with pytest.raises(ValueError, match="reference of shape"):
        regression.push(np.zeros((5, 2)), np.zeros((4, 3)))
    with pytest.raises(ValueError, match="troubles of shape"):
        regression.push(np.zeros((5, 2)), np.zeros((5, 3)), np.zeros((5, 1)))


def test_behind_one_high_pass_offsets_and_gravity_are_no_motion() -> None:
    truth = Truth(60)
    config = ChainConfig(dc_hz=0.3, h_freq=100.0)
    rows = Chain(config, SFREQ, tuple("abcdef"), design=design)
    reference = Chain(config, SFREQ, tuple("xyz"), design=design)
    gravity = np.array([0.0, 0.0, 500.0])
    parts = []
    for start in range(0, len(truth.rows), 101):
        here = slice(start, start + 101)
        parts.append(
            (rows.push(truth.rows[here] + 30_000), reference.push(truth.reference[here] + gravity))
        )
    filtered, moved = (np.concatenate(part) for part in zip(*parts, strict=True))
    found = MotionRegression(SFREQ, N).push(filtered, moved).rows
    wanted = Chain(config, SFREQ, tuple("abcdef"), design=design).push(truth.signal)
    late = slice(20 * SFREQ, None)
    left = (found - wanted)[late].astype(np.float64)
    assert decibel((filtered - wanted)[late].astype(np.float64), left).min() > 20
