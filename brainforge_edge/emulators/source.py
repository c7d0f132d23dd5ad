"""What an emulated device measures: a pure function of the absolute sample index.

Any range can be computed again, so an account can compare what arrived with what was sent.
Runs in: emulator process, and in tests.
"""

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.stream import ChannelDetail, ChannelInfo

RAIL = 2**23 - 1
_LOOP_S = 4.0


class RowSource(Protocol):
    """Raw counts of a device with 24-bit samples, or numbers of one with float32."""

    sfreq: float
    channels: tuple[ChannelInfo, ...]
    loop_rows: int  # rows until the data come round again: the seam
    counter_channel: int | None  # holds the sample index (modulo 2^23); None: all is data

    def rows(self, first: int, n: int) -> NDArray[Any]:
        """int32 or float32 (n, n_channels), C order: samples first .. first + n - 1."""
        ...


class LoopSource:
    """A recording that comes round for ever, with an optional channel that holds the index."""

    def __init__(
        self,
        data: NDArray[Any],
        *,
        sfreq: float,
        channels: tuple[ChannelInfo, ...],
        counter_channel: int | None = None,
        dtype: str = "<i4",
    ) -> None:
        if data.shape[1] != len(channels):
            message = f"{data.shape[1]} columns for {len(channels)} channels"
            raise ValueError(message)
        self.sfreq = sfreq
        self.channels = channels
        self.loop_rows = int(data.shape[0])
        self.counter_channel = counter_channel
        self._data = np.ascontiguousarray(data, dtype=dtype)

    def rows(self, first: int, n: int) -> NDArray[Any]:
        index = np.arange(first, first + n)
        rows: NDArray[Any] = self._data[index % self.loop_rows]
        if self.counter_channel is not None:
            rows[:, self.counter_channel] = index % (RAIL + 1)
        return rows


class PulseTrain(NamedTuple):
    """A pulse in the last channel at each whole `period_s` of the box clock, for `width_s`.

    All emulators of a machine have the same box clock: what is simultaneous in their recordings can
    be compared. `amplitude` is in raw counts or numbers, added to what is measured. A sample stands
    for the stretch of one period around its instant: at the edge it has that part of the amplitude,
    so that an edge is found to a fraction of a sample also at 10 Hz.
    """

    period_s: float
    width_s: float = 0.5
    amplitude: float = 1_000_000.0

    def part(self, t_ns: NDArray[Any], sample_ns: float) -> NDArray[Any]:
        """Of the stretch around each instant, the part that lies in a pulse: 0 to 1."""
        period, width = self.period_s * 1e9, self.width_s * 1e9
        begin = t_ns - sample_ns / 2

        def covered(until: NDArray[Any]) -> NDArray[Any]:
            whole = np.floor(until / period)
            return np.asarray(whole * width + np.minimum(until - whole * period, width))

        return np.asarray((covered(begin + sample_ns) - covered(begin)) / sample_ns)


class PulsedSource:
    """`source` with the pulses of a run whose sample 0 was taken at `first_ns` (box clock)."""

    def __init__(
        self,
        source: RowSource,
        train: PulseTrain,
        *,
        first_ns: int,
        sample_ns: float,
        limits: tuple[int, int] = (-RAIL, RAIL),
    ) -> None:
        self.sfreq = source.sfreq
        self.channels = source.channels
        self.loop_rows = source.loop_rows
        self.counter_channel = source.counter_channel
        self._source = source
        self._train = train
        self._limits = limits
        # Floats of the whole box clock would be a quarter of a microsecond apart.
        period_ns = round(train.period_s * 1e9)
        self._phase_ns = first_ns % period_ns
        self._sample_ns = sample_ns

    def rows(self, first: int, n: int) -> NDArray[Any]:
        rows = np.array(self._source.rows(first, n))
        added = self.part(first, n) * self._train.amplitude
        if rows.dtype.kind == "i":
            added = np.rint(added)
        rows[:, -1] = np.clip(rows[:, -1] + added, *self._limits).astype(rows.dtype)
        return rows

    def beneath(self, first: int, n: int) -> NDArray[Any]:
        """The same rows without pulses."""
        return self._source.rows(first, n)

    def touches(self, first: int, n: int) -> bool:
        """Whether one of these rows has a pulse in it."""
        return bool(self.part(first, n).any())

    def part(self, first: int, n: int) -> NDArray[Any]:
        """Of each sample, how much of it lies in a pulse: 0 to 1."""
        t_ns = self._phase_ns + np.arange(first, first + n) * self._sample_ns
        return self._train.part(t_ns, self._sample_ns)


