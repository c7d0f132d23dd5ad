"""Integer matrices of real recordings, and a seeded synthetic one for machines that have none.

The files lie beside the project (`../shared/data`, or above). Their integers are recovered from each file's
own quantisation grid; MNE is imported only when a file is read.
"""

import csv
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.stream import ChannelInfo, Dtype, StreamInfo, chunk_samples

DATA = next(
    (
        folder / "shared" / "data"
        for folder in Path(__file__).parents[2:]
        if (folder / "shared" / "data").is_dir()
    ),
    Path(__file__).parents[2] / "shared" / "data",
)


@dataclass(frozen=True, eq=False)
class Recording:
    """`data` is (n_samples, n_channels) int32; `dtype` is how the device would pack it."""

    name: str
    data: NDArray[np.int32]
    sfreq: float
    dtype: Dtype
    ch_names: tuple[str, ...]

    def info(self, stream_id: str = "replay-data") -> StreamInfo:
        channels = tuple(ChannelInfo(name=name) for name in self.ch_names)
        return StreamInfo(stream_id, stream_id.partition("-")[0], self.sfreq, self.dtype, channels)

    def chunks(self) -> list[NDArray[np.int32]]:
        """The recording cut as the archive cuts it."""
        step = chunk_samples(self.info())
        return [self.data[at : at + step] for at in range(0, len(self.data), step)]


def names() -> tuple[str, ...]:
    """Recordings that can be loaded here, the synthetic one last."""
    return (*(name for name, (path, _) in _FILES.items() if (DATA / path).exists()), "synthetic")


@cache
def load(name: str) -> Recording:
    """The recording of that name (see `names`); channels that never move are left out."""
    if name == "synthetic":
        return synthetic()
    path, read = _FILES[name]
    return read(name, DATA / path)


def helmet() -> Recording:
    """306 channels at about 1 kHz: the real empty room where there is one."""
    return load("elekta306" if "elekta306" in names() else "synthetic")


def synthetic(*, seed: int = 1, n_samples: int = 4000, n_channels: int = 306) -> Recording:
    """24-bit at 1 kHz: 1/f sources shared by neighbours, sensor noise, mains, steps and a channel at the rail."""
    random = np.random.default_rng(seed)
    t = np.arange(n_samples) / 1000.0
    spectrum = np.fft.rfft(random.standard_normal((n_samples, 24)), axis=0)
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))[:, None]
    spectrum[0] = 0
    sources = np.fft.irfft(spectrum, n_samples, axis=0)
    places = np.linspace(0, 23, n_channels)
    mixing = np.exp(-(((places[:, None] - np.arange(24)) / 2.0) ** 2))
    x = 30_000.0 * sources @ mixing.T
    x += random.normal(0, 60.0, x.shape)
    x += 400.0 * np.sin(2 * np.pi * 50.0 * t)[:, None] * random.normal(1, 0.3, n_channels)
    x += random.integers(-(2**20), 2**20, n_channels)
    for channel in range(0, n_channels, 37):
        x[random.integers(n_samples) :, channel] += 2.0**18
    x[n_samples // 3 : n_samples // 2, n_channels // 2] = 2.0**24
    limit = 2**23
    data = np.clip(np.rint(x), -limit, limit - 1).astype(np.int32)
    ch_names = tuple(f"S{i:03d}" for i in range(n_channels))
    return Recording("synthetic", data, 1000.0, Dtype.I24, ch_names)


def grid_step(x: NDArray[np.floating[Any]]) -> float:
    """Step of the finest grid that all of `x` lies on."""
    values = np.unique(x)
    steps = np.diff(values)
    step = float(steps[steps > steps.max() * 1e-9].min())
    for _ in range(3):
        k = np.rint((values - values[0]) / step)
        step = float(np.sum((values - values[0]) * k) / np.sum(k * k))
    return step


def _made(
    name: str, columns: NDArray[Any], sfreq: float, dtype: Dtype, ch_names: list[str]
) -> Recording:
    whole = np.rint(columns)
    if np.abs(columns - whole).max() > 0.05:
        msg = f"{name} does not lie on the grid that was assumed"
        raise ValueError(msg)
    live = [i for i in range(columns.shape[1]) if np.ptp(whole[:, i]) > 0]
    data = np.ascontiguousarray(whole[:, live].astype(np.int32))
    return Recording(name, data, sfreq, dtype, tuple(ch_names[i] for i in live))


def _mne(name: str, path: Path) -> Recording:
    import mne  # noqa: PLC0415 - heavy, and only where real files are read

    readers: dict[str, Callable[[], Any]] = {
        ".fif": lambda: mne.io.read_raw_fif(path, allow_maxshield="yes", verbose="ERROR"),
        ".sqd": lambda: mne.io.read_raw_kit(path, verbose="ERROR"),
        ".con": lambda: mne.io.read_raw_kit(path, verbose="ERROR"),
    }
    raw = readers[path.suffix]()
    picks = [i for i, kind in enumerate(raw.get_channel_types()) if kind in {"mag", "grad"}]
    x = raw.get_data(picks=picks).T
    if name == "elekta306":
        steps = np.array([grid_step(column) for column in x.T])
    elif path.suffix == ".fif":
        steps = np.array([raw.info["chs"][i]["cal"] * raw.info["chs"][i]["range"] for i in picks])
    else:
        steps = np.ravel(raw._raw_extras[0]["conv_factor"])[picks]
    ch_names = [raw.ch_names[i] for i in picks]
    return _made(name, x / steps, float(raw.info["sfreq"]), Dtype.I24, ch_names)


def _edf(name: str, path: Path) -> Recording:
    import edfio  # noqa: PLC0415

    read = edfio.read_bdf if path.suffix == ".bdf" else edfio.read_edf
    signals: list[Any] = list(read(path).signals)
    sfreq = statistics.mode(s.sampling_frequency for s in signals)
    kept = [s for s in signals if s.sampling_frequency == sfreq and "status" not in s.label.lower()]
    columns = np.stack([s.digital for s in kept], axis=1)
    dtype = Dtype.I24 if path.suffix == ".bdf" else Dtype.I16
    return _made(name, columns, float(sfreq), dtype, [s.label for s in kept])


def _muse(name: str, path: Path) -> Recording:
    with path.open(newline="", encoding="ascii") as file:
        rows = list(csv.reader(file))
    x = np.array([[float(v) for v in row[1:5]] for row in rows[1:]])
    return _made(name, np.rint(x / 0.48828125), 256.0, Dtype.I16, rows[0][1:5])


_FILES: dict[str, tuple[str, Callable[[str, Path], Recording]]] = {
    "elekta306": ("meg/elekta306_empty_room_raw.fif", _mne),
    "ctf275": ("meg/ctf275_raw.fif", _mne),
    "kit157": ("meg/kit157_1khz.sqd", _mne),
    "ricoh160": ("meg/ricoh160_2khz.con", _mne),
    "cyton16": ("eeg/cyton_daisy_16ch_125hz.bdf", _edf),
    "biosemi72": ("eeg/biosemi72_2048hz.bdf", _edf),
    "ieeg138": ("eeg/ieeg138_512hz.edf", _edf),
    "muse4": ("eeg/muse2016_p300_256hz.csv", _muse),
}
