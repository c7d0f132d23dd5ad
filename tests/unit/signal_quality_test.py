"""Quality of a channel and its reason, on signals that have one fault each."""

import numpy as np
import pytest
from numpy.typing import NDArray

from brainforge_edge.signal.quality import EEG, OPM, REASONS, Judged, Quality, judge

SFREQ = 250
Rows = NDArray[np.float64]


def eeg(sfreq: int = SFREQ, *, seed: int = 4, alpha: float = 10e-6) -> Rows:
    """One second that looks like EEG: power falls with frequency, some alpha, sensor noise."""
    rng = np.random.default_rng(seed)
    hz = np.fft.rfftfreq(sfreq, 1 / sfreq)
    spectrum = (rng.standard_normal(len(hz)) + 1j * rng.standard_normal(len(hz))) / np.maximum(
        hz, 1
    )
    spectrum[0] = 0
    x = np.fft.irfft(spectrum, sfreq)
    x *= 12e-6 / x.std()
    t = np.arange(sfreq) / sfreq
    found: Rows = x + alpha * np.sin(2 * np.pi * 10 * t) + 0.3e-6 * rng.standard_normal(sfreq)
    return found[:, None]


def t(sfreq: int = SFREQ) -> Rows:
    return (np.arange(sfreq) / sfreq)[:, None]


def judged(rows: Rows, sfreq: int = SFREQ, mains_hz: float = 50.0) -> Judged:
    return judge(rows, sfreq, mains_hz=mains_hz, rails=(-0.1, 0.1))


def quality(rows: Rows, sfreq: int = SFREQ, mains_hz: float = 50.0) -> Quality:
    return judged(rows, sfreq, mains_hz).quality[0]


@pytest.mark.parametrize("sfreq", [125, 250, 256, 1000])
@pytest.mark.parametrize("seed", range(20))
def test_eeg_is_good_and_needs_no_reason(sfreq: int, seed: int) -> None:
    assert quality(eeg(sfreq, seed=seed), sfreq) == Quality.GOOD
    assert REASONS[Quality.GOOD] == ""


def test_an_offset_of_an_electrode_is_no_fault() -> None:
    assert quality(eeg() + 0.05) == Quality.GOOD


def test_a_blink_is_no_fault() -> None:
    blink = 150e-6 * np.exp(-(((t() - 0.5) / 0.08) ** 2))
    assert quality(eeg() + blink) == Quality.GOOD


def test_what_does_not_move_is_flat_wherever_it_stands() -> None:
    for level in (0.0, 0.02):
        assert quality(np.full((SFREQ, 1), level)) == Quality.FLAT


def test_what_stands_at_the_end_of_the_range_is_at_the_rail() -> None:
    rows = eeg()
    rows[:25] = 0.1
    assert quality(rows) == Quality.RAIL
    assert quality(np.full((SFREQ, 1), -0.1)) == Quality.RAIL
    rows = eeg()
    rows[3] = 0.1
    assert quality(rows) != Quality.RAIL


def test_without_a_known_range_nothing_is_at_its_end() -> None:
    assert judge(np.full((SFREQ, 1), 0.1), SFREQ, mains_hz=50).quality == [Quality.FLAT]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_told_of(bad: float) -> None:
    rows = np.concatenate([eeg(), eeg(seed=5)], axis=1)
    rows[100, 0] = bad
    assert judged(rows).quality == [Quality.NOT_FINITE, Quality.GOOD]


def test_an_electrode_off_the_skin_swings_too_far() -> None:
    assert quality(eeg() + 2e-3 * np.sin(2 * np.pi * 50 * t())) == Quality.LEAD_OFF


def test_a_slide_is_drift() -> None:
    found = judged(eeg() + 1e-3 * t())
    assert found.quality == [Quality.DRIFT]
    assert found.drift[0] == pytest.approx(1e-3, rel=0.1)


@pytest.mark.parametrize(("hz", "mains_hz"), [(50.0, 50.0), (60.0, 60.0), (49.8, 50.0)])
@pytest.mark.parametrize("sfreq", [125, 250, 1000])
def test_mains_hum_is_line_noise(hz: float, mains_hz: float, sfreq: int) -> None:
    hum = 150e-6 * np.sin(2 * np.pi * hz * t(sfreq))
    assert quality(eeg(sfreq) + hum, sfreq, mains_hz) == Quality.LINE_NOISE
    assert quality(eeg(sfreq) + hum / 20, sfreq, mains_hz) == Quality.GOOD


def test_hum_with_harmonics_is_not_taken_for_muscle() -> None:
    hum = 20e-6 * sum(np.sin(2 * np.pi * 50 * k * t(1000)) / k for k in (1, 2, 3))
    assert quality(eeg(1000) + hum, 1000) == Quality.GOOD
    harmonic = 100e-6 * np.sin(2 * np.pi * 100 * t(1000))
    assert quality(eeg(1000) + harmonic, 1000) == Quality.GOOD


@pytest.mark.parametrize("sfreq", [250, 1000])
def test_tense_muscles_are_told_of(sfreq: int) -> None:
    rng = np.random.default_rng(8)
    spectrum = np.fft.rfft(rng.standard_normal((sfreq, 1)), axis=0)
    hz = np.fft.rfftfreq(sfreq, 1 / sfreq)
    spectrum[(hz < 25) | (hz > 120)] = 0
    burst = np.fft.irfft(spectrum, sfreq, axis=0)
    assert quality(eeg(sfreq) + burst * 25e-6 / burst.std(), sfreq) == Quality.MUSCLE


def test_sensor_noise_is_not_taken_for_muscle() -> None:
    rng = np.random.default_rng(9)
    assert quality(1e-6 * rng.standard_normal((SFREQ, 1))) == Quality.GOOD


def test_a_stream_too_slow_for_mains_is_not_judged_by_them() -> None:
    found = judged(eeg(64), 64)
    assert (found.line_ratio[0], found.muscle_ratio[0]) == (0.0, 0.0)


def test_limits_belong_to_a_kind_of_sensor() -> None:
    field = eeg() * 1e-7  # picotesla
    assert judge(field, SFREQ, mains_hz=50, limits=OPM).quality == [Quality.GOOD]
    assert judge(field * 100, SFREQ, mains_hz=50, limits=OPM).quality == [Quality.LEAD_OFF]
    assert EEG.swing > 1e6 * OPM.swing


def test_every_quality_has_words_for_a_person_and_its_place_in_the_order() -> None:
    assert set(REASONS) == set(Quality)
    assert list(Quality)[-1] == Quality.GOOD


def test_another_length_than_a_second_is_refused() -> None:
    with pytest.raises(ValueError, match="one second"):
        judge(np.zeros((249, 1)), SFREQ, mains_hz=50)
