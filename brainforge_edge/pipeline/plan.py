"""What is computed of a stream: from its description and its table in the configuration.

Pure. Runs in: pipeline worker, main thread, once for each stream that opens.
"""

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.config import PipelineConfig
from brainforge_edge.core.errors import ConfigError
from brainforge_edge.core.liveconfig import LiveMode, StreamTable
from brainforge_edge.core.stream import ChannelInfo, Dtype, StreamInfo
from brainforge_edge.signal.chain import MOST_OF_RATE, ChainConfig
from brainforge_edge.signal.connectivity import FEWEST_SEGMENTS
from brainforge_edge.signal.grid import Grid, grid
from brainforge_edge.signal.quality import EEG, OPM, Limits
from brainforge_edge.signal.reference import Montage, Reference, Repair
from brainforge_edge.signal.resample import factor

HEAD: Final = frozenset({"eeg", "mag", "grad", "eog", "emg", "seeg", "ecog"})
MOST_CHANNELS: Final = 512  # whose figures fit into one message
SLOWEST_HZ: Final = 0.5  # of the pass-band unless configured: delta begins at 1 Hz
SEGMENTS: Final = 30
assert SEGMENTS >= FEWEST_SEGMENTS

Floats = NDArray[np.float64]
Pairs = tuple[tuple[int, int], ...]


