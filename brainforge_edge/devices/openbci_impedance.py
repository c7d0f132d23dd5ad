"""The impedance test of a Cyton: test current on, samples, test current off. No I/O.

The thread that commands asks and waits; the pull thread, which alone may talk with the board, begins
the test, shows it the samples that it reads on as ever, and ends it.
Runs in: acquire process, pull thread; `run` in a command's own thread.
"""

import math
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.core.block import SampleBlock
from brainforge_edge.core.errors import DeviceError
from brainforge_edge.core.stream import StreamInfo
from brainforge_edge.devices import impedance
from brainforge_edge.devices.base import DeviceCommand, protected
from brainforge_edge.devices.bfp_commands import bad_argument, flag, only, seconds
from brainforge_edge.devices.openbci_settings import LETTERS, PER_CHIP, Channel

SPAN = "BAD_impedance"
DEFAULT_S = 3.0
LEAST_S = 1.0
MOST_S = 30.0
_SETTLE_S = 0.5  # the step when the current begins
_LATE_S = 15.0  # for the conversation before and after
_RAIL = 2**23 - 1
_PACKET_HZ = 250.0


class Test:
    """One request. `on` and `off` are what to tell the board."""

    def __init__(self, columns: Sequence[int], wanted_s: float) -> None:
        self.columns = list(columns)
        # The electrode is at the N side, also with SRB2; with bipolar inputs that of the pair's N.
        self.on = [f"z{LETTERS[at]}01Z" for at in self.columns]
        self.off = [f"z{LETTERS[at]}00Z" for at in self.columns]
        self.wanted_s = wanted_s
        self.began_ns = 0
        self.rows: list[NDArray[Any]] = []
        self.n_rows = 0
        self.error: DeviceError | None = None
        self.is_done = False


class ImpedanceTests:
    """At most one at a time. `has_begun` while the test current flows."""

    def __init__(self, info: StreamInfo, channels: Sequence[Channel], *, device: str) -> None:
        self._info = info
        self._channels = list(channels)
        self._device = device
        self._changed = threading.Condition()
        self._test: Test | None = None
        self.has_begun = False
        self.is_over = False  # the link is closed

    def run(self, command: DeviceCommand) -> dict[str, Any]:
        """Ask and wait for `channels` (names), `seconds`, `force`; kΩ and words. DeviceError."""
        only(command, "channels", "seconds")
        wanted_s = seconds(command.arguments, "seconds", DEFAULT_S, MOST_S, least=LEAST_S)
        columns = self._columns(command.arguments.get("channels"))
        if command.recording and not flag(command.arguments, "force"):
            raise protected(self._device, command)
        test = Test(columns, wanted_s)
        with self._changed:
            self._test = test
            self._changed.wait_for(
                lambda: test.is_done or self.is_over, test.wanted_s + _SETTLE_S + _LATE_S
            )
            if self._test is test and not self.has_begun:
                self._test = None
        if test.error is not None:
            raise test.error
        if not test.is_done:
            raise _failed(self._device, "its link was lost or it did not answer in time")
        return self._result(test)

    @property
    def asked(self) -> Test | None:
        """A test that waits for its begin."""
        return None if self.has_begun else self._test

    @property
    def running(self) -> Test | None:
        return self._test if self.has_begun else None

    def see(self, blocks: Sequence[SampleBlock], now_ns: int) -> bool:
        """Rows of the running test; True when it has all it needs, or waits in vain."""
        test = self._test
        if test is None or not self.has_begun:
            return False
        for block in blocks:
            if block.stream_id == self._info.stream_id:
                test.rows.append(block.data[:, test.columns])
                test.n_rows += len(block.data)
        needed = (test.wanted_s + _SETTLE_S) * self._info.sfreq
        is_late = now_ns - test.began_ns > (test.wanted_s + _SETTLE_S + _LATE_S / 2) * 1e9
        if is_late and test.n_rows < needed:
            test.error = _failed(self._device, "too few samples came")
        return is_late or test.n_rows >= needed

    def finish(self, error: DeviceError | None = None) -> None:
        """The board is as it was, or the link is lost (`error`)."""
        with self._changed:
            test, self._test, self.has_begun = self._test, None, False
            if test is not None:
                test.error = test.error or error
                test.is_done = True
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self.is_over = True
            self._changed.notify_all()

    def _columns(self, named: object) -> list[int]:
        names = self._info.ch_names
        able = [at for at, channel in enumerate(self._channels) if channel.on]
        if named is None:
            return able
        wanted = named.split(",") if isinstance(named, str) else named
        if (
            not isinstance(wanted, list)
            or not wanted
            or not set(wanted) <= {names[at] for at in able}
        ):
            raise bad_argument("channels", "names of channels that are switched on")
        return sorted({names.index(name) for name in wanted})

    def _result(self, test: Test) -> dict[str, Any]:
        rows = np.concatenate(test.rows)[round(_SETTLE_S * self._info.sfreq) :]
        scales = np.array([self._info.channels[at].scale for at in test.columns])
        # Where the board sends means of two samples, they take a part of the amplitude away.
        is_mean = len(self._channels) > PER_CHIP
        left = math.cos(math.pi * impedance.TEST_HZ / _PACKET_HZ) if is_mean else 1.0
        found = impedance.ohms(rows * scales, self._info.sfreq, left=left)
        has_railed = np.mean(np.abs(rows) >= _RAIL, axis=0) > 0.1
        kohm: dict[str, float | None] = {}
        contact: dict[str, str] = {}
        for at, ohm, is_railed in zip(test.columns, found.tolist(), has_railed, strict=True):
            name = self._info.channels[at].name
            kohm[name] = None if is_railed else round(ohm / 1000, 1)
            contact[name] = "open" if is_railed else impedance.word(ohm)
        return {"impedance_kohm": kohm, "contact": contact}


def _failed(device: str, why: str) -> DeviceError:
    return DeviceError(
        "measurement_failed",
        f"{device} did not measure impedances",
        why=why,
        remedy="Try again; the channel settings are restored, at the latest with the next connection",
        transient=True,
    )
