"""One stream as an LSL outlet: rows ≤ `written` → physical units → push.

Runs in: lsl worker, one thread per stream. Nobody subscribed: nothing is computed.
"""

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.config import EdgeConfig
from brainforge_edge.core.stream import ChannelInfo, Dtype, StreamInfo
from brainforge_edge.devices.lsl import Outlet, OutletPlan
from brainforge_edge.rings.layout import Run
from brainforge_edge.rings.reader import RingReader, Rows

WAIT_S = 0.1
GATHER_S = 0.015  # 10 to 20 rows of a stream at 1 kHz: a push, not one for each frame
PUSH_ROWS = 20  # of one push: only the last row's time travels, the others follow from the rate
MOST_ROWS = 2048
HELMET = "OMP_Helmet"
# Volts travel as the XDF conventions have them; everything else in SI.
UNITS = {"V": ("microvolts", 1e6)}
TYPES = {
    "eeg": "EEG", "mag": "MEG", "grad": "MEG", "fnirs_cw_amplitude": "NIRS", "ecg": "ECG",
    "eog": "EOG", "emg": "EMG", "ecog": "ECoG", "seeg": "SEEG",
}  # fmt: skip


def plan(info: StreamInfo, config: EdgeConfig) -> OutletPlan:
    """Name, type and lasting id of a stream's outlet. Our only OPM helmet is called OMP_Helmet."""
    kinds = Counter(TYPES.get(channel.type, "Misc") for channel in info.channels)
    kind = kinds.most_common(1)[0][0]
    helmets = [device.name for device in config.device if device.kind == "opm"]
    is_helmet = kind == "MEG" and helmets == [info.device]
    channels = [
        ChannelInfo(c.name, c.type, UNITS.get(c.unit, (c.unit, 1.0))[0]) for c in info.channels
    ]
    return OutletPlan(
        name=HELMET if is_helmet else info.stream_id,
        type=kind,
        source_id=f"brainforge:{config.node.id}:{info.stream_id}",
        sfreq=info.sfreq,
        format="double64" if info.dtype is Dtype.F64 else "float32",
        channels=channels,
    )


class OutletStream:
    """Thread body: call `run`. Figures for the heartbeat in `stats()`."""

    def __init__(self, ring: Path, config: EdgeConfig) -> None:
        self._reader = RingReader(ring)
        self._info = info = self._reader.info
        scales = [(c.scale, c.offset, UNITS.get(c.unit, ("", 1.0))[1]) for c in info.channels]
        self._scale = np.array([scale * factor for scale, _, factor in scales])
        self._offset = np.array([offset * factor for _, offset, factor in scales])
        self._is_plain = bool((self._scale == 1.0).all() and not self._offset.any())
        self._plan = plan(info, config)
        self._dtype = np.float64 if info.dtype is Dtype.F64 else np.float32
        self._outlet = Outlet(self._plan)
        self.sent = 0
        self.lost = 0  # rows that the ring no longer had
        self.stop = threading.Event()
        self.crashed: BaseException | None = None

    @property
    def is_replaced(self) -> bool:
        """The ring's name belongs to another ring now."""
        return self._reader.is_replaced

    def stats(self) -> dict[str, Any]:
        return {
            "name": self._plan.name,
            "is_read": self._outlet.has_consumers if not self.stop.is_set() else False,
            "sent": self.sent,
            "lost": self.lost,
        }

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                if self._reader.wait(WAIT_S):
                    self.stop.wait(GATHER_S)
                    rows = self._reader.read(MOST_ROWS)
                    if rows is not None:
                        self._take(rows)
        except Exception as error:  # noqa: BLE001  outermost loop: main ends the process
            self.crashed = error

    def close(self) -> None:
        """After the thread has ended."""
        self._outlet.close()

    def _take(self, rows: Rows) -> None:
        if not self._outlet.has_consumers:
            return
        self.lost += rows.lost
        sent = self._physical(rows.data)
        for run in rows.runs:
            self._push(sent[run.row - rows.first_row :][: run.n], run)
        self.sent += len(sent)

    def _push(self, rows: NDArray[Any], run: Run) -> None:
        """A gap never lies inside a push."""
        for first in range(0, len(rows), PUSH_ROWS):
            part = rows[first : first + PUSH_ROWS]
            last = first + len(part) - 1
            self._outlet.push(part, run.t_first_ns + round(last * 1e9 / self._info.sfreq))

    def _physical(self, rows: NDArray[Any]) -> NDArray[Any]:
        if self._is_plain:
            return rows.astype(self._dtype, copy=False)
        physical: NDArray[Any] = rows * self._scale + self._offset
        return physical.astype(self._dtype)
