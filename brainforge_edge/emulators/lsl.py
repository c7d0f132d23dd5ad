"""An LSL outlet with an account of what it sent: `emulate lsl`. Runs in: the emulator process.

Sample i of a run is taken at start + i / sfreq on this machine's monotonic clock, and stamped so.
Switches: `unplug` destroys the outlet (rows go on and are lost), `replug` makes it again, `restart`
is a new run: a new outlet with a new uid, counted from 0. `drop` names indices of each run that
the program never had; `clock_offset_s` is the error of a program that stamps with another clock.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.clock import Clock
from brainforge_edge.core.stream import ChannelInfo
from brainforge_edge.devices.lsl import Outlet, OutletPlan
from brainforge_edge.emulators.device import Switches
from brainforge_edge.emulators.ledger import Ledger, Run
from brainforge_edge.emulators.source import PulsedSource, PulseTrain, RowSource

PUSH_ROWS = 16  # at most, and of at most 20 ms
DRAIN_S = 0.5  # an outlet that is closed takes with it what it has not sent yet
_LEDGER_NS = 500_000_000
UNITS = {"V": ("microvolts", 1e6), "T": ("fT", 1e15)}
_NUMPY: dict[str, Any] = {
    "int8": np.int8, "int16": np.int16, "int32": np.int32,
    "float32": np.float32, "double64": np.float64,
}  # fmt: skip


def as_sent(
    rows: NDArray[Any], channels: tuple[ChannelInfo, ...], sample_format: str
) -> NDArray[Any]:
    """Rows of the source as they leave: counts of an integer format, else µV, fT or plain units."""
    if sample_format.startswith("int"):
        return rows.astype(_NUMPY[sample_format])
    factors = [channel.scale * UNITS.get(channel.unit, ("", 1.0))[1] for channel in channels]
    physical: NDArray[Any] = rows * np.array(factors)
    return physical.astype(_NUMPY[sample_format])


class LslEmulator:
    """One outlet; `run` blocks until told to stop."""

    def __init__(
        self,
        source: RowSource,
        *,
        ledger: Ledger,
        clock: Clock,
        name: str = "OMP_Helmet",
        kind: str = "MEG",
        source_id: str = "emulated",
        sample_format: str = "float32",
        sfreq: float | None = None,
        drop: tuple[int, int] = (0, 0),
        clock_offset_s: float = 0.0,
        pulses: PulseTrain | None = None,
    ) -> None:
        self._source = source
        self._rows: RowSource = source
        self._pulses = pulses
        self._ledger = ledger
        self._clock = clock
        self._sfreq = sfreq or source.sfreq
        self._push_rows = max(1, min(PUSH_ROWS, int(self._sfreq / 50)))
        self._drop = drop
        self._offset_ns = round(clock_offset_s * 1e9)
        is_counts = sample_format.startswith("int")
        self._plan = OutletPlan(
            name=name,
            type=kind,
            source_id=source_id,
            sfreq=self._sfreq,
            format=sample_format,
            channels=[
                ChannelInfo(
                    channel.name,
                    channel.type,
                    "counts" if is_counts else UNITS.get(channel.unit, (channel.unit, 1.0))[0],
                )
                for channel in source.channels
            ],
            is_emulated=True,
        )
        self._outlet: Outlet | None = None
        self._run = Run("", 0)
        self._sent = 0  # index of the next row of this run
        self._starts = 0

    def run(self, switches: Switches, *, seconds: float | None = None) -> None:
        now = self._clock.monotonic_ns()
        end = None if seconds is None else now + round(seconds * 1e9)
        self._restart(now)
        written = 0
        while not switches.stop and (end is None or now < end):
            self._obey(switches, now)
            self._produce(now)
            if now - written > _LEDGER_NS:
                self._ledger.write()
                written = now
            due = self._run.started_ns + self._ns(self._sent + self._push_rows - 1)
            self._clock.sleep(min(0.25, max(0.0, (due - self._clock.monotonic_ns()) / 1e9)))
            now = self._clock.monotonic_ns()
        if self._outlet is not None:
            self._clock.sleep(DRAIN_S)
        self._unplug()
        self._ledger.write(is_final=True)

    def _obey(self, switches: Switches, now: int) -> None:
        if switches.unplug:
            switches.unplug = False
            self._unplug()
        if switches.replug:
            switches.replug = False
            self._outlet = self._outlet or Outlet(self._plan)
        if switches.restart:
            switches.restart = False
            self._unplug()
            self._restart(now)

    def _restart(self, now: int) -> None:
        self._starts += 1
        self._run = self._ledger.start(f"run-{self._starts}", now)
        self._sent = 0
        if self._pulses is not None:
            self._rows = PulsedSource(
                self._source, self._pulses, first_ns=now, sample_ns=1e9 / self._sfreq
            )
        self._outlet = Outlet(self._plan)
        self._ledger.write()

    def _unplug(self) -> None:
        outlet, self._outlet = self._outlet, None
        if outlet is not None:
            outlet.close()

    def _produce(self, now: int) -> None:
        """Every whole push that is due."""
        have = int((now - self._run.started_ns) * self._sfreq / 1e9) + 1
        while self._sent + self._push_rows <= have:
            first, self._sent = self._sent, self._sent + self._push_rows
            self._run.rows = self._sent
            if self._outlet is None:
                self._run.drop(first, self._push_rows)
            else:
                self._push(self._outlet, first)

    def _push(self, outlet: Outlet, first: int) -> None:
        """In two parts where dropped indices lie inside."""
        hole, n = self._drop
        begin, end = max(first, hole), min(first + self._push_rows, hole + n)
        spans = [(first, first + self._push_rows)] if begin >= end else [
            (first, begin), (end, first + self._push_rows)
        ]  # fmt: skip
        if begin < end:
            self._run.drop(begin, end - begin)
        for start, stop in spans:
            if stop > start:
                rows = self._rows.rows(start, stop - start)
                t_last = self._run.started_ns + self._ns(stop - 1) + self._offset_ns
                outlet.push(as_sent(rows, self._source.channels, self._plan.format), t_last)

    def _ns(self, index: int) -> int:
        return round(index * 1e9 / self._sfreq)


def run_lsl(
    source: RowSource,
    *,
    ledger: Path | None,
    replay: Path | None,
    seed: int,
    clock: Clock,
    switches: Switches,
    seconds: float | None,
    pulses: PulseTrain | None = None,
    **settings: Any,
) -> None:
    """Emulate until told to stop; `settings` as of `LslEmulator`."""
    account = Ledger(
        ledger,
        kind="lsl",
        n_channels=len(source.channels),
        loop_rows=source.loop_rows,
        replay=str(replay) if replay else "",
        seed=seed,
    )
    if pulses is not None:
        account.note(pulses=pulses._asdict())
    emulator = LslEmulator(source, ledger=account, clock=clock, pulses=pulses, **settings)
    emulator.run(switches, seconds=seconds)
