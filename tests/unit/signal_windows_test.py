"""Windows of 1, 2 and 4 s: the same whatever the chunks, right after an hour, never poisoned for ever."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from brainforge_edge.core.errors import ConfigError
from brainforge_edge.signal.featureset import window_features
from brainforge_edge.signal.grid import BANDS, WINDOWS_S, grid
from brainforge_edge.signal.windows import REASONS, Trouble, Windows, rail_troubles
from tests.unit.signal_material import Rows, filled, noise

RATES = [(125, 5), (128, 8), (130, 10), (250, 10), (256, 8), (512, 8), (1000, 10), (1200, 10)]


def expected(rows: Rows, sfreq: int, window_s: int) -> np.ndarray:
    """Densities by scipy in float64, (n_channels, n_bins) from bin 1 on."""
    x = rows[-window_s * sfreq :].astype(np.float64)
    _, density = signal.periodogram(x, sfreq, "hann", detrend="constant", axis=0)
    found: np.ndarray = density[1:].T
    return found


def assert_exact(windows: Windows, rows: Rows, tolerance: float = 1e-9) -> None:
    for window_s in WINDOWS_S:
        found = windows.spectra.density(window_s)
        wanted = expected(rows, windows.grid.sfreq, window_s)[:, : found.shape[1]]
        # Against the mean: single bins of noise can lie as low as one likes.
        assert np.abs(found - wanted).max() <= tolerance * wanted.mean()


@pytest.mark.parametrize(("sfreq", "update_hz"), RATES)
def test_a_hop_is_a_whole_part_of_a_second_near_ten_a_second(sfreq: int, update_hz: int) -> None:
    found = grid(sfreq)
    assert found.update_hz == update_hz
    assert found.hop * update_hz == sfreq
    assert found.bands == BANDS


def test_a_slow_stream_has_the_bands_that_it_can_have() -> None:
    assert [band.name for band in grid(52).bands] == ["delta", "theta", "alpha"]
    assert [band.name for band in grid(10).bands] == ["delta"]


@pytest.mark.parametrize("sfreq", [0.0, 9.0, 51.2, 30_000.0])
def test_a_rate_that_has_no_grid_is_refused_with_a_reason(sfreq: float) -> None:
    with pytest.raises(ConfigError, match="whole number of Hz") as refused:
        grid(sfreq)
    assert refused.value.code == "config.features"


@pytest.mark.parametrize(("sfreq", "_rate"), RATES)
def test_the_spectra_are_those_of_a_periodogram_under_hann(sfreq: int, _rate: int) -> None:
    rows = noise(5.0, sfreq, 3)
    whole = rows[: len(rows) // grid(sfreq).hop * grid(sfreq).hop]
    assert_exact(filled(rows, sfreq), whole)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 900), min_size=1, max_size=12))
def test_chunking_does_not_change_a_bit(cuts: list[int]) -> None:
    rows = noise(5.0, 256, 3)
    rows[700, 1] = np.nan
    rows = rows[: sum(cuts)]
    troubles = np.zeros(rows.shape, np.int8)
    troubles[300:420, 2] = Trouble.RAIL
    whole = Windows(grid(256), 3)
    whole.push(rows, troubles)
    parts = Windows(grid(256), 3)
    at = 0
    for n in cuts:
        parts.push(rows[at : at + n], troubles[at : at + n])
        at += n
    assert parts.hops == whole.hops
    for window_s in WINDOWS_S:
        assert np.array_equal(parts.trouble(window_s), whole.trouble(window_s))
        assert np.array_equal(parts.spectra.hann(window_s), whole.spectra.hann(window_s))
        found, wanted = (window_features(w, window_s) for w in (parts, whole))
        assert np.array_equal(found.shape.kurtosis, wanted.shape.kurtosis, equal_nan=True)


def test_every_hop_can_be_seen_one_by_one() -> None:
    windows = Windows(grid(250), 2)
    rows = noise(1.03, 250, 2)
    assert sum(windows.push(rows[part]) for part in windows.cut(rows)) == windows.hops == 10
    assert [part.stop - part.start for part in windows.cut(rows[:60])] == [17, 25, 18]


def test_after_an_hour_the_sums_are_still_right() -> None:
    """3.6 million rows with an offset, an artefact and drift; the goal is 1e-3."""
    sfreq, hour = 1000, 3600
    windows = Windows(grid(sfreq), 2)
    base = noise(7.3, sfreq, 2) + np.float32(2000)
    n = hour * sfreq // len(base)
    for i in range(n):
        rows = base.copy() if i == 100 else base
        if i == 100:
            rows[500:600, 0] *= 1e3
        windows.push(rows)
    assert windows.hops >= 35_900
    tail = np.concatenate([base, base])
    assert_exact(windows, tail[: len(tail) - n * len(base) % windows.grid.hop], 1e-6)


def test_a_window_says_that_it_is_warming_up_until_it_is_full() -> None:
    windows = Windows(grid(250), 2)
    rows = noise(4.0, 250, 2)
    for i, part in enumerate(list(windows.cut(rows)), start=1):
        windows.push(rows[part])
        for window_s in WINDOWS_S:
            is_full = i >= window_s * 10
            wanted = Trouble.NONE if is_full else Trouble.START
            assert (windows.trouble(window_s) == wanted).all()
            found = window_features(windows, window_s)
            assert np.isnan(found.powers["alpha"]).any() != is_full
            assert np.isnan(found.shape.variance).any() != is_full


def test_lost_samples_start_all_windows_anew_with_that_reason() -> None:
    rows = noise(5.0, 250, 2)
    windows = filled(rows, 250)
    windows.push(rows[:7])  # of a hop that will never be whole
    windows.gap()
    windows.push(rows[:250])
    assert (windows.trouble(1) == Trouble.NONE).all()
    assert (windows.trouble(2) == Trouble.GAP).all()
    windows.push(rows[250:1000])
    assert (windows.trouble(4) == Trouble.NONE).all()
    assert_exact(windows, rows[:1000])


def test_after_a_gap_every_bit_is_that_of_a_new_start() -> None:
    before, rows = noise(5.3, 250, 2, seed=7) * 1e8, noise(4.2, 250, 2)
    used, new = Windows(grid(250), 2), Windows(grid(250), 2)
    used.push(before.astype(np.float32))
    used.gap()
    for windows in (used, new):
        windows.push(rows)
    assert used.pending == new.pending == 0
    for window_s in WINDOWS_S:
        found, wanted = (window_features(windows, window_s) for windows in (used, new))
        assert np.array_equal(found.density, wanted.density)
        assert np.array_equal(found.shape.kurtosis, wanted.shape.kurtosis)
        assert np.array_equal(found.shape.complexity, wanted.shape.complexity)


def test_the_samples_of_a_window_can_be_had_for_some_channels() -> None:
    rows = noise(6.1, 250, 4)
    windows = filled(rows, 250)
    whole = rows[: len(rows) - windows.pending]
    for window_s in WINDOWS_S:
        found = windows.recent(window_s, np.array([3, 1]))
        assert np.array_equal(found, whole[-window_s * 250 :][:, [3, 1]])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_number_ails_one_channel_until_it_has_left(bad: float) -> None:
    rows = noise(6.0, 250, 3)
    damaged = rows.copy()
    damaged[505, 1] = bad
    windows = Windows(grid(250), 3)
    windows.push(damaged[:525])
    for window_s in (1, 2):
        assert windows.trouble(window_s).tolist() == [0, Trouble.NOT_FINITE, 0]
    found = window_features(windows, 1)
    assert np.isfinite(found.entropy).tolist() == [True, False, True]
    windows.push(damaged[525:775])
    assert windows.trouble(1).tolist() == [0, 0, 0]
    assert windows.trouble(2).tolist() == [0, Trouble.NOT_FINITE, 0]
    windows.push(damaged[775:])
    assert windows.trouble(2).tolist() == [0, 0, 0]
    assert_exact_window(windows, rows, 2)
    windows.push(rows[:1000])
    assert_exact(windows, rows[:1000])


def assert_exact_window(windows: Windows, rows: Rows, window_s: int) -> None:
    found = windows.spectra.density(window_s)
    wanted = expected(rows, windows.grid.sfreq, window_s)[:, : found.shape[1]]
    assert np.abs(found - wanted).max() <= 1e-9 * wanted.mean()


def test_what_a_filter_hides_can_be_told_beside_the_rows() -> None:
    raw = np.zeros((1000, 2), np.int32)
    raw[400:410, 0] = 2**23 - 1
    windows = Windows(grid(250), 2)
    windows.push(noise(4.0, 250, 2), rail_troubles(raw, -(2**23), 2**23 - 1))
    assert windows.trouble(1).tolist() == [0, 0]
    assert windows.trouble(4).tolist() == [Trouble.RAIL, 0]


def test_values_as_large_as_the_type_allows_leave_nothing_behind() -> None:
    rows = noise(6.0, 250, 3)
    rows[300:310, 0] = np.finfo(np.float32).max
    rows[320, 1] = 1e12
    windows = filled(rows, 250)
    assert_exact(windows, rows)


def test_silence_after_a_signal_is_exact_silence() -> None:
    windows = filled(noise(5.0, 250, 2), 250)
    windows.push(np.zeros((1000, 2), np.float32))
    found = window_features(windows, 4)
    assert (found.powers["alpha"] == 0).all()
    assert np.isnan(found.ratios["alpha/beta"]).all()
    assert np.isnan(found.entropy).all()


def test_every_trouble_has_words_for_a_person() -> None:
    assert set(REASONS) == set(Trouble)
    assert all(REASONS[trouble].startswith("warming up") for trouble in Trouble if trouble)


def test_rows_of_another_shape_and_too_many_channels_are_refused() -> None:
    windows = Windows(grid(250), 2)
    with pytest.raises(ValueError, match="not \\(n, 2\\)"):
        windows.push(np.zeros((5, 3), np.float32))
    with pytest.raises(ValueError, match="troubles of shape"):
        windows.push(np.zeros((5, 2), np.float32), np.zeros((4, 2), np.int8))
    for n_channels in (0, 1025):
        with pytest.raises(ValueError, match="channels"):
            Windows(grid(250), n_channels)


def test_the_state_of_a_helmet_is_small() -> None:
    """The page says 12 MB for 306 channels at 1 kHz."""
    assert Windows(grid(1000), 306).nbytes < 12.5e6
