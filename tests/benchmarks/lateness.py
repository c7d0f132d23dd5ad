"""Times of samples by the emulator's own clock, and how late a bare timer is beside them."""

import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

_FRAME = 8  # rows in a helmet's frame: all leave with the last one


class SentTimes:
    """When the last byte of a sample was due to leave the helmet, CLOCK_MONOTONIC ns.

    Index 0 was due at `started_ns` of the ledger's run; a frame leaves with its last row. How late
    the emulator itself was is part of every figure that rests on this.
    """

    def __init__(self, ledger: Path, sfreq: float) -> None:
        runs = json.loads(ledger.read_text(encoding="utf-8"))["runs"]
        if len(runs) != 1:
            raise ValueError(f"the device was started {len(runs)} times, not once")
        self._started_ns = int(runs[0]["started_ns"])
        self._period_ns = 1e9 / sfreq

    def due_ns(self, seq: int) -> float:
        """When the sample itself was taken."""
        return self._started_ns + seq * self._period_ns

    def sent_ns(self, seq: int) -> float:
        return self.due_ns(seq | (_FRAME - 1))

    def sent_all_ns(self, first: int, end: int) -> NDArray[np.float64]:
        """`sent_ns` of first <= seq < end."""
        last = (np.arange(first, end) | (_FRAME - 1)).astype(np.float64)
        times: NDArray[np.float64] = self._started_ns + last * self._period_ns
        return times


class BareTimer:
    """A thread that sleeps to absolute times and nothing else; `late_ms` is how late it woke.

    `cpu_percent` of a core is what waking alone costs on this machine, once it has ended.
    """

    def __init__(self, period_s: float = 0.008) -> None:
        self.late_ms: list[float] = []
        self.cpu_percent = 0.0
        self._period_s = period_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="timer")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        began = due = time.monotonic()
        while not self._stop.is_set():
            due += self._period_s
            time.sleep(max(0.0, due - time.monotonic()))
            self.late_ms.append((time.monotonic() - due) * 1e3)
        self.cpu_percent = 100 * time.thread_time() / (time.monotonic() - began)


def quantile(values: Sequence[float] | NDArray[np.float64], q: float) -> float:
    """NaN of nothing."""
    return float(np.quantile(values, q)) if len(values) else float("nan")
