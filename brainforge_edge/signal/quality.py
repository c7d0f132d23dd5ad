"""Whether a channel's signal can be trusted, and if not, why, in words a person understands.

Judged on raw rows, before any filter: a notch hides the mains, a band-pass the drift. One second at a
time; a rule with a limit that holds for any sensor stands beside the kind of sensor it is for.
Pure. Runs in: pipeline worker, once a second.
"""

from enum import StrEnum
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Quality(StrEnum):
    """The first that applies is the channel's."""

    NOT_FINITE = "not_finite"
    FLAT = "flat"
    RAIL = "rail"
    LEAD_OFF = "lead_off"
    DRIFT = "drift"
    LINE_NOISE = "line_noise"
    MUSCLE = "muscle"
    GOOD = "good"


REASONS: Final = {
    Quality.NOT_FINITE: "the device sends values that are no numbers",
    Quality.FLAT: "the signal does not move at all: channel switched off, shorted, or the device hangs",
    Quality.RAIL: "the signal stands at the end of the input's range: sensor off, dry or not zeroed",
    Quality.LEAD_OFF: "the signal swings far more than the head can: electrode off or its wire broken",
    Quality.DRIFT: "the signal slides away: electrode drying or loose, or the sensor still settling",
    Quality.LINE_NOISE: "mains hum covers the signal: bad contact, or a power cable close by",
    Quality.MUSCLE: "muscles cover the signal: jaw, forehead or neck are tense",
    Quality.GOOD: "",
}


class Limits(msgspec.Struct, frozen=True):
    """Thresholds, in the unit of the rows.

    | field | meaning | origin |
    |---|---|---|
    | rail_part | part of the second at the rail | ours, as the drivers' own check |
    | swing | standard deviation | ours: EEG is some 10 µV, blinks some 100 µV; no publication gives a limit |
    | drift | change of the mean from the first to the last quarter, per second | ours: half of `swing` |
    | line_ratio | mains power (its 3 bins) over that of 1-45 Hz | ours: mains as strong as four times the signal in amplitude |
    | muscle_ratio | power per Hz of 65-100 Hz, mains out, over that of 20-30 Hz | ours: EEG falls with frequency, muscle is about as strong to 100 Hz (Goncharova et al., Clin. Neurophysiol. 114, 2003) |
    | muscle_floor | rms in 65-100 Hz that muscle must exceed | ours: sensor noise is white as well, and no muscle |

    None were validated on patients. For magnetometers give limits in tesla: the defaults are for volts.
    """

    rail_part: float = 0.1
    swing: float = 500e-6
    drift: float = 250e-6
    line_ratio: float = 16.0
    muscle_ratio: float = 0.5
    muscle_floor: float = 3e-6


EEG: Final = Limits()
OPM: Final = Limits(swing=50e-12, drift=25e-12, muscle_floor=1e-12)  # ours, not validated either
_TOP_MUSCLE_HZ = 100.0


class Judged(msgspec.Struct, frozen=True, eq=False):
    """What was found in a second, each a list or an array (n_channels,)."""

    quality: list[Quality]
    swing: Floats  # standard deviation
    drift: Floats  # unit/s
    line_ratio: Floats
    muscle_ratio: Floats


def judge(
    rows: NDArray[Any],
    sfreq: int,
    *,
    mains_hz: float,
    limits: Limits = EEG,
    rails: tuple[float | Floats, float | Floats] | None = None,
) -> Judged:
    """One second of raw rows (sfreq, n_channels), in the unit of `limits`. `rails`: lowest and highest
    value the input can have, or that of each channel; None where there is no such end. `mains_hz`: 50 or 60.

    ValueError: not a second of rows. Mains and muscle of a stream too slow for them are not judged.
    """
    if rows.ndim != 2 or len(rows) != sfreq:
        msg = f"rows of shape {rows.shape}; quality is judged on one second of {sfreq} rows"
        raise ValueError(msg)
    x = rows.astype(np.float64)
    is_finite = np.isfinite(x).all(axis=0)
    x[:, ~is_finite] = 0
    at_rail = np.zeros(x.shape[1])
    if rails is not None:
        at_rail = ((x <= rails[0]) | (x >= rails[1])).mean(axis=0)
    is_flat = x.min(axis=0) == x.max(axis=0)
    quarter = max(1, len(x) // 4)
    drift = (x[-quarter:].mean(axis=0) - x[:quarter].mean(axis=0)) / 0.75
    swing = x.std(axis=0)
    line, muscle, muscle_rms = _noise(x, sfreq, mains_hz)
    found = np.select(
        [
            ~is_finite,
            is_flat & (at_rail < limits.rail_part),
            at_rail >= limits.rail_part,
            swing > limits.swing,
            np.abs(drift) > limits.drift,
            line > limits.line_ratio,
            (muscle > limits.muscle_ratio) & (muscle_rms > limits.muscle_floor),
        ],
        list(range(7)),
        7,
    )
    words = list(Quality)
    quality = [words[i] for i in found.tolist()]
    return Judged(quality, swing, drift, line, muscle)


def _noise(x: Floats, sfreq: int, mains_hz: float) -> tuple[Floats, Floats, Floats]:
    """Ratios of mains and of muscle, and the rms of 65-100 Hz; 0 where they cannot be seen."""
    n = len(x)
    # Detrended by a straight line: a step between the ends would fill the spectrum.
    ramp = np.linspace(-0.5, 0.5, n)[:, None]
    x = x - x.mean(axis=0)
    x = x - ramp * ((ramp * x).sum(axis=0) / (ramp * ramp).sum())
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)
    power = np.abs(np.fft.rfft(x * hann[:, None], axis=0)) ** 2
    power *= 2.0 / (0.375 * n * n)  # unit² in each bin of 1 Hz
    hz = np.arange(len(power))
    # Hann spreads a line over three bins, a mains frequency that is off by a little over four.
    is_mains = np.abs((hz + mains_hz / 2) % mains_hz - mains_hz / 2) <= 2
    signal = power[(hz >= 1) & (hz < 45) & ~is_mains].sum(axis=0)
    zero = np.zeros(x.shape[1])
    line = zero
    if mains_hz + 2 < sfreq / 2:
        line = _over(power[np.abs(hz - mains_hz) <= 1].sum(axis=0), signal)
    high = (hz >= 65) & (hz < _TOP_MUSCLE_HZ) & ~is_mains
    if sfreq / 2 < _TOP_MUSCLE_HZ:
        return line, zero, zero
    low = (hz >= 20) & (hz < 30)
    muscle = _over(power[high].mean(axis=0), power[low].mean(axis=0))
    return line, muscle, np.sqrt(power[high].sum(axis=0))


def _over(over: Floats, under: Floats) -> Floats:
    return np.divide(over, under, out=np.full_like(over, np.inf), where=under > 0)
