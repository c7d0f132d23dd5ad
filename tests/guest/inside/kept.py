"""Our Bluetooth drivers on real BlueZ, and what came of it. Runs in: the guest.

Each device is behind a pull thread of its own, as in the acquire process; here they share one process,
since an emulated machine needs ten seconds to start another Python.
"""

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.acquisition.linkstate import LinkState
from brainforge_edge.acquisition.pull import Pull
from brainforge_edge.acquisition.streams import Streams
from brainforge_edge.core.block import BlockFlag
from brainforge_edge.core.clock import SystemClock
from brainforge_edge.core.config import convert
from brainforge_edge.core.errors import DeviceError
from brainforge_edge.devices import ganglion, muse
from brainforge_edge.devices.base import Driver
from brainforge_edge.emulators.ganglion import coded, ganglion_source
from brainforge_edge.emulators.muse import muse_source
from tests.drivers.pulling import pulled, rows
from tests.guest.inside.bedside import until
from tests.guest.inside.bodies import GANGLION, address_of

ROOT = Path("/tmp/bluetooth")
RUN = ROOT / "run"
MOST_S = 60.0


class SlowClock(SystemClock):
    """For a headset that sends at `pace` of its rate: by this clock it sends as it does in life."""

    def __init__(self, pace: float) -> None:
        self._pace = pace
        self._began_ns = super().monotonic_ns()

    def monotonic_ns(self) -> int:
        return self._began_ns + round((super().monotonic_ns() - self._began_ns) * self._pace)


def make_driver(name: str, /, *, pace: float, **settings: Any) -> Driver:
    """`silent_s` leaves an emulated machine more time than a box."""
    kind = ganglion if name == GANGLION else muse
    given = {"address": address_of(name), "silent_s": 20.0 * pace, **settings}
    config = convert(given, kind.Config, name)
    driver: Driver = kind.make_driver(config, device=name, clock=SlowClock(pace), run=RUN)
    return driver


class Kept:
    """One device, connected for as long as this is open."""

    def __init__(self, name: str, pull: Pull, streams: Streams) -> None:
        self.name = name
        self.pull = pull
        self._stream = f"{name}-eeg"
        self._streams = streams

    @property
    def rows(self) -> int:
        return rows(self._streams, self._stream)

    def until_streaming(self) -> float:
        """Seconds until rows come that were not there."""
        before = self.rows
        return self.until(
            lambda: self.pull.state is LinkState.STREAMING and self.rows > before, "rows"
        )

    def until_lost(self) -> float:
        return self.until(lambda: self.pull.state is LinkState.LOST, "the loss")

    def until_error(self, code: str) -> str:
        """What a person is told."""
        self.until(
            lambda: self.pull.last_error is not None and self.pull.last_error.code == code, code
        )
        return str(self.pull.last_error)

    def until(self, is_so: Callable[[], object], what: str) -> float:
        try:
            return until(is_so, MOST_S, what)
        except AssertionError as error:
            state = f"{self.name} {self.pull.state}, {self.pull.last_error}"
            raise AssertionError(f"{error}: {state}") from None

    def account(self) -> dict[str, Any]:
        ring = self._streams.all[self._stream].ring
        found: dict[str, Any] = {
            "rows": ring.head,
            "differing": 0,
            "lost": 0,
            "incarnations": 0,
            "counters": {k: v for k, v in self.pull.counters.items() if v},
        }
        for run in ring.runs(0, ring.head):
            got = ring.rows(run.row, run.n)
            found["differing"] += int(np.any(got != sent(self.name, run.seq, run.n), axis=1).sum())
            is_first = bool(run.flags & BlockFlag.FIRST)
            found["incarnations"] += is_first
            if run.gap is not None and not is_first:
                found["lost"] += run.gap.n
        return found


def sent(name: str, first: int, n: int) -> NDArray[Any]:
    """What a perfect client makes of rows first .. first + n - 1."""
    if name != GANGLION:
        return muse_source(seed=int(name[-1])).rows(first, n)
    _, known = coded(ganglion_source().rows(first, n) >> 6, 18)
    return known << 6


@contextmanager
def kept(*names: str, pace: float, **settings: Any) -> Iterator[dict[str, Kept]]:
    with ExitStack() as stack:
        devices = {}
        for name in names:
            folder = ROOT / name
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            pull, streams = stack.enter_context(
                pulled(folder, partial(make_driver, name, pace=pace, **settings), name)
            )
            devices[name] = Kept(name, pull, streams)
        yield devices
        # At once, as when the box stops: BlueZ takes two seconds for each.
        partings = [Thread(target=each.pull.stop) for each in devices.values()]
        for parting in partings:
            parting.start()
        for parting in partings:
            parting.join()


def refusal(what: Callable[[], object]) -> dict[str, str]:
    try:
        what()
    except DeviceError as error:
        return {"code": error.code, "said": str(error)}
    return {"code": "", "said": "nothing was refused"}


def say(what: str) -> None:
    """For whoever looks for the step that failed, or that is slow."""
    sys.stderr.write(f"{time.monotonic():.1f} {what}\n")
    sys.stderr.flush()


def afresh() -> None:
    """Nothing of an earlier test."""
    shutil.rmtree(ROOT, ignore_errors=True)
    RUN.mkdir(parents=True)
