"""Filter design, by scipy in a process of its own: importing scipy.signal costs 75 MB for good.

Runs in: pipeline worker (`designed`), and in a short-lived child (`python -m …design`).
"""

import subprocess
import sys
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.errors import ConfigError

MAX_SECTIONS = 16


class BandPass(msgspec.Struct, frozen=True, tag=True):
    """A causal chain: Butterworth band-pass of order 4 a side, then one notch. All in Hz."""

    sfreq: float
    l_freq: float
    h_freq: float
    notch: float  # 0 for none

    def fitted(self) -> "BandPass":
        """The same, kept below the Nyquist frequency of a slow stream."""
        most = 0.45 * self.sfreq
        notch = self.notch if 0 < self.notch < most else 0.0
        return BandPass(self.sfreq, self.l_freq, min(self.h_freq, most), notch)


class Cascade(msgspec.Struct, frozen=True, tag=True):
    """The linear part of a stream's chain, all in Hz; 0, or nothing, for what is not wanted.

    High-pass of order 1 at `dc_hz`, Butterworth of order 4 a side, notches of one width.
    """

    sfreq: float
    dc_hz: float
    l_freq: float
    h_freq: float
    notches: tuple[float, ...]


# Of a notch, between its points at -3 dB: a Q of 30 at 50 Hz.
NOTCH_WIDTH_HZ = 50 / 30


def design(wanted: BandPass | Cascade) -> NDArray[np.float64]:
    """Second-order sections (n_sections, 6), scipy's layout. Imports scipy."""
    from scipy import signal  # noqa: PLC0415  see the module's docstring

    if isinstance(wanted, Cascade):
        return _cascade(signal, wanted)
    sos: NDArray[Any] = signal.butter(
        4, [wanted.l_freq, wanted.h_freq], "bandpass", fs=wanted.sfreq, output="sos"
    )
    if wanted.notch:
        b, a = signal.iirnotch(wanted.notch, Q=30.0, fs=wanted.sfreq)
        sos = np.vstack([sos, np.concatenate([b, a])])
    return np.ascontiguousarray(sos, dtype=np.float64)


def _cascade(signal: Any, wanted: Cascade) -> NDArray[np.float64]:
    fs = wanted.sfreq
    parts: list[NDArray[Any]] = []
    if wanted.dc_hz:
        parts.append(signal.butter(1, wanted.dc_hz, "highpass", fs=fs, output="sos"))
    if wanted.l_freq and wanted.h_freq:
        edges = [wanted.l_freq, wanted.h_freq]
        parts.append(signal.butter(4, edges, "bandpass", fs=fs, output="sos"))
    elif wanted.l_freq:
        parts.append(signal.butter(4, wanted.l_freq, "highpass", fs=fs, output="sos"))
    elif wanted.h_freq:
        parts.append(signal.butter(4, wanted.h_freq, "lowpass", fs=fs, output="sos"))
    for hz in wanted.notches:
        b, a = signal.iirnotch(hz, Q=hz / NOTCH_WIDTH_HZ, fs=fs)
        parts.append(np.concatenate([b, a])[None])
    return np.ascontiguousarray(np.vstack(parts), dtype=np.float64)


def designed(wanted: BandPass | Cascade) -> NDArray[np.float64]:
    """`design`, of a band-pass as `fitted`, computed in a child so that this process stays small.

    ConfigError: no pass-band, or the child failed. A cascade's figures are checked by who makes it.
    """
    if isinstance(wanted, BandPass):
        wanted = wanted.fitted()
    if isinstance(wanted, BandPass) and not 0 < wanted.l_freq < wanted.h_freq:
        raise ConfigError(
            "filter",
            "the live filter cannot be made",
            why=f"{wanted.l_freq:g} to {wanted.h_freq:g} Hz is no pass-band at {wanted.sfreq:g} Hz",
            remedy="Correct l_freq and h_freq in [pipeline]",
        )
    result = subprocess.run(
        [sys.executable, "-m", "brainforge_edge.signal.design"],
        input=msgspec.json.encode(wanted),
        capture_output=True,
        check=False,
        timeout=120,
    )
    if result.returncode != 0:
        raise ConfigError(
            "filter",
            "the live filter cannot be made",
            why=result.stderr.decode(errors="replace").strip().rpartition("\n")[2],
            remedy="Correct [pipeline] in the configuration",
        )
    rows = msgspec.json.decode(result.stdout, type=list[list[float]])
    return np.array(rows[:MAX_SECTIONS], dtype=np.float64)


def _main() -> None:
    wanted = msgspec.json.decode(sys.stdin.buffer.read(), type=BandPass | Cascade)
    sys.stdout.buffer.write(msgspec.json.encode(design(wanted).tolist()))


if __name__ == "__main__":
    _main()
