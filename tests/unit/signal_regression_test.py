"""Eyes: coefficients by an independent formula and on known truth, flags on signals that have one fault."""

import numpy as np
import pytest
from numpy.typing import NDArray

from brainforge_edge.signal.eyes import MOST_LOOK_S, EyeLimits, seen
from brainforge_edge.signal.regression import FEWEST_ROWS, fit
from tests.unit.signal_material import noise, sine

Floats = NDArray[np.float64]
SFREQ = 250
EOG = (0, 4)


def recorded(seconds: float, *, seed: int = 1) -> tuple[Floats, Floats, Floats]:
    """Rows of 6 channels, two of them EOG; the truth without eyes; what each channel takes up."""
    rng = np.random.default_rng(seed)
    truth = noise(seconds, SFREQ, 6, seed=seed).astype(np.float64)
    truth -= truth.mean(axis=0)
    eyes = 20 * truth[:, list(EOG)].std() * np.abs(rng.standard_normal((len(truth), 2))) ** 3
    eyes -= eyes.mean(axis=0)
    taken = rng.uniform(-0.5, 0.5, (2, 6))
    taken[:, list(EOG)] = np.eye(2)
    return truth + eyes @ taken, truth, taken


def test_coefficients_are_those_of_the_normal_equations() -> None:
    rows, _, taken = recorded(30)
    found = fit(rows, EOG).coefficients
    x = rows - rows.mean(axis=0)
    eyes = x[:, list(EOG)]
    wanted = np.linalg.inv(eyes.T @ eyes) @ eyes.T @ x
    wanted[:, list(EOG)] = 0
    np.testing.assert_allclose(found, wanted, atol=1e-9)
    others = [1, 2, 3, 5]
    np.testing.assert_allclose(found[:, others], taken[:, others], atol=0.02)


def test_eyes_fall_by_20_db_in_rows_that_were_not_fitted_on() -> None:
    rows, truth, _ = recorded(60)
    half = 30 * SFREQ
    regression = fit(rows[:half], EOG)
    for channel in (1, 2, 3, 5):
        left = regression.apply(rows[half:])[:, channel] - truth[half:, channel]
        was = rows[half:, channel] - truth[half:, channel]
        assert 10 * np.log10((was**2).mean() / (left**2).mean()) > 20
    assert np.array_equal(regression.apply(rows)[:, list(EOG)], rows[:, list(EOG)])


def test_chunks_change_no_bit_and_what_is_given_stays() -> None:
    rows = recorded(20)[0].astype(np.float32)
    regression = fit(rows, EOG)
    before = rows.copy()
    whole = regression.apply(rows)
    assert whole.dtype == np.float32
    for size in (1, 7, 333):
        parts = [regression.apply(rows[i : i + size]) for i in range(0, len(rows), size)]
        assert np.array_equal(np.concatenate(parts), whole)
    assert np.array_equal(rows, before)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
def test_a_bad_reference_takes_nothing_out_and_poisons_no_other_channel(bad: float) -> None:
    rows, _, _ = recorded(20)
    regression = fit(rows, EOG)
    hurt = rows.copy()
    hurt[10:20, 0] = bad
    still = rows.copy()
    still[10:20, 0] = 0
    np.testing.assert_array_equal(regression.apply(hurt)[:, 1:], regression.apply(still)[:, 1:])


def test_calibration_leaves_out_bad_rows_and_those_that_are_not_wanted() -> None:
    rows, _, _ = recorded(20)
    hurt = rows.copy()
    hurt[100, 3] = np.nan
    hurt[200:300] = 1e6
    is_good = np.ones(len(rows), bool)
    is_good[200:300] = False
    keep = is_good.copy()
    keep[100] = False
    found = fit(hurt, EOG, is_good=is_good).coefficients
    np.testing.assert_allclose(found, fit(rows[keep], EOG).coefficients, atol=1e-12)


def test_what_cannot_be_fitted_is_refused_with_the_reason() -> None:
    rows, _, _ = recorded(20)
    with pytest.raises(ValueError, match="different"):
        fit(rows, (1, 1))
    with pytest.raises(ValueError, match="not among"):
        fit(rows, (6,))
    with pytest.raises(ValueError, match="are needed"):
        fit(rows[: FEWEST_ROWS - 1], (0,))
    flat = rows.copy()
    flat[:, 0] = 3
    with pytest.raises(ValueError, match="do not move"):
        fit(flat, (0,))
    flat[:, 0] = flat[:, 4] * 2
    with pytest.raises(ValueError, match="same signal"):
        fit(flat, EOG)
    with pytest.raises(ValueError, match="rows of shape"):
        fit(rows, EOG).apply(rows[:, :3])


def still(seconds: float = 2.0) -> Floats:
    quiet = 10e-6 * np.random.default_rng(2).standard_normal(round(seconds * SFREQ))
    return np.asarray(quiet + sine(10, seconds, SFREQ, 15e-6))[:, None]


def at() -> Floats:
    return (np.arange(2 * SFREQ) / SFREQ)[:, None]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_blink_is_seen_and_is_no_movement(sign: int) -> None:
    found = seen(still() + sign * 180e-6 * np.exp(-(((at() - 1) / 0.08) ** 2)), SFREQ)
    assert (found.is_blink.tolist(), found.is_movement.tolist()) == ([True], [False])


@pytest.mark.parametrize("sign", [1, -1])
def test_a_movement_of_the_gaze_is_seen_and_is_no_blink(sign: int) -> None:
    found = seen(still() + sign * 150e-6 * (at() > 0.9), SFREQ)
    assert (found.is_blink.tolist(), found.is_movement.tolist()) == ([False], [True])


def test_eeg_alone_shows_neither() -> None:
    found = seen(still(), SFREQ)
    assert not found.is_blink.any()
    assert not found.is_movement.any()
    assert found.is_judged.all()


def test_a_channel_with_values_that_are_no_numbers_has_no_flags() -> None:
    rows = np.concatenate([still(), still() + 150e-6 * (at() > 0.9)], axis=1)
    rows[7, 0] = np.nan
    found = seen(rows, SFREQ)
    assert found.is_judged.tolist() == [False, True]
    assert found.is_movement.tolist() == [False, True]


def test_limits_may_be_others() -> None:
    rows = still() + 30e-6 * np.exp(-(((at() - 1) / 0.08) ** 2))
    assert not seen(rows, SFREQ).is_blink[0]
    assert seen(rows, SFREQ, EyeLimits(blink=30e-6)).is_blink[0]


def test_looks_are_neither_too_short_nor_too_long() -> None:
    for n in (249, round(MOST_LOOK_S * SFREQ) + 1):
        with pytest.raises(ValueError, match="looked at"):
            seen(np.zeros((n, 1)), SFREQ)
