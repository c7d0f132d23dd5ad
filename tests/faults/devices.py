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
from typing import Any

from tests.benchmarks.processes import cpu_s, private_mib
from tests.drivers import lsl_network
from tests.faults.box import Box, box_in
from tests.faults.devices_account import Account, Told, account_of
from tests.faults.mutants import DROPS_FRAMES, environment

assert lsl_network.SESSION  # an LSL of this process and its children alone

PULSES_S = 2.0
OFF = 0.003
MOST_MS = 1.0
MOST_MIB = 64.0
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
    "broken_rows", "degraded_rows", "unparsed_bytes", "dropped_packets", "skipped_bytes",
)  # fmt: skip
MUTANTS = ("", "drops one frame in 10,000", "kills two")


@dataclass
class Cost:
    """Of one acquire process."""

    cores: float = 0.0
    private_mib: float = 0.0
    errors: int = 0
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
    kills_ns: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    _spent: dict[int, tuple[str, float]] = field(default_factory=dict)
    _errors: dict[int, tuple[str, int]] = field(default_factory=dict)

    def run(self, root: Path) -> None:
        with box_in(root) as box:
            for name in DEVICES:
                self._launch(box, name)
            box.write_config()
            changed = DROPS_FRAMES.format(every=10_000) if self.mutant == MUTANTS[1] else ""
            box.start(environment(root, changed) if changed else {})
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
            for name, errors in self._errors.values():
                self.costs[name].errors += errors
            verified = box.verify()["all"]
            for stream, told in STREAMS.items():
                name = stream.partition("-")[0]
                kills = self.kills_ns[name]
                gaps = verified[stream]["gaps"]
                found = account_of(box.recordings / "all", stream, told, box.ledger(name), gaps, kills)  # fmt: skip
                self.accounts.append(found)
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
        """Kill in turn, look in between."""
        began = time.monotonic()
        names = list(DEVICES)
        turn, next_kill = 0, self.kill_every_s
        while (now := time.monotonic() - began) < self.seconds:
            self._look(box)
            # The last kill leaves time to come back, and to settle.
            if now >= next_kill and now < self.seconds - self.kill_every_s / 2:
                self._kill(box, names[turn % len(names)])
                if self.mutant == "kills two":
                    self._kill(box, names[(turn + 1) % len(names)], is_secret=True)
                turn, next_kill = turn + 1, next_kill + self.kill_every_s
            time.sleep(0.5)

    def _kill(self, box: Box, name: str, *, is_secret: bool = False) -> None:
        self._look(box)
        pid = box.worker(f"acquire:{name}")["pid"]
        if pid is None:
            self.wrong.append(f"{name}: not there to be killed")
            return
        os.kill(pid, signal.SIGKILL)
        if not is_secret:
            self.kills_ns[name].append(time.monotonic_ns())
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
            except FileNotFoundError:
                continue
            cost = self.costs[name]
            cost.private_mib = max(cost.private_mib, round(mib, 1))
            counters = worker.get("counters") or {}
            if counters:
                self._errors[pid] = (name, sum(counters.get(key, 0) for key in ERRORS))

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
            if cost.private_mib > MOST_MIB:
                self.wrong.append(f"{name}: {cost.private_mib} MiB of private memory")

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
        lines = ["| stream | rows | lost | in gaps of kills | named | pulses | median ms | p99 ms |", "|---|" + "---|" * 7]  # fmt: skip
        lines += [
            f"| {a.stream_id} | {a.rows} | {a.lost} | {a.gap_samples} | {a.named} ± {a.plus_minus} |"
            f" {a.alignment.n} | {a.alignment.median_ms:.3f} | {a.alignment.p99_ms:.3f} |"
            for a in self.accounts
        ]
        lines += ["", "| device | cores | private MiB | decoder errors | kills |", "|---|" + "---|" * 4]  # fmt: skip
        lines += [
            f"| {name} | {c.cores:.3f} | {c.private_mib:.1f} | {c.errors} | {c.kills} |"
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
