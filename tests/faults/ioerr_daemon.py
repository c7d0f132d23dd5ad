"""I/O errors in the whole daemon: strace makes the n-th call of each thread of an acquire process fail.

`-e trace=` must name the calls that are to fail: with `trace=none` strace fails nothing and says nothing.
So each sample is counted only when strace reports what it did.
"""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from brainforge_edge.cli.demo.sources import read_ledger
from brainforge_edge.codec import registry
from brainforge_edge.core.stream import Dtype
from tests.faults.box import Box, box_in, is_root
from tests.faults.reference import Found
from tests.faults.witness import Witness
from tests.opened import opened_chunks

RECORDING = "ioerr"
STREAM = "helmet-mag"
CALLS = ("pwrite64", "fdatasync")
ERRORS = ("EIO", "ENOSPC", "EINTR")
MOST_INDEX = {"pwrite64": 120, "fdatasync": 25}  # what a thread reaches in two seconds
LASTING = (1, 1, 3, 10)
MOST_S = 15.0  # until strace has reported the error
SETTLE_S = 0.5
STRACE_S = 10.0  # to let go


def missing() -> str:
    """What the machine lacks, "" if nothing."""
    if not is_root():
        return "root"
    return "" if shutil.which("strace") else "strace"


class Sample(NamedTuple):
    """The error of one call, and of the next ones if it lasts."""

    call: str
    error: str
    at: int  # in each thread, from 1
    lasts: int
    is_killed: bool  # the process is, right behind the error

    @property
    def inject(self) -> str:
        return f"inject={self.call}:error={self.error}:when={self.at}..{self.at + self.lasts - 1}"


class Daemon:
    """One recording of a helmet, in which one call after the other fails."""

    def __init__(
        self, folder: Path, seed: int, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self._folder = folder
        self._chance = random.Random(seed)
        self._say = say
        self.injected = 0
        self.samples: list[Sample] = []
        self.acknowledged = 0
        self.found = Found()
        self.problems: list[str] = []

    @property
    def is_met(self) -> bool:
        return (
            self.injected == len(self.samples) > 0
            and self.acknowledged > 0
            and not (self.found.is_bad or self.problems)
        )

    def run(self, n: int) -> None:
        with box_in(self._folder) as box:
            box.device("helmet", "opm")
            box.emulate("helmet", "opm", channels=8)
            box.write_config(recording="segment_mib = 16\njournal_s = 10")
            box.start()
            box.until_streaming(STREAM, 30)
            box.ask("record", name=RECORDING)
            box.until(lambda: box.stream(STREAM).get("recorded"), 30, "the recording")
            with Witness({STREAM: box.run / "rings" / f"{STREAM}.ring"}) as witness:
                for number in range(n):
                    self._say(f"daemon: {number} of {n}")
                    self._one(box, witness)
            durable = witness.seen[STREAM][-1].durable
            box.quiet(STREAM)
            box.ask("stop", timeout_s=120.0)
            self._judge(box, witness.seen[STREAM][0].durable, durable)

    def _one(self, box: Box, witness: Witness) -> None:
        call, error = self._chance.choice(CALLS), self._chance.choice(ERRORS)
        sample = Sample(
            call,
            error,
            self._chance.randint(1, MOST_INDEX[call]),
            self._chance.choice(LASTING),
            is_killed=self._chance.random() < 0.3,
        )
        self.samples.append(sample)
        pid = int(box.worker("acquire:helmet")["pid"])
        report = self._folder / f"strace-{len(self.samples)}"
        command = ["strace", "-f", "-qq", "-o", report, "-e", f"trace={call}", "-e", sample.inject]
        strace = subprocess.Popen([*map(str, command), "-p", str(pid)], stderr=subprocess.DEVNULL)
        try:
            until = time.monotonic() + MOST_S
            while not _has_injected(report) and time.monotonic() < until:
                time.sleep(0.005)
            if sample.is_killed:
                os.kill(pid, signal.SIGKILL)
            else:
                time.sleep(SETTLE_S)
        finally:
            strace.send_signal(signal.SIGINT)
            try:
                strace.wait(STRACE_S)
            except subprocess.TimeoutExpired:  # it missed the end of a process that was killed,
                strace.kill()  # which nobody can reap as long as it is traced
                strace.wait(STRACE_S)
        if _has_injected(report):
            self.injected += 1
        else:
            self.problems.append(f"strace has not injected {sample}")
        before = witness.seen[STREAM][-1].durable
        box.until(
            lambda: witness.seen[STREAM][-1].durable > before + 200, 40, f"rows after {sample}"
        )

    def _judge(self, box: Box, first: int, durable: int) -> None:
        """Every row since the witness came must be there up to the last acknowledged, as it was emitted.

        A disk that said it was full ends the recording, and another one begins: all of them count.
        """
        self.acknowledged = durable - first
        accounts = box.verify()
        streams = {name: found[STREAM] for name, found in accounts.items() if STREAM in found}
        source = read_ledger(box.root / "helmet.json", "mag").source()
        end = max(durable, *(span[2] for each in streams.values() for span in each["spans"]))
        times = np.zeros(end, np.int64)
        is_named = np.zeros(end, np.bool_)
        different = 0
        for name, account in streams.items():
            if not account["clean"]:
                self.problems.append(f"the account of {name} is not clean: {account}")
            for chunk in opened_chunks(box.recordings / name, STREAM):
                rows = registry.decode(
                    chunk.codec, chunk.body, Dtype(chunk.dtype), chunk.n_samples, chunk.n_channels
                )
                times[chunk.seq : chunk.end] += 1
                different += int(np.any(rows != source(chunk.seq, chunk.n_samples), axis=1).sum())
            for gap in account["gaps"]:  # never acquired: the process was being started again
                is_named[max(0, gap["before_seq"] - gap["n"]) : gap["before_seq"]] = True
        missing = first + np.flatnonzero((times[first:durable] == 0) & ~is_named[first:durable])
        if len(missing):
            self.problems.append(f"not there: {missing[:20]} of {len(missing)}; {streams}")
        self.found = Found(len(missing), int(np.count_nonzero(times > 1)), different)

    def result(self) -> dict[str, Any]:
        return {
            "runs": self.injected,
            "samples": [[*sample] for sample in self.samples],
            "acknowledged": self.acknowledged,
            "lost": self.found.lost,
            "duplicated": self.found.duplicated,
            "different": self.found.different,
            "problems": self.problems,
            "met": self.is_met,
        }


def _has_injected(report: Path) -> bool:
    return report.exists() and "(INJECTED)" in report.read_text(errors="replace")
