"""A box with one device whose link is to fail and a steady one; what `status` shows of it, and the truth.

`status` is asked each 20 ms over the control socket, as `brainforge-edge status` asks it.
"""

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tests.faults.box import Box
from tests.opened import parts_of

STEADY = "steady-eeg"


class Kind(NamedTuple):
    emulator: str
    driver: str
    link: str  # tty, tcp, udp, lsl
    stream: str
    sfreq: float
    options: tuple[str, ...] = ()
    proves: bool = True  # its counter goes on while the link is down, and it says so


class Shown(NamedTuple):
    at: float  # time.monotonic()
    state: str
    reason: str


class Outage(NamedTuple):
    """Seconds from the last sample, of `back` from the device's return; None: not shown."""

    degraded_s: float | None
    trouble_s: float | None  # DEGRADED or LOST
    lost_s: float | None
    back_s: float
    reason: str


class Stand:
    """`cause` and `mend` one of FAULTS; `outage` does both and says what was shown."""

    FAULTS = ("unplug", "freeze", "power cycle", "kill")

    def __init__(self, box: Box, kind: Kind) -> None:
        self.box = box
        self.kind = kind
        self.stream = f"dut-{kind.stream}"
        self.where = {"tty": str(box.link("dut")), "lsl": ""}.get(kind.link, f"{kind.link}://:0")
        self._ledger = box.root / "dut.json"
        self._past_runs: list[dict[str, Any]] = []

    def start(self, port: str = "") -> None:
        """`port`: where the box looks for the device, if not where it is."""
        box, kind = self.box, self.kind
        box.device("steady", "openbci")
        box.emulate("steady", "cyton")
        if not port:
            self.launch()
        if kind.link == "lsl":
            settings = 'settings = { source_id = "dut" }'
            box.devices.append(f'[[device]]\nname = "dut"\nkind = "lsl"\n{settings}\n')
        else:
            box.device("dut", kind.driver, port=port or self.where)
        box.write_config()
        box.start()
        box.until_streaming(self.stream, 20)
        box.until_streaming(STEADY, 20)
        box.ask("record", name="one")
        time.sleep(1.0)

    def launch(self) -> None:
        """The device, again at the same address; returns when it can be reached."""
        box, kind = self.box, self.kind
        if self._ledger.exists():
            self._past_runs += self._runs()
            self._ledger.unlink()
        options = ("--ledger", str(self._ledger), *kind.options)
        if kind.link == "lsl":
            options = (*options, "--source-id", "dut")
        box.emulate_at("dut", kind.emulator, self.where, *options)
        box.until(self._ledger.exists, 20, "the ledger of dut")
        if kind.link in {"tcp", "udp"}:
            self.where = str(json.loads(self._ledger.read_text())["link"])

    def outage(self, fault: str, out_s: float) -> Outage:
        shown: list[Shown] = []
        self.cause(fault)
        began = time.monotonic()
        if fault != "power cycle":  # which is over at once
            self._watch(shown, lambda: time.monotonic() - began > out_s, out_s + 5)
            self.mend(fault)
        mended = time.monotonic()
        head = self._figures().get("head") or 0

        def is_back() -> bool:
            is_shown = bool(shown) and shown[-1].state == "streaming"
            return is_shown and (self._figures().get("head") or 0) > head

        if fault == "power cycle":
            self._watch(shown, lambda: any(s.state == "lost" for s in shown), 5)
        self._watch(shown, is_back, 20)
        troubles = [s for s in shown if s.state in {"degraded", "lost"}]
        lost = next((s for s in shown if s.state == "lost"), None)
        degraded = next((s for s in shown if s.state == "degraded"), None)
        return Outage(
            degraded.at - began if degraded else None,
            troubles[0].at - began if troubles else None,
            lost.at - began if lost else None,
            shown[-1].at - mended,
            lost.reason if lost else "",
        )

    def state(self) -> str:
        return str(self._figures().get("state"))

    def cause(self, fault: str) -> None:
        numbers = {
            "unplug": signal.SIGUSR1, "freeze": signal.SIGSTOP, "power cycle": signal.SIGHUP
        }  # fmt: skip
        if fault in numbers:
            self.box.signal("dut", numbers[fault])
            return
        child = self.box.emulators["dut"]
        child.process.kill()
        child.process.wait()
        self.box.children.release([child])
        if self.kind.link == "tty":
            # As udev takes a name away: the terminal's number is soon another test's.
            Path(self.where).unlink()

    def mend(self, fault: str) -> None:
        if fault == "kill":
            self.launch()
        else:
            self.box.signal("dut", {"unplug": signal.SIGUSR2, "freeze": signal.SIGCONT}[fault])

    def true_gaps(self) -> list[float]:
        """Samples that lie between two incarnations or runs of the record, by the device's own clock."""
        (rows,) = parts_of(self.box.recordings / "one", self.stream)
        runs = self._past_runs + self._runs()
        step_ns = 1e9 / self.kind.sfreq
        found, before, expected = [], None, None
        for run in rows.runs():
            index = int(run.data[0, 0])
            if expected != (run.incarnation, run.seq):
                born = [r["started_ns"] + index * step_ns for r in runs]
                first = min(born, key=lambda t, run=run: abs(t - run.t_first_ns))  # type: ignore[misc]
                if before is not None:
                    found.append((first - before) / step_ns - 1)
                base = first - index * step_ns
            n = len(run.data)
            np.testing.assert_array_equal(run.data[:, 0].astype(np.int64), index + np.arange(n))
            before = base + (index + n - 1) * step_ns
            expected = (run.incarnation, run.seq + n)
        return found

    def _runs(self) -> list[dict[str, Any]]:
        account = json.loads(self._ledger.read_text())
        runs: list[dict[str, Any]] = account.get("streams", {}).get(self.kind.stream, account)[
            "runs"
        ]
        return runs

    def _figures(self) -> dict[str, Any]:
        return self.box.stream(self.stream)

    def _watch(self, shown: list[Shown], until: Callable[[], bool], most_s: float) -> None:
        deadline = time.monotonic() + most_s
        while not until():
            assert time.monotonic() < deadline, shown[-5:]
            figures = self._figures()
            now = Shown(time.monotonic(), str(figures.get("state")), str(figures.get("reason")))
            if not shown or shown[-1][1:] != now[1:]:
                shown.append(now)
            time.sleep(0.02)
