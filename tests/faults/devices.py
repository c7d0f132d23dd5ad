"""All wired kinds at once on one box, a driver killed now and then; then the account.

    python -m tests.faults devices --seconds 600

Helmet (306 channels, serial), optical helmet (TCP), hat (UDP, its crystal 0.3 % off), Cyton with
Daisy (serial), LSL (loopback); a common pulse train in all; one recording, open all the time. Bluetooth
needs an adapter: `tests/guest` has it. Exit status 0 only if nothing is lost but around the kills
of a device's own worker, no decoder saw an error and the pulses lie within a millisecond.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.processes import cpu_s, private_mib
from tests.drivers import lsl_network
from tests.faults.box import Box, box_in
from tests.faults.devices_account import Account, Kill, Told, account_of
from tests.faults.mutants import DROPS_FRAMES, environment

assert lsl_network.SESSION  # an LSL of this process and its children alone

PULSES_S = 2.0
OFF = 0.003
MOST_MS = 1.0
# Emulator, driver, link, options; "" is LSL.
DEVICES = {
    "helmet": ("opm", "opm", "tty", ()),
    "light": ("fnirs", "fnirs", "tcp", ()),
    "hat": ("accel_hat", "accel_hat", "udp", ("--rate-error", str(OFF))),
    "cyton": ("cyton", "openbci", "tty", ()),
    "lab": (
        "lsl",
        "lsl",
        "",
        ("--type", "EEG", "--sfreq", "500", "--channels", "32", "--source-id", "lab"),
    ),
}
STREAMS = {
    "helmet-mag": Told("opm", 1000.0),
    "light-flow": Told("fnirs", 10.0),
    "light-flux": Told("fnirs", 10.0),
    "hat-acc1": Told("accel_hat", 1000.0, OFF),
    "hat-acc2": Told("accel_hat", 1000.0, OFF),
    "cyton-eeg": Told("cyton", 125.0, starts_late=1),
    "lab-eeg": Told("lsl", 500.0, channels=32, sample_format="float32"),
}
# Of LinkCounters: what a sound link never shows.
ERRORS = (
    "bad_header_crc", "bad_frame_crc", "broken_pairs", "implausible", "wrong_schema",
    "broken_rows", "degraded_rows", "unparsed_bytes", "dropped_packets",
)  # fmt: skip
MUTANTS = ("", "drops one frame in 10,000", "kills two")
# The 2,000th frame is the first one: within 20 s, also at a hundred frames a second.
EARLY = DROPS_FRAMES.format(every=10_000).replace("count = 0", "count = 3_000")


@dataclass
class Cost:
    """Of one acquire process."""

    cores: float = 0.0
    private_mib: float = 0.0  # the middle one of all looks
    most_mib: float = 0.0  # … and the highest, which is that of a recovery
    errors: int = 0
    joined_within: int = 0  # frames: the end of one that the killed worker had begun to read
    kills: int = 0


@dataclass
class Campaign:
    """`run` it, then `accounts`, `costs` and `wrong` say what was found."""

    seconds: float
    kill_every_s: float
    mutant: str = ""
    accounts: list[Account] = field(default_factory=list)
    costs: dict[str, Cost] = field(default_factory=lambda: defaultdict(Cost))
    wrong: list[str] = field(default_factory=list)
    kills: dict[str, list[Kill]] = field(default_factory=lambda: defaultdict(list))
    _spent: dict[int, tuple[str, float]] = field(default_factory=dict)
    _errors: dict[int, tuple[str, int, int]] = field(default_factory=dict)
    _mib: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def run(self, root: Path) -> None:
        with box_in(root) as box:
            for name in DEVICES:
                self._launch(box, name)
            box.write_config()
            only_drivers = "[pipeline]\nenabled = false\n"
            box.config.write_text(only_drivers + box.config.read_text())
            changed = environment(root, EARLY if self.mutant == MUTANTS[1] else "")
            box.start({**changed, "PYTHONFAULTHANDLER": "1"})  # a crash says where, in the log
            for stream in STREAMS:
                box.until_streaming(stream, 30)
            box.ask("record", name="all", preroll=0)
            began = time.monotonic()
            self._disturb(box)
            took_s = time.monotonic() - began
            self._end(box)
            for name, (pid_name, spent) in _summed(self._spent).items():
                self.costs[name].cores = round(spent / took_s, 4)
                assert pid_name == name
            for name, errors, resyncs in self._errors.values():
                self.costs[name].errors += errors
                self.costs[name].joined_within += resyncs
            for name, cost in self.costs.items():
                # The first resync of a connection may be the rest of a frame; no frame is skipped whole.
                excused = min(cost.joined_within, cost.kills)
                cost.errors += cost.joined_within - excused
                cost.private_mib, cost.most_mib = median(self._mib[name]), max(self._mib[name])
            verified = box.verify()["all"]
            for stream, told in STREAMS.items():
                name = stream.partition("-")[0]
                folder, gaps = box.recordings / "all", verified[stream]["gaps"]
                ledger = box.ledger(name)
                self.accounts.append(
                    account_of(folder, stream, told, ledger, gaps, self.kills[name])
                )
        self._judge()

    def _launch(self, box: Box, name: str) -> None:
        emulator, driver, link, more = DEVICES[name]
        ledger = box.root / f"{name}.json"
        options = ("--ledger", str(ledger), "--pulses", str(PULSES_S), *more)
        where = str(box.link(name)) if link == "tty" else f"{link}://:0" if link else ""
        box.emulate_at(name, emulator, where, *options)
        box.until(ledger.exists, 20, f"the ledger of {name}")
        if not link:
            settings = f'settings = {{ source_id = "{name}" }}'
            box.devices.append(f'[[device]]\nname = "{name}"\nkind = "lsl"\n{settings}\n')
            return
        found = json.loads(ledger.read_text()).get("link", where)
        box.device(name, driver, port=found)

    def _disturb(self, box: Box) -> None:
        """Kill in turn, look in between; the next one only when the last one is back."""
        began = time.monotonic()
        names = list(DEVICES)
        turn, next_kill = 0, self.kill_every_s
        while (now := time.monotonic() - began) < self.seconds:
            self._look(box)
            # The last kill leaves time to come back, and to settle.
            if now >= next_kill and now < self.seconds - min(12.0, self.kill_every_s / 2):
                if self.mutant == MUTANTS[2]:
                    self._kill(box, names[(turn + 1) % len(names)], is_secret=True)
                self._kill(box, names[turn % len(names)])
                turn += 1
                next_kill = max(next_kill + self.kill_every_s, time.monotonic() - began + 2.0)
            time.sleep(0.5)

    def _kill(self, box: Box, name: str, *, is_secret: bool = False) -> None:
        self._look(box)
        pid = box.worker(f"acquire:{name}")["pid"]
        if pid is None:
            self.wrong.append(f"{name}: not there to be killed")
            return
        os.kill(pid, signal.SIGKILL)
        if is_secret:
            return
        at_ns = time.monotonic_ns()
        own = [stream for stream in STREAMS if stream.startswith(f"{name}-")]

        def is_back() -> bool:
            self._look(box)
            is_other = box.worker(f"acquire:{name}")["pid"] not in {None, pid}
            return is_other and all(box.is_streaming(stream) for stream in own)

        box.until(is_back, 60, f"{name} after its kill")
        self.kills[name].append(Kill(at_ns, time.monotonic_ns()))
        self.costs[name].kills += 1

    def _look(self, box: Box) -> None:
        """What each worker has spent and seen so far."""
        for worker in box.status().get("workers", []):
            name = worker["name"].partition(":")[2]
            pid = worker["pid"]
            if name not in DEVICES or pid is None:
                continue
            try:
                self._spent[pid] = (name, cpu_s(pid))
                mib = private_mib(pid)
            except (FileNotFoundError, ProcessLookupError):
                continue  # ended while we looked
            self._mib[name].append(round(mib, 1))
            counters = worker.get("counters") or {}
            if counters:
                errors = sum(counters.get(key, 0) for key in ERRORS)
                self._errors[pid] = (name, errors, counters.get("resyncs", 0))

    def _end(self, box: Box) -> None:
        """Devices first, so that the last sample of each is known and recorded."""
        for stream in STREAMS:
            box.until_streaming(stream, 30)
        self._look(box)
        for name in DEVICES:
            box.emulators[name].terminate()
        for name in DEVICES:
            box.end(box.emulators[name])
        for stream in STREAMS:
            box.until_lost(stream, 15)
        box.ask("stop", timeout_s=120.0)

    def _judge(self) -> None:
        for account in self.accounts:
            who = account.stream_id
            if account.lost:
                self.wrong.append(f"{who}: {account.lost} samples lost")
            if account.wrong_rows:
                self.wrong.append(f"{who}: {account.wrong_rows} rows are not as they were sent")
            if not account.is_named:
                self.wrong.append(
                    f"{who}: {account.gap_samples} samples missing, gaps name {account.named}"
                    f" ± {account.plus_minus}"
                )
            aligned = account.alignment
            if aligned.n and max(abs(aligned.median_ms), aligned.p99_ms) >= MOST_MS:
                self.wrong.append(f"{who}: pulses are {aligned.median_ms:.3f} ms late, p99 {aligned.p99_ms:.3f}")  # fmt: skip
            if not aligned.n:
                self.wrong.append(f"{who}: no pulse was found")
        for name, cost in self.costs.items():
            if cost.errors:
                self.wrong.append(f"{name}: {cost.errors} errors of the decoder")

    def as_dict(self) -> dict[str, Any]:
        return {
            "ok": not self.wrong,
            "wrong": self.wrong,
            "devices": {name: asdict(cost) for name, cost in self.costs.items()},
            "streams": {
                a.stream_id: {**asdict(a), "alignment": a.alignment._asdict()}
                for a in self.accounts
            },
        }

    def table(self) -> str:
        heads = (
            "| stream | rows | lost | in gaps of kills | named | pulses | median ms | p99 ms |",
            "| device | cores | private MiB | at most | decoder errors | kills |",
        )
        lines = [heads[0], "|---|" + "---|" * 7]
        lines += [
            f"| {a.stream_id} | {a.rows} | {a.lost} | {a.gap_samples} | {a.named} ± {a.plus_minus} |"
            f" {a.alignment.n} | {a.alignment.median_ms:.3f} | {a.alignment.p99_ms:.3f} |"
            for a in self.accounts
        ]
        lines += ["", heads[1], "|---|" + "---|" * 5]
        lines += [
            f"| {name} | {c.cores:.3f} | {c.private_mib:.1f} | {c.most_mib:.1f} | {c.errors} | {c.kills} |"
            for name, c in self.costs.items()
        ]
        return "\n".join(lines)


def _summed(spent: dict[int, tuple[str, float]]) -> dict[str, tuple[str, float]]:
    found: dict[str, tuple[str, float]] = {}
    for name, seconds in spent.values():
        found[name] = (name, found.get(name, (name, 0.0))[1] + seconds)
    return found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults devices")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--kill-every", type=float, default=30.0)
    parser.add_argument("--mutant", choices=MUTANTS, default="")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--root", type=Path)
    options = parser.parse_args(arguments)
    campaign = Campaign(options.seconds, options.kill_every, options.mutant)
    with tempfile.TemporaryDirectory(prefix="bf-devices-") as folder:
        campaign.run(options.root or Path(folder))
    if options.json:
        print(json.dumps(campaign.as_dict(), indent=1))
    else:
        print(campaign.table())
        for line in campaign.wrong:
            print("WRONG", line)
        print("0 lost, 0 errors, aligned" if not campaign.wrong else "FAILED")
    return 1 if campaign.wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
