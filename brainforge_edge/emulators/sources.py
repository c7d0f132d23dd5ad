"""What each kind of emulated device measures by default, or replays. Runs in: emulator process, and in tests."""

from pathlib import Path

import msgspec
import numpy as np

from brainforge_edge.core.errors import ConfigError
from brainforge_edge.core.stream import ChannelDetail, ChannelInfo
from brainforge_edge.emulators import replay as recordings
from brainforge_edge.emulators.openbci_motion import motion_source
from brainforge_edge.emulators.selfstarting import freeeeg_source, thinkgear_source
from brainforge_edge.emulators.source import (
    LoopSource,
    RowSource,
    cyton_channels,
    hat_channels,
    helmet_channels,
    optical_channels,
    synthetic,
)

KINDS = ("accel_hat", "cyton", "fnirs", "freeeeg32", "lsl", "neurosky", "opm")
HELMET_CHANNELS = 306
HELMET_SFREQ = 1000.0
CYTON_CHANNELS = 16
CYTON_CHOICES = (8, 16)  # a board, and one with its Daisy
OPTICAL_CHANNELS = 104  # of both groups
OPTICAL_SFREQ = 10.0
HAT_CHANNELS = 6  # two sensors
HAT_SFREQ = 1000.0
AXES = 3


def make_source(
    kind: str,
    *,
    replay: Path | None = None,
    seed: int = 1,
    channels: int | None = None,
    stream: str = "",
) -> RowSource:
    """What `run_emulator` with the same arguments measures; tests compute rows with it again.

    `stream` is flow or flux, acc1, acc2 …, of a device with several; "" is the first one.
    """
    if kind == "cyton" and stream == "acc":
        return motion_source()
    sources = make_sources(kind, replay=replay, seed=seed, channels=channels)
    names = {"flow": 0, "flux": 1} | {f"acc{n}": n - 1 for n in range(1, len(sources) + 1)}
    return sources[names.get(stream, 0)]


def make_sources(
    kind: str, *, replay: Path | None = None, seed: int = 1, channels: int | None = None
) -> list[LoopSource]:
    """One for each stream of the device; ConfigError if it cannot be."""
    if kind in {"opm", "cyton", "lsl"}:
        return [_single(kind, replay=replay, seed=seed, channels=channels)]
    if replay is not None:
        raise ConfigError(
            "bad_replay",
            f"cannot replay {replay}",
            why=f"an emulated {kind} has several streams, a file is one",
            remedy="Leave out --replay",
        )
    if kind in {"freeeeg32", "neurosky"} and replay is None:
        return [(freeeeg_source if kind == "freeeeg32" else thinkgear_source)(seed)]
    if kind == "fnirs":
        n = _shared(kind, channels or OPTICAL_CHANNELS, 4, "two wavelengths in two groups")
        groups = (("flow", n // 2), ("flux", n // 2))
        return [
            _light(optical_channels(count, group), seed + at)
            for at, (group, count) in enumerate(groups)
        ]
    if kind == "accel_hat":
        n = _shared(kind, channels or HAT_CHANNELS, AXES, "three axes a sensor")
        return [
            synthetic(hat_channels(sensor), sfreq=HAT_SFREQ, seed=seed + sensor, noise=400.0)
            for sensor in range(1, n // AXES + 1)
        ]
    raise ConfigError(
        "unknown_kind",
        f"there is no emulator for devices of kind {kind!r}",
        why=f"the kinds that exist are {', '.join(KINDS)}",
        remedy="Correct the kind",
    )


def announced(kind: str, source: RowSource, *, speed: float, sfreq: float | None) -> float:
    """How much faster than its source the device runs; ConfigError."""
    if sfreq is None:
        return speed
    if kind not in {"opm", "lsl"}:
        raise ConfigError(
            "fixed_rate",
            f"the {kind} was not started",
            why="its rate is fixed, only a helmet and an LSL stream can announce another",
            remedy="Leave out --sfreq; --speed makes its clock run faster",
        )
    return speed * sfreq / source.sfreq


def _single(kind: str, *, replay: Path | None, seed: int, channels: int | None) -> LoopSource:
    if kind in {"opm", "lsl"}:
        if replay is not None:
            return recordings.load(replay, n_channels=channels or HELMET_CHANNELS)
        described = helmet_channels(channels or HELMET_CHANNELS)
        if kind == "opm":
            described = _delayed(described)
        return synthetic(described, sfreq=HELMET_SFREQ, seed=seed, noise=300.0)
    n_channels = channels or CYTON_CHANNELS
    if n_channels not in CYTON_CHOICES:
        raise ConfigError(
            "bad_channels",
            "the Cyton was not started",
            why=f"{n_channels} channels were asked for, it has 8, or 16 with its Daisy",
            remedy="Give --channels 8 or 16",
        )
    if replay is not None:
        return recordings.load(replay, n_channels=n_channels)
    sfreq = 250.0 * 8 / n_channels
    return synthetic(cyton_channels(n_channels), sfreq=sfreq, seed=seed, noise=40.0)


def _delayed(channels: tuple[ChannelInfo, ...]) -> tuple[ChannelInfo, ...]:
    """Sensors answer 3 to 5 ms late, each by its own time."""
    return tuple(
        channel
        if channel.type == "misc"
        else msgspec.structs.replace(
            channel, detail=ChannelDetail(group_delay_us=3_000.0 + 137 * at % 2_000)
        )
        for at, channel in enumerate(channels)
    )


def _shared(kind: str, channels: int, by: int, why: str) -> int:
    if channels % by:
        raise ConfigError(
            "bad_channels",
            f"the {kind} was not started",
            why=f"{channels} channels were asked for, it has {why}",
            remedy=f"Give --channels a multiple of {by}",
        )
    return channels


def _light(channels: tuple[ChannelInfo, ...], seed: int) -> LoopSource:
    """Light with a pulse beat and a slow wave, float32; channel 0 holds the sample index."""
    random = np.random.default_rng(seed)
    n, n_channels = 200, len(channels)
    seconds = np.arange(n)[:, None] / OPTICAL_SFREQ
    level = random.uniform(0.5e6, 1.5e6, n_channels)
    beat = 0.02 * np.sin(2 * np.pi * 1.2 * seconds + random.uniform(0, 6, n_channels))
    wave = 0.01 * np.sin(2 * np.pi * 0.1 * seconds + random.uniform(0, 6, n_channels))
    data = level * (1 + beat + wave) + random.standard_normal((n, n_channels)) * 300
    return LoopSource(
        data,
        sfreq=OPTICAL_SFREQ,
        channels=channels,
        counter_channel=0,
        dtype="<f4",
    )