class Plan(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Of one stream. `picks` are columns of its rows, `channels` those of the windows."""

    info: StreamInfo
    is_sent: bool  # to the uplink
    picks: NDArray[np.intp]
    names: tuple[str, ...]  # of the picks
    scale: Floats
    offset: Floats
    rails: tuple[Floats, Floats] | None  # of each pick, in its unit
    limits: Limits | None  # of quality; None: nothing is known of such a sensor
    mains_hz: float
    chain: ChainConfig  # at the stream's own rate
    channels: tuple[str, ...]
    sources: tuple[NDArray[np.intp], ...] | None  # picks that each channel rests on; None: its own
    unit: str
    sfreq: int
    resample_hz: float  # 0: the stream's own rate
    grid: Grid
    wavelets: bool
    asymmetry: Pairs
    coupling: Pairs
    eog: tuple[int, ...]  # places among `channels`
    eog_fit_s: float
    motion: str


def table_of(stream_id: str, config: PipelineConfig) -> StreamTable:
    """The stream's table, or one that says nothing."""
    found = [table for table in config.stream if table.id == stream_id]
    return found[0] if found else StreamTable(id=stream_id)


def live_mode(stream_id: str, config: PipelineConfig) -> LiveMode:
    return table_of(stream_id, config).live or config.live


def plan(info: StreamInfo, config: PipelineConfig) -> Plan | None:
    """None: no features of this stream are wanted, or it has no table and is none of a head.

    ConfigError: its table asks for what this stream cannot have.
    """
    table = table_of(info.stream_id, config)
    is_wanted = config.features if table.features is None else table.features
    is_named = any(each.id == info.stream_id for each in config.stream)
    if info.is_raw or not is_wanted:
        return None
    picks = _picks(info, table)
    if not is_named and (not picks or not _has_grid(info.sfreq)):
        return None
    if not 1 <= len(picks) <= MOST_CHANNELS:
        raise _refused(
            info,
            "channels",
            f"{len(picks)} channels are looked at, and 1 to {MOST_CHANNELS} can be",
            "Name them under `channels`, or set `features` to false",
        )
    return _planned(info, config, table, picks)


def _planned(
    info: StreamInfo, config: PipelineConfig, table: StreamTable, picks: list[int]
) -> Plan:
    chosen = [info.channels[i] for i in picks]
    names = tuple(channel.name for channel in chosen)
    chain = _chain(info.sfreq, config, table)
    chain.cascade(info.sfreq)  # refuses what cannot be at this rate
    montage = Montage(names, chain.reference, chain.repairs)
    windows_grid = grid(table.resample_hz or info.sfreq)
    if table.resample_hz:
        _check_rates(info, table.resample_hz)
    mains_hz = config.notch if table.notch is None else table.notch
    return Plan(
        info=info,
        is_sent=live_mode(info.stream_id, config) == "features",
        picks=np.array(picks, np.intp),
        names=names,
        scale=np.array([channel.scale for channel in chosen]),
        offset=np.array([channel.offset for channel in chosen]),
        rails=_rails(info.dtype, chosen, table),
        limits=_limits(chosen[0]),
        mains_hz=mains_hz or 50.0,
        chain=chain,
        channels=montage.names,
        sources=_sources(names, table),
        unit=chosen[0].unit,
        sfreq=windows_grid.sfreq,
        resample_hz=table.resample_hz if table.resample_hz != info.sfreq else 0.0,
        grid=windows_grid,
        wavelets=table.wavelets,
        asymmetry=_pairs(info, "asymmetry", table.asymmetry, montage.names),
        coupling=_pairs(info, "coupling", table.coupling, montage.names),
        eog=tuple(_place(info, "eog", name, montage.names) for name in table.eog),
        eog_fit_s=table.eog_fit_s,
        motion=table.motion,
    )


def _picks(info: StreamInfo, table: StreamTable) -> list[int]:
    if table.channels:
        if len(set(table.channels)) != len(table.channels):
            raise _refused(info, "channels", "one is named twice", "Name each once")
        return [_place(info, "channels", name, tuple(info.ch_names)) for name in table.channels]
    units = [channel.unit for channel in info.channels if channel.type in HEAD]
    return [
        i
        for i, channel in enumerate(info.channels)
        if channel.type in HEAD and channel.unit == units[0]
    ]


def _has_grid(sfreq: float) -> bool:
    try:
        grid(sfreq)
    except ConfigError:
        return False
    return True


def _chain(sfreq: float, config: PipelineConfig, table: StreamTable) -> ChainConfig:
    """What is not configured fits any rate; what is, is taken as it is or refused."""
    most = MOST_OF_RATE * sfreq
    h_freq = min(config.h_freq, most) if table.h_freq is None else table.h_freq
    notch = table.notch
    if notch is None:
        notch = config.notch if config.notch <= most else 0.0
    reference = table.reference
    return ChainConfig(
        repairs=tuple(Repair(each.channel, each.neighbours) for each in table.repairs),
        reference=Reference(reference.kind, reference.channels, reference.pairs),
        dc_hz=table.dc_hz,
        l_freq=min(SLOWEST_HZ, 0.5 * h_freq or SLOWEST_HZ)
        if table.l_freq is None
        else table.l_freq,
        h_freq=h_freq,
        notch=notch,
        harmonics=table.harmonics,
    )


def _check_rates(info: StreamInfo, wanted: float) -> None:
    try:
        factor(info.sfreq, wanted)
    except ValueError as error:
        raise _refused(
            info, "resample_hz", str(error), "Give a rate of simple ratio to the stream's"
        ) from error


def _rails(
    dtype: Dtype, channels: list[ChannelInfo], table: StreamTable
) -> tuple[Floats, Floats] | None:
    n = len(channels)
    if table.rails is not None:
        return np.full(n, table.rails[0]), np.full(n, table.rails[1])
    if not dtype.is_integer:
        return None
    ends = [_ends(dtype, channel) for channel in channels]
    return np.array([low for low, _ in ends]), np.array([high for _, high in ends])


def _ends(dtype: Dtype, channel: ChannelInfo) -> tuple[float, float]:
    """Of the converter's range, in the unit. One whose zero lies at a power of two counts from 0 on."""
    high = 2 ** (8 * dtype.packed_bytes - 1) - 1
    low = -high
    zero = -channel.offset / channel.scale if channel.scale else 0.0
    if zero >= 1 and abs(np.log2(zero) - round(np.log2(zero))) < 1e-3:
        low, high = 0, 2 * 2 ** round(np.log2(zero)) - 1
    ends = sorted(count * channel.scale + channel.offset for count in (low, high))
    return ends[0], ends[1]


def _limits(channel: ChannelInfo) -> Limits | None:
    return {"V": EEG, "T": OPM}.get(channel.unit)


def _sources(names: tuple[str, ...], table: StreamTable) -> tuple[NDArray[np.intp], ...] | None:
    """A value that is bad in one of them is bad in the channel, too."""
    kind = table.reference.kind
    if not table.repairs and kind not in {"channels", "bipolar"}:
        return None
    at = {name: i for i, name in enumerate(names)}
    own = {name: [at[name]] for name in names}
    for repair in table.repairs:
        own[repair.channel] = [at[name] for name in repair.neighbours]
    if kind == "bipolar":
        found = [own[first] + own[second] for first, second in table.reference.pairs]
    else:
        among = [at[name] for name in table.reference.channels]
        found = [own[name] + among for name in names]
    return tuple(np.unique(np.array(each, np.intp)) for each in found)


def _pairs(
    info: StreamInfo, key: str, pairs: tuple[tuple[str, str], ...], names: tuple[str, ...]
) -> Pairs:
    return tuple(
        (_place(info, key, first, names), _place(info, key, second, names))
        for first, second in pairs
    )


def _place(info: StreamInfo, key: str, name: str, names: tuple[str, ...]) -> int:
    if name not in names:
        raise _refused(
            info,
            key,
            f"there is no channel {name!r} then",
            "Name channels as the device lists them",
        )
    return names.index(name)


def _refused(info: StreamInfo, key: str, why: str, remedy: str) -> ConfigError:
    return ConfigError(
        "live",
        f"features of {info.stream_id} cannot be computed",
        why=f"{key} of its [[pipeline.stream]]: {why}",
        remedy=remedy,
        stream_id=info.stream_id,
        key=key,
    )
