"""The chain of a stream against scipy and by its order; gaps, bad values, and settings that are refused."""

from functools import cache

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import signal

from brainforge_edge.core.errors import ConfigError, ExitStatus
from brainforge_edge.signal.chain import Chain, ChainConfig
from brainforge_edge.signal.design import Cascade, design, designed
from brainforge_edge.signal.reference import Reference, Repair
from tests.unit.signal_material import noise, sine

SFREQ = 500
NAMES = ("Fz", "Cz", "Pz", "Oz")
FULL = ChainConfig(
    repairs=(Repair("Pz", {"Cz": 0.5, "Oz": 0.5}),),
    reference=Reference("median"),
    dc_hz=0.1,
    l_freq=1.0,
    h_freq=100.0,
    notch=50.0,
    harmonics=4,
    resample_hz=250.0,
)
Floats = NDArray[np.float64]
design_once = cache(design)


def chain(config: ChainConfig = FULL, names: tuple[str, ...] = NAMES) -> Chain:
    return Chain(config, SFREQ, names, design=design_once)


def response_db(cascade: Cascade, hz: list[float]) -> Floats:
    _, h = signal.sosfreqz(design(cascade), worN=np.array(hz), fs=cascade.sfreq)
    return np.asarray(20 * np.log10(np.maximum(np.abs(h), 1e-12)))


def test_the_mains_and_their_harmonics_below_nyquist_are_stopped_and_the_rest_passes() -> None:
    cascade = ChainConfig(dc_hz=0.1, notch=50.0, harmonics=9).cascade(SFREQ)
    assert cascade.notches == (50.0, 100.0, 150.0, 200.0)
    assert response_db(cascade, [50, 100, 150, 200]).max() < -60
    assert np.abs(response_db(cascade, [10, 45, 75, 125, 175, 220])).max() < 0.3
    assert np.abs(response_db(cascade, [50 + 5 / 6, 150 + 5 / 6]) + 3).max() < 0.2


@pytest.mark.parametrize(
    ("config", "passed", "stopped"),
    [
        (ChainConfig(l_freq=10.0), 30.0, 2.0),
        (ChainConfig(h_freq=40.0), 10.0, 200.0),
        (ChainConfig(l_freq=5.0, h_freq=40.0), 15.0, 1.0),
    ],
)
def test_a_band_may_have_one_side_or_two(
    config: ChainConfig, passed: float, stopped: float
) -> None:
    level = response_db(config.cascade(SFREQ), [passed, stopped])
    assert abs(level[0]) < 0.1
    assert level[1] < -50


def test_the_child_designs_what_the_function_does() -> None:
    cascade = FULL.cascade(SFREQ)
    assert np.array_equal(designed(cascade), design(cascade))


def test_stages_follow_repair_reference_filter_rate() -> None:
    x = noise(4, SFREQ, 4).astype(np.float64)
    x -= x[0]
    x[:, 2] = 1e6
    y = x.copy()
    y[:, 2] = 0.5 * (x[:, 1] + x[:, 3])
    y -= np.median(x[:, [0, 1, 3]], axis=1)[:, None]
    y = signal.sosfilt(design(FULL.cascade(SFREQ)), y, axis=0)
    made = chain()
    found = made.push(x)
    assert made.resampler is not None
    assert (made.resampler.sfreq, made.names) == (250.0, NAMES)
    taps = signal.firwin(2 * made.resampler.delay + 1, 112.5, fs=SFREQ, window=("kaiser", 7.857))
    wanted = signal.upfirdn(taps, y, 1, 2, axis=0)[: len(found)]
    np.testing.assert_allclose(found, wanted, atol=2e-3 * np.abs(wanted).max())


@pytest.mark.parametrize("config", [FULL, ChainConfig(), ChainConfig(notch=50.0)])
def test_chunks_change_no_bit_and_what_is_given_stays(config: ChainConfig) -> None:
    x = noise(3, SFREQ, 4) + np.float32(20_000)
    before = x.copy()
    whole = chain(config).push(x)
    for size in (1, 7, 333):
        made = chain(config)
        parts = [made.push(x[i : i + size]) for i in range(0, len(x), size)]
        assert np.array_equal(np.concatenate(parts), whole)
    assert np.array_equal(x, before)
    assert chain(config).push(x[:0]).shape == (0, 4)


