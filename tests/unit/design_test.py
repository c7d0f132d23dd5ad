"""Filter design in a child process equals scipy's own, and refuses what makes no pass-band."""

import numpy as np
import pytest
from scipy import signal

from brainforge_edge.core.errors import ConfigError
from brainforge_edge.signal.design import BandPass, designed


def response_db(sos: np.ndarray, freqs: list[float], sfreq: float) -> np.ndarray:
    _, h = signal.sosfreqz(sos, worN=np.array(freqs), fs=sfreq)
    db: np.ndarray = 20 * np.log10(np.maximum(np.abs(h), 1e-12))
    return db


def test_a_helmets_chain_passes_its_band_and_stops_mains_and_drift() -> None:
    sos = designed(BandPass(1000.0, 1.0, 100.0, 50.0))
    assert sos.shape == (5, 6)
    passed = response_db(sos, [5.0, 20.0, 70.0], 1000.0)
    stopped = response_db(sos, [0.1, 50.0, 300.0], 1000.0)
    assert (np.abs(passed) < 1.0).all()
    assert (stopped < -40.0).all()


def test_what_comes_back_from_the_child_is_scipys_design_to_the_last_bit() -> None:
    expected = signal.butter(4, [1.0, 100.0], "bandpass", fs=1000.0, output="sos")
    np.testing.assert_array_equal(designed(BandPass(1000.0, 1.0, 100.0, 0.0)), expected)


def test_a_slow_stream_keeps_below_its_own_nyquist_frequency() -> None:
    fitted = BandPass(125.0, 1.0, 100.0, 60.0).fitted()
    assert (fitted.h_freq, fitted.notch) == (56.25, 0.0)
    assert BandPass(125.0, 1.0, 100.0, 50.0).fitted().notch == 50.0


def test_no_pass_band_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="no pass-band"):
        designed(BandPass(10.0, 8.0, 100.0, 0.0))
