"""The clock fit against the simulation that its recipe comes from."""

import numpy as np
import pytest

from brainforge_edge.core.clockfit import FIRST_SLEW, SLEW, ClockFit

FRAME_NS = 8_000_000


def simulate(
    *, seconds: int, seed: int, ppm: float, thermal_ppm: float, jitter: str
) -> tuple[np.ndarray, ClockFit]:
    """Errors (ns) of every frame after the first minute, against the true time of the frame."""
    errors, _, fit = simulate_all(
        seconds=seconds, seed=seed, ppm=ppm, thermal_ppm=thermal_ppm, jitter=jitter
    )
    return errors[60 * 125 :], fit


def simulate_all(
    *,
    seconds: int,
    seed: int,
    ppm: float,
    thermal_ppm: float,
    jitter: str,
    first_late_ms: float = 0.0,
) -> tuple[np.ndarray, np.ndarray, ClockFit]:
    """Errors (ns) of every frame, and whether the fit was settled; those behind a late one come with it."""
    rng = np.random.default_rng(seed)
    n = seconds * 125
    true_ns = np.arange(n) * FRAME_NS
    thermal = thermal_ppm * 1e-6 * 300e9 * np.sin(2 * np.pi * true_ns / 1.8e12)
    device_ns = np.rint(true_ns * (1 + ppm * 1e-6) + thermal).astype(np.int64)
    if jitter == "usb":  # 1 ms framing and 1 % scheduler stalls of 5–30 ms
        late = rng.uniform(0, 1e6, n) + rng.exponential(100e3, n) + 300e3
        late += (rng.random(n) < 0.01) * rng.uniform(5e6, 30e6, n)
    else:  # radio: 15 ms interval, 5 % retransmissions
        late = rng.uniform(0, 15e6, n) + (rng.random(n) < 0.05) * 15e6 + 2e6
    late[0] += first_late_ms * 1e6
    arrived = np.maximum.accumulate(true_ns + np.rint(late).astype(np.int64)) + 10**12
    fit = ClockFit()
    errors = np.empty(n)
    is_settled = np.zeros(n, bool)
    for k in range(n):
        fit.observe(int(device_ns[k]), int(arrived[k]))
        errors[k] = fit.to_box(int(device_ns[k])) - 10**12 - int(true_ns[k])
        is_settled[k] = fit.is_settled
    return errors, is_settled, fit


@pytest.mark.parametrize(("jitter", "sd_ms", "p99_ms"), [("usb", 0.03, 0.1), ("radio", 0.1, 0.35)])
def test_jitter_of_milliseconds_leaves_hundredths(jitter: str, sd_ms: float, p99_ms: float) -> None:
    errors, fit = simulate(seconds=300, seed=4, ppm=30, thermal_ppm=5, jitter=jitter)
    centred = errors - np.median(errors)
    assert errors.std() / 1e6 < sd_ms
    assert np.quantile(np.abs(centred), 0.99) / 1e6 < p99_ms
    assert fit.drift_ppm == pytest.approx(-30, abs=8)
    assert fit.is_settled


def test_the_rate_of_a_device_without_a_clock_is_found() -> None:
    errors, fit = simulate(seconds=150, seed=1, ppm=-300, thermal_ppm=0, jitter="usb")
    assert fit.drift_ppm == pytest.approx(300, abs=3)
    assert abs(np.median(errors)) < 600_000


def test_what_is_published_never_steps_nor_runs_backwards() -> None:
    rng = np.random.default_rng(2)
    fit = ClockFit()
    fit.observe(0, 30_000_000)  # the very first message is 30 ms late
    last = fit.to_box(0)
    was_settled = False
    for k in range(1, 125 * 90):
        fit.observe(k * FRAME_NS, k * FRAME_NS + int(rng.exponential(200_000)))
        now = fit.to_box(k * FRAME_NS)
        most = SLEW if was_settled else FIRST_SLEW
        assert abs(now - last - FRAME_NS) <= FRAME_NS * (most + 100e-6) + 1
        was_settled = was_settled or fit.is_settled
        last = now
    assert abs(last - k * FRAME_NS) < 100_000