def test_an_offset_makes_no_step_at_the_start_nor_after_a_restart() -> None:
    made = chain(ChainConfig(dc_hz=0.5, h_freq=100.0))
    for level in (50_000.0, -50_000.0):
        assert np.abs(made.push(np.full((2000, 4), level))).max() < 0.05
        made.gap()


def test_a_short_gap_keeps_the_filter_and_a_long_one_does_not() -> None:
    config = ChainConfig(l_freq=1.0, h_freq=100.0)
    x = noise(4, SFREQ, 4)
    whole = chain(config).push(x)
    for n, is_kept in ((SFREQ, True), (SFREQ + 1, False), (None, False)):
        made = chain(config)
        made.push(x[:1000])
        made.gap(n)
        later = made.push(x[1000:])
        assert np.array_equal(later, whole[1000:]) == is_kept
        if not is_kept:
            assert np.array_equal(later, chain(config).push(x[1000:]))


def test_after_any_gap_the_first_row_is_the_time_of_an_output() -> None:
    made = chain(ChainConfig(resample_hz=250.0))
    assert len(made.push(np.zeros((3, 4)))) == 2
    made.gap(1)
    assert len(made.push(np.zeros((1, 4)))) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e308, 8.3e6])
def test_a_fault_of_one_channel_reaches_no_other_and_passes(bad: float) -> None:
    config = msgspec.structs.replace(FULL, repairs=(), reference=Reference())
    x = noise(60, SFREQ, 4).astype(np.float64)
    hurt = x.copy()
    hurt[0, 0] = bad
    hurt[1000:2000, 0] = bad
    clean, found = chain(config).push(x), chain(config).push(hurt)
    assert np.isfinite(found).all()
    assert np.array_equal(found[:, 1:], clean[:, 1:])
    assert np.abs(found[-1000:, 0] - clean[-1000:, 0]).max() < 0.1


@pytest.mark.parametrize("reference", [Reference("average"), Reference("median")])
def test_values_that_are_no_numbers_are_counted_and_leave_no_trace(reference: Reference) -> None:
    config = ChainConfig(reference=reference, l_freq=1.0, h_freq=100.0, notch=50.0)
    x = noise(40, SFREQ, 4).astype(np.float64)
    hurt = x.copy()
    hurt[1000:1100] = np.nan
    made = chain(config)
    found = made.push(hurt)
    assert made.n_replaced == 400
    assert np.isfinite(found).all()
    assert np.abs(found[-1000:] - chain(config).push(x)[-1000:]).max() < 0.01


def test_flat_channels_come_out_as_nothing() -> None:
    made = chain(ChainConfig(l_freq=1.0, h_freq=100.0))
    made.push(sine(10, 2, SFREQ)[:, None] * np.ones(4))
    assert (made.push(np.full((60_000, 4), 0.0))[-1] == 0).all()


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"dc_hz": -1.0}, "dc_hz"),
        ({"dc_hz": float("nan")}, "dc_hz"),
        ({"dc_hz": 1e-4}, "dc_hz"),
        ({"l_freq": 226.0}, "l_freq"),
        ({"l_freq": 30.0, "h_freq": 30.0}, "l_freq"),
        ({"h_freq": 226.0}, "h_freq"),
        ({"notch": 300.0}, "notch"),
        ({"notch": 50.0, "harmonics": 0}, "harmonics"),
        ({"notch": 10.0, "harmonics": 16, "l_freq": 1.0}, "harmonics"),
        ({"resample_hz": 249.999}, "resample_hz"),
        ({"resample_hz": float("inf")}, "resample_hz"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused_by_its_key_with_a_remedy(
    settings: dict[str, float], key: str
) -> None:
    with pytest.raises(ConfigError, match=key) as caught:
        chain(ChainConfig(**settings))  # type: ignore[arg-type]
    assert caught.value.code == "config.chain"
    assert caught.value.exit_status == ExitStatus.CONFIG
    assert caught.value.facts["key"] == key
    assert caught.value.remedy


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="notsch"):
        msgspec.convert({"notsch": 50.0}, ChainConfig)


def test_a_rate_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="no rate"):
        Chain(ChainConfig(), 0.0, NAMES)
