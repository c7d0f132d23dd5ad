"""The biquad cascade against the difference equation in plain numpy, for every instruction set of this CPU."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import signal

from brainforge_edge.kernels.sos import MOST_SECTIONS, SosFilter

Floats = NDArray[np.float64]


def cascade(n_sections: int = 5) -> Floats:
    band = signal.butter(4, [1, 100], "bandpass", fs=1000, output="sos")
    notch = signal.tf2sos(*signal.iirnotch(60, 30, fs=1000))
    peak = signal.tf2sos(*signal.iirpeak(17, 3, fs=1000)) * [[1.3, 1.3, 1.3, 2, 2, 2]]
    shelf = np.array([[1.1, -1.5, 0.6, 1.0, -1.4, 0.5]])  # b0 != b2
    return np.ascontiguousarray(np.vstack([band, notch, peak, *[shelf] * 10])[:n_sections])


def plain(sos: Floats, x: Floats) -> Floats:
    """Direct form I, written out."""
    for b0, b1, b2, a0, a1, a2 in sos:
        y = np.zeros_like(x)
        for n in range(len(x)):
            y[n] = b0 * x[n]
            if n > 0:
                y[n] += b1 * x[n - 1] - a1 * y[n - 1]
            if n > 1:
                y[n] += b2 * x[n - 2] - a2 * y[n - 2]
            y[n] /= a0
        x = y
    return x


def decibel(error: Floats, reference: Floats) -> float:
    return float(20 * np.log10(np.sqrt(np.mean(error**2) / np.mean(reference**2))))


def filtered(filt: SosFilter, x: NDArray[np.float32] | NDArray[np.int32]) -> NDArray[np.float32]:
    out = np.empty(x.shape, np.float32)
    filt.apply(x, out)
    return out


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("n_sections", [1, 2, 3, 4, 5, 6, 7, MOST_SECTIONS])
@pytest.mark.parametrize("n_channels", [1, 3, 16, 21, 50])
def test_the_output_is_the_difference_equation(
    level: int, n_sections: int, n_channels: int
) -> None:
    sos = cascade(n_sections)
    x = np.random.default_rng(n_channels).standard_normal((70, n_channels)).astype(np.float32)
    out = filtered(SosFilter(sos, n_channels, None, level), x)
    reference = plain(sos, x.astype(np.float64))
    assert decibel(out - reference, reference) < -140


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 90), min_size=1, max_size=12), st.integers(0, 2))
def test_chunking_does_not_change_a_bit(cuts: list[int], level: int) -> None:
    x = np.random.default_rng(1).standard_normal((sum(cuts), 21)).astype(np.float32) + 20_000
    whole = filtered(SosFilter(cascade(), 21, None, level), x)
    filt = SosFilter(cascade(), 21, None, level)
    parts = []
    at = 0
    for n in cuts:
        parts.append(filtered(filt, x[at : at + n]))
        at += n
    assert np.array_equal(np.concatenate(parts), whole)


def test_a_large_offset_costs_no_precision() -> None:
    x = np.random.default_rng(2).standard_normal((5000, 20)).astype(np.float32) * 300 + 20_000
    out = filtered(SosFilter(cascade(), 20), x)[2500:]
    reference = signal.sosfilt(cascade(), x.astype(np.float64), axis=0)[2500:]
    assert decibel(out - reference, reference) < -140


def test_counts_are_scaled_channel_by_channel() -> None:
    counts = np.random.default_rng(3).integers(-(2**23), 2**23, (100, 19), np.int32)
    scale = np.linspace(1e-15, 5e-15, 19)
    out = filtered(SosFilter(cascade(), 19, scale), counts)
    reference = signal.sosfilt(cascade(), counts * scale, axis=0)
    assert decibel(out - reference, reference) < -140


def test_rows_may_be_filtered_in_place() -> None:
    x = np.random.default_rng(4).standard_normal((100, 19)).astype(np.float32)
    wanted = filtered(SosFilter(cascade(), 19), x)
    SosFilter(cascade(), 19).apply(x, x)
    assert np.array_equal(x, wanted)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_value_that_is_no_number_is_held_counted_and_poisons_nothing(
    bad: float, level: int
) -> None:
    x = np.random.default_rng(5).standard_normal((90, 18)).astype(np.float32)
    held = x.copy()
    x[0, 3] = bad
    held[0, 3] = 0
    x[40:50, 17] = bad
    held[40:50, 17] = held[39, 17]
    filt = SosFilter(cascade(), 18, None, level)
    out = np.concatenate([filtered(filt, x[:45]), filtered(filt, x[45:])])
    assert np.array_equal(out, filtered(SosFilter(cascade(), 18, None, level), held))
    assert filt.n_replaced == 11
    assert np.isnan(x[0, 3]) or np.isinf(x[0, 3])  # the caller's rows stay as they are


def test_values_as_large_as_the_type_allows_leave_a_finite_state() -> None:
    x = np.full((200, 5), np.finfo(np.float32).max, np.float32)
    x[::2] *= -1
    filt = SosFilter(cascade(), 5)
    filtered(filt, x)
    assert np.isfinite(filtered(filt, np.zeros((50_000, 5), np.float32))[-1]).all()


def test_reset_starts_from_rest() -> None:
    x = np.random.default_rng(6).standard_normal((100, 7)).astype(np.float32)
    filt = SosFilter(cascade(), 7)
    first = filtered(filt, x)
    assert not np.array_equal(filtered(filt, x), first)
    filt.reset()
    assert np.array_equal(filtered(filt, x), first)


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("n_sections", [5, 7])
def test_settled_on_a_constant_the_output_does_not_move(level: int, n_sections: int) -> None:
    row = np.linspace(-20_000, 20_000, 21)
    filt = SosFilter(cascade(n_sections), 21, None, level)
    filt.settle(row)
    gain = np.prod([s[:3].sum() / s[3:].sum() for s in cascade(n_sections)])
    x = np.repeat(row[None].astype(np.float32), 500, axis=0)
    assert np.abs(filtered(filt, x) - x.astype(np.float64) * gain).max() < 1e-3


def test_silence_after_a_signal_reaches_zero_not_subnormal_numbers() -> None:
    filt = SosFilter(cascade(), 8)
    filtered(filt, np.ones((10, 8), np.float32))
    for _ in range(12):
        out = filtered(filt, np.zeros((20_000, 8), np.float32))
    assert (out[-1] == 0).all()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ((0, 5, 1.2), "unstable"),
        ((2, 4, 2.5), "unstable"),
        ((1, 0, np.nan), "finite"),
        ((1, 3, 0.0), "a0"),
    ],
)
def test_a_cascade_that_could_run_away_is_refused(change: tuple[int, int, float], why: str) -> None:
    sos = cascade()
    sos[change[0], change[1]] = change[2]
    with pytest.raises(ValueError, match=why):
        SosFilter(sos, 4)


def test_rows_of_another_shape_or_type_are_refused() -> None:
    filt = SosFilter(cascade(), 4)
    good = np.zeros((3, 4), np.float32)
    with pytest.raises(ValueError, match="float32"):
        filt.apply(np.zeros((3, 4), np.int32), good)
    with pytest.raises(ValueError, match="n_channels"):
        filt.apply(np.zeros((3, 5), np.float32), good)
    with pytest.raises(ValueError, match="shape of rows"):
        filt.apply(good, np.zeros((2, 4), np.float32))
    with pytest.raises(ValueError, match="int32"):
        SosFilter(cascade(), 4, np.ones(4)).apply(good, good)
    with pytest.raises(ValueError, match="sections"):
        SosFilter(np.zeros((MOST_SECTIONS + 1, 6)), 4)
    with pytest.raises(ValueError, match="one factor"):
        SosFilter(cascade(), 4, np.ones(3))