@pytest.mark.parametrize("first_late_ms", [0.0, 100.0, 1000.0])
@pytest.mark.parametrize(("jitter", "p99_ms"), [("usb", 0.1), ("radio", 1.0)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_first_message_that_is_very_late_costs_seconds_not_minutes(
    jitter: str, p99_ms: float, first_late_ms: float, seed: int
) -> None:
    errors, is_settled, _ = simulate_all(
        seconds=90, seed=seed, ppm=30, thermal_ppm=5, jitter=jitter, first_late_ms=first_late_ms
    )
    assert np.argmax(is_settled) < 8 * 125
    assert is_settled[8 * 125 :].mean() > 0.99
    told = errors[is_settled] - np.median(errors[60 * 125 :])  # the others are flagged
    assert np.quantile(np.abs(told), 0.99) / 1e6 < p99_ms
    assert (np.diff(errors) > -FRAME_NS).all()  # so that the published times rise


def test_a_long_silence_does_not_stretch_the_steering() -> None:
    fit = ClockFit()
    for k in range(125 * 20):
        fit.observe(k * FRAME_NS, k * FRAME_NS + (0 if k else 9_000_000))
    later = 3_600 * 1_000_000_000
    assert abs(fit.to_box(later) - later) < 10_000_000


def test_a_restart_forgets_the_old_clock() -> None:
    fit = ClockFit()
    for k in range(1000):
        fit.observe(k * FRAME_NS, 10**12 + k * FRAME_NS)
    fit.restart()
    fit.observe(5, 10**13)
    assert fit.to_box(5) == 10**13
    assert not fit.is_settled


def test_round_trips_take_off_what_even_the_quickest_message_is_late() -> None:
    rng = np.random.default_rng(7)
    fit = ClockFit()
    late = 0
    for k in range(125 * 90):
        at = k * FRAME_NS
        fit.observe(at, at + 2_500_000 + int(rng.exponential(300_000)))
        if k % 123 == 0:  # half of a round trip is uncertain: the answer took the longer way
            rtt = 200_000 + int(rng.exponential(500_000))
            fit.probe(at, at + rtt // 3, rtt)
        if k > 125 * 60:
            late = max(late, abs(fit.to_box(at) - at))
    assert fit.quickest_ns is not None
    assert late < fit.quickest_ns // 2 + 30_000
    assert fit.bias_ns == pytest.approx(2_500_000, abs=150_000)


def test_a_round_trip_never_puts_labels_behind_the_arrivals() -> None:
    fit = ClockFit()
    for k in range(125 * 30):
        fit.observe(k * FRAME_NS, k * FRAME_NS + 100_000)
        fit.probe(k * FRAME_NS, k * FRAME_NS + 5_000_000, 10_000_000)  # a slow network
    assert fit.bias_ns == 0
    assert abs(fit.to_box(k * FRAME_NS) - k * FRAME_NS - 100_000) < 1000


def test_round_trips_that_are_a_minute_old_do_not_count() -> None:
    fit = ClockFit()
    fit.observe(0, 1_000_000)
    fit.probe(0, 0, 10_000)
    for k in range(125 * 70):
        fit.observe(k * FRAME_NS, k * FRAME_NS + 1_000_000)
    assert fit.quickest_ns is None


@pytest.mark.parametrize("error", [0.003, -0.003])
def test_a_crystal_far_off_is_followed_after_seconds_where_round_trips_are_answered(
    error: float,
) -> None:
    rng = np.random.default_rng(3)
    fit = ClockFit()
    worst = 0.0
    for k in range(125 * 40):
        at = k * FRAME_NS
        device = round(at * (1 + error))
        fit.observe(device, at + 300_000 + int(rng.exponential(100_000)))
        if k % 123 == 0:
            fit.probe(device, at + int(rng.uniform(-50_000, 50_000)), 150_000)
        if k > 125 * 15:
            worst = max(worst, abs(fit.to_box(device) - at))
    assert fit.is_settled
    assert worst < 500_000


def live(fit: ClockFit, *, first_s: float, seconds: float, late_ns: int, probed: bool) -> list[int]:
    """Errors (ns) of frames of a device whose clock is the box's, each `late_ns` late."""
    errors = []
    for k in range(round(seconds * 125)):
        device_ns = round(first_s * 1e9) + k * FRAME_NS
        fit.observe(device_ns, device_ns + late_ns)
        if probed and k % 122 == 0:
            fit.probe(device_ns, device_ns, 400_000)
        errors.append(fit.to_box(device_ns) - device_ns)
    return errors


def test_rows_that_waited_for_minutes_do_not_bend_the_labels_of_what_follows() -> None:
    """A box that comes back beside a device that ran on: round trips say what the time is."""
    fit = ClockFit()
    fit.seed(424_000_000_000, 424_000_000_000)
    for k in range(125):  # the first second is all that the device's memory held
        fit.observe(k * FRAME_NS, 424_000_000_000 + k * 100_000)
        assert abs(fit.to_box(k * FRAME_NS) - k * FRAME_NS) < 1_000
    errors = live(fit, first_s=424, seconds=120, late_ns=1_000_000, probed=True)
    assert max(map(abs, errors)) < 1_000_000
    assert abs(fit.drift_ppm) < 1
    assert not fit.take_step()


@pytest.mark.parametrize("minutes", [0.1, 7, 60 * 24])
def test_without_round_trips_the_first_row_that_did_not_wait_sets_the_clock_right(
    minutes: float,
) -> None:
    fit = ClockFit()
    waited_ns = round(minutes * 60e9)
    for k in range(125):
        fit.observe(k * FRAME_NS, waited_ns + k * 100_000)
    first_s = minutes * 60
    errors = live(fit, first_s=first_s, seconds=90, late_ns=1_000_000, probed=False)
    assert fit.take_step()
    assert not fit.take_step()
    assert max(errors) == pytest.approx(1_000_000, abs=2_000)
    assert min(errors[1:]) >= -1_000
    assert fit.is_settled


def test_a_line_below_what_round_trips_allow_is_raised() -> None:
    fit = ClockFit()
    fit.seed(0, 0)
    for k in range(125 * 20):
        device_ns = k * FRAME_NS
        fit.observe(device_ns, device_ns - 5_000_000)  # no message can come before it was made
        if k % 122 == 0:
            fit.probe(device_ns, device_ns, 400_000)
    assert fit.to_box(20_000_000_000) == pytest.approx(20_000_000_000, abs=250_000)


def test_a_fit_has_no_state_before_a_line_is_fitted() -> None:
    fit = ClockFit()
    for k in range(125 * 12):
        fit.observe(k * FRAME_NS, round(k * FRAME_NS * 1.001))
        if fit.state is not None:
            assert fit.state.drift_ppm == pytest.approx(1000, rel=0.05)
            break
    assert fit.state is not None


@pytest.mark.parametrize("error", [0.0, 0.003])
def test_round_trips_keep_the_rate_when_a_busy_machine_reads_late_for_seconds(
    error: float,
) -> None:
    fit = ClockFit()
    fit.seed(0, 10**12)
    fit.probe(0, 10**12, 400_000)
    worst = 0.0
    for k in range(1, 10 * 60):  # ten frames a second
        at = k * 100_000_000
        if k % 10 == 0:
            fit.probe(round(at * (1 + error)), 10**12 + at + 100_000, 400_000)
        late = 20_000_000 if 40 <= k < 62 else 300_000  # all of a bin, when there are three
        fit.observe(round(at * (1 + error)), 10**12 + at + late)
        if k > 80:
            worst = max(worst, abs(fit.to_box(round(at * (1 + error))) - 10**12 - at))
    assert worst < 1_000_000
