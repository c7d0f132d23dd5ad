"""What an emulated device measures: a pure function of the absolute sample index.

Any range can be computed again, so an account can compare what arrived with what was sent.
Runs in: emulator process, and in tests.
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.stream import ChannelInfo

RAIL = 2**23 - 1
_LOOP_S = 4.0


class RowSource(Protocol):
    """Raw counts of a device with 24-bit samples."""

    sfreq: float
    channels: tuple[ChannelInfo, ...]
    loop_rows: int  # rows until the data come round again: the seam
    counter_channel: int | None  # holds the sample index (modulo 2^23); None: all is data

    def rows(self, first: int, n: int) -> NDArray[Any]:
        """int32 (n, n_channels), C order: samples first .. first + n - 1."""
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
    ) -> None:
        if data.shape[1] != len(channels):
            message = f"{data.shape[1]} columns for {len(channels)} channels"
            raise ValueError(message)
        self.sfreq = sfreq
        self.channels = channels
        self.loop_rows = int(data.shape[0])
        self.counter_channel = counter_channel
        self._data = np.ascontiguousarray(data, dtype=np.int32)

    def rows(self, first: int, n: int) -> NDArray[Any]:
        index = np.arange(first, first + n)
        rows: NDArray[Any] = self._data[index % self.loop_rows]
        if self.counter_channel is not None:
            rows[:, self.counter_channel] = index % (RAIL + 1)
        return rows


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


def cyton_channels(n_channels: int) -> tuple[ChannelInfo, ...]:
    """Gain 24. What a Cyton sends has no names: the driver gives them."""
    scale = 4.5 / 24 / RAIL
    return tuple(ChannelInfo(f"EEG{index + 1}", "eeg", "V", scale) for index in range(n_channels))