def ready_source(
    source: RowSource,
    pulses: PulseTrain | None,
    began_ns: int,
    *,
    limits: tuple[int, int] = (-RAIL, RAIL),
) -> RowSource:
    """`source`, with pulses if there are any, of a device whose sample 0 is ready a period after `began_ns`."""
    if pulses is None:
        return source
    sample_ns = 1e9 / source.sfreq
    first_ns = began_ns + round(sample_ns)
    return PulsedSource(source, pulses, first_ns=first_ns, sample_ns=sample_ns, limits=limits)


def synthetic(
    channels: tuple[ChannelInfo, ...],
    *,
    sfreq: float,
    seed: int,
    noise: float,
    mains_hz: float = 50.0,
    counter_channel: int | None = 0,
) -> LoopSource:
    """Some seconds of 1/f background, sensor noise, mains, steps and rails, the same for a seed.

    `noise` is the white sensor noise in counts; all else is scaled from it.
    """
    random = np.random.default_rng(seed)
    n, n_channels = round(_LOOP_S * sfreq), len(channels)
    white = random.standard_normal((n, n_channels)) * noise
    frequency = np.fft.rfftfreq(n, 1 / sfreq)
    shape = 1 / np.maximum(frequency, 1.0)  # amplitude 1/f above 1 Hz: power 1/f²
    phases = random.uniform(0, 2 * np.pi, (len(frequency), n_channels))
    background = np.fft.irfft(shape[:, None] * np.exp(1j * phases), n, axis=0)
    background *= 20 * noise / background.std()
    seconds = np.arange(n) / sfreq
    mains = np.sin(2 * np.pi * mains_hz * seconds)[:, None] * random.uniform(2, 8, n_channels)
    data = white + background + mains * noise
    for channel in random.choice(n_channels, max(1, n_channels // 16), replace=False):
        data[random.integers(n) :, channel] += 200 * noise  # a step, back at the seam
    rounded = np.clip(np.rint(data), -RAIL, RAIL).astype(np.int32)
    railed = int(random.integers(n_channels))
    start = int(random.integers(n - max(2, n // 100)))
    rounded[start : start + max(2, n // 100), railed] = RAIL
    return LoopSource(rounded, sfreq=sfreq, channels=channels, counter_channel=counter_channel)


def helmet_channels(n_channels: int, *, counter_channel: int | None = 0) -> tuple[ChannelInfo, ...]:
    """1 fT a count, as our helmet announces them; the counter is a `misc` channel."""
    return tuple(
        ChannelInfo("COUNTER", "misc", "1", 1.0)
        if index == counter_channel
        else ChannelInfo(f"OPM{index:03d}", "mag", "T", 1e-15)
        for index in range(n_channels)
    )


def optical_channels(n_channels: int, group: str) -> tuple[ChannelInfo, ...]:
    """`flow`: light at two wavelengths, V; `flux`: its phase, rad. Pairs of neighbours 30 mm apart."""
    channels = []
    for index in range(n_channels):
        pair, which = divmod(index, 2)
        source, detector = f"S{pair // 2 + 1}", f"D{(pair + 1) // 2 + 1}"
        wavelength = (760.0, 850.0)[which]
        across = 0.03 * pair
        detail = ChannelDetail(
            wavelength_nm=wavelength,
            source=source,
            detector=detector,
            source_m=(0.06 * (pair // 2), 0.09, 0.0),
            detector_m=(0.06 * ((pair + 1) // 2) - 0.03, 0.09, across % 0.03),
        )
        kind, unit = ("fnirs_cw_amplitude", "V") if group == "flow" else ("fnirs_fd_phase", "rad")
        name = f"{source}_{detector} {wavelength:.0f}"
        channels.append(ChannelInfo(name, kind, unit, 1e-6, detail=detail))
    return tuple(channels)


def hat_channels(sensor: int) -> tuple[ChannelInfo, ...]:
    """One sensor: ± 4 g in 24 bits."""
    scale = 4 * 9.80665 / RAIL
    return tuple(ChannelInfo(f"ACC{sensor}{axis}", "misc", "m/s^2", scale) for axis in "XYZ")


def cyton_channels(n_channels: int) -> tuple[ChannelInfo, ...]:
    """Gain 24. What a Cyton sends has no names: the driver gives them."""
    scale = 4.5 / 24 / RAIL
    return tuple(ChannelInfo(f"EEG{index + 1}", "eeg", "V", scale) for index in range(n_channels))
