"""Real recordings as what a device measures: raw integers, looped. Runs in: emulator process."""

import csv
import gzip
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.errors import ConfigError
from brainforge_edge.core.stream import ChannelInfo
from brainforge_edge.emulators.source import RAIL, LoopSource

_UNITS = {"uv": 1e-6, "µv": 1e-6, "mv": 1e-3, "nv": 1e-9, "v": 1.0}
MUSE_V = 0.48828125e-6
_GRID_TRIES = 64
_GRID_ERROR = 0.05


def load(path: Path, *, n_channels: int | None = None) -> LoopSource:
    """The recording as a source; the first `n_channels` of its kind. ConfigError if it cannot be."""
    if not path.is_file():
        why = "there is no such file" if not path.exists() else "it is not a file"
        raise _unusable(path, why, "Give the path of a BDF, EDF or FIF file")
    suffix = path.suffix.lower()
    if suffix in {".bdf", ".edf"}:
        return _edf(path, n_channels)
    if suffix == ".fif":
        return _fif(path, n_channels)
    if path.name.lower().endswith((".csv", ".csv.gz")):
        return _muse(path, n_channels)
    raise _unusable(
        path,
        f"{suffix or 'its'} format is unknown",
        "Give a .bdf, .edf or .fif file, or a Muse's .csv",
    )


def _edf(path: Path, n_channels: int | None) -> LoopSource:
    import edfio  # noqa: PLC0415  only for replay

    try:
        recording = (edfio.read_bdf if path.suffix.lower() == ".bdf" else edfio.read_edf)(path)
    except OSError as error:
        raise _unusable(path, str(error.strerror).lower(), "Check its owner and mode") from error
    except ValueError as error:
        why = f"its header is none of BDF or EDF ({error})"
        raise _unusable(path, why, "Give a whole BDF or EDF file") from error
    fastest = max(signal.sampling_frequency for signal in recording.signals)
    signals = [s for s in recording.signals if s.sampling_frequency == fastest][:n_channels]
    _enough(path, len(signals), n_channels)
    channels = []
    for signal in signals:
        span = signal.digital_max - signal.digital_min
        unit = _UNITS.get(signal.physical_dimension.strip().lower(), 1.0)
        scale = unit * (signal.physical_max - signal.physical_min) / span
        channels.append(ChannelInfo(signal.label.strip(), "eeg", "V", scale))
    data = np.stack([signal.digital for signal in signals], axis=1)
    return LoopSource(_checked(path, data), sfreq=float(fastest), channels=tuple(channels))


def _fif(path: Path, n_channels: int | None) -> LoopSource:
    try:
        import mne  # noqa: PLC0415  only for replay; not part of the edge's packages
    except ImportError as error:
        raise _unusable(
            path, "MNE is not installed", "Install the extra `export`, or replay a BDF file"
        ) from error
    try:
        raw = mne.io.read_raw_fif(path, allow_maxshield="yes", verbose="error")
    except (OSError, ValueError, AttributeError) as error:  # MNE trips over what is no FIF
        why = f"it does not begin as a FIF file with raw data does ({error})"
        raise _unusable(path, why, "Give a whole FIF file with raw data") from error
    picks = mne.pick_types(raw.info, meg=True)[:n_channels]
    _enough(path, len(picks), n_channels)
    values = raw.get_data(picks=picks, verbose="error")
    kinds = raw.get_channel_types(picks=picks)
    data = np.empty(values.T.shape, dtype=np.int64)
    channels = []
    for column, pick in enumerate(picks):
        info = raw.info["chs"][pick]
        factor = float(info["cal"]) * float(info["range"])
        grid = quantum(values[column] / factor)
        if grid is None:
            raise _unusable(
                path,
                f"channel {info['ch_name']} does not lie on a grid of integers",
                "Give a recording that was not filtered or resampled",
            )
        data[:, column] = np.rint(values[column] / factor / grid)
        unit = "T/m" if kinds[column] == "grad" else "T"
        channels.append(ChannelInfo(info["ch_name"], kinds[column], unit, factor * grid))
    sfreq = float(raw.info["sfreq"])
    return LoopSource(_checked(path, data), sfreq=sfreq, channels=tuple(channels))


def _muse(path: Path, n_channels: int | None) -> LoopSource:
    """What muse-lsl records: `timestamps`, a column in µV for each electrode, perhaps `Marker`."""
    try:
        with (gzip.open if path.suffix.lower() == ".gz" else open)(path, "rt", newline="") as file:
            header, *lines = csv.reader(file)
        columns = [at for at, name in enumerate(header) if name not in {"timestamps", "Marker"}]
        columns = columns[:n_channels]
        _enough(path, len(columns), n_channels)
        values = np.array([[float(line[at]) for at in columns] for line in lines])
    except (OSError, ValueError, IndexError) as error:
        raise _unusable(path, str(error), "Give a whole CSV file of a Muse") from error
    counts = np.rint(values * 1e-6 / MUSE_V).astype(np.int64) + 2048
    channels = tuple(ChannelInfo(header[at], "eeg", "V", MUSE_V, -2048 * MUSE_V) for at in columns)
    if not len(counts) or counts.min() < 0 or counts.max() > 4095:
        raise _unusable(path, "its samples are not those of a Muse", "Give another recording")
    return LoopSource(counts, sfreq=256.0, channels=channels)


def quantum(values: NDArray[Any]) -> float | None:
    """The step of the grid that all values lie on; None if there is none within 24 bits."""
    steps = np.diff(np.unique(values))
    steps = steps[steps > np.abs(values).max() * 1e-9]
    if not steps.size:
        return 1.0
    smallest = float(steps.min())
    for part in range(1, _GRID_TRIES):
        grid = smallest / part
        counts = values / grid
        if np.abs(counts - np.rint(counts)).max() < _GRID_ERROR and np.abs(counts).max() <= RAIL:
            # The grid from one small step is rough; the largest value makes it fine.
            top = int(np.abs(counts).argmax())
            return float(values[top] / np.rint(counts[top])) if counts[top] else grid
    return None


def _enough(path: Path, found: int, wanted: int | None) -> None:
    if not found or (wanted is not None and found < wanted):
        raise _unusable(
            path,
            f"it has {found} usable channels, {wanted or 1} are needed",
            "Give another file or fewer channels",
        )


def _checked(path: Path, data: NDArray[Any]) -> NDArray[Any]:
    if not len(data) or np.abs(data).max() > RAIL + 1:
        raise _unusable(path, "its samples do not fit into 24 bits", "Give another recording")
    return data


def _unusable(path: Path, why: str, remedy: str) -> ConfigError:
    return ConfigError("bad_replay", f"cannot replay {path}", why=why, remedy=remedy)
