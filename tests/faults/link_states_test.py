"""What every wired kind shows when its link fails, and what lies in the record then.

Each device is a real process on a real transport; a steady one beside it must not lose a sample.
`pytest -s` prints the times, as docs/devices.md states them.
"""

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.drivers import lsl_network
from tests.faults.box import box_in
from tests.faults.linkstand import STEADY, Kind, Outage, Stand
from tests.faults.relay import relay_to

assert lsl_network.SESSION  # the boxes of this file have an LSL of their own

# A read, a heartbeat and the asking lie between what the box knows and what it shows.
TROUBLE_S, LOST_S, SEEN_S, BACK_S = 1.0, 1.0, 0.5, 5.0
OUT_S = 2.5
HELMET = ("--channels", "32")
KINDS = {
    "opm, tty": Kind("opm", "opm", "tty", "mag", 1000.0, HELMET),
    "opm, tcp": Kind("opm", "opm", "tcp", "mag", 1000.0, HELMET),
    "opm, udp": Kind("opm", "opm", "udp", "mag", 1000.0, HELMET),
    "fnirs, tcp": Kind("fnirs", "fnirs", "tcp", "flow", 10.0),
    "accel_hat, udp": Kind("accel_hat", "accel_hat", "udp", "acc1", 1000.0),
    "cyton, tty": Kind("cyton", "openbci", "tty", "eeg", 125.0, proves=False),
    "lsl": Kind("lsl", "lsl", "lsl", "eeg", 250.0, ("--type", "EEG", "--sfreq", "250"), False),
}


# The helmet on each transport: `pytest -m "long or not long"`.
SHORT = KINDS.keys() - {"opm, tcp", "opm, udp"}


def long_but_for_each_transport(name: str) -> Any:
    return pytest.param(name, marks=() if name in SHORT else pytest.mark.long)


@pytest.mark.slow
@pytest.mark.timeout(150)
@pytest.mark.parametrize("name", [long_but_for_each_transport(name) for name in KINDS])
def test_a_link_that_fails_is_shown_in_time_and_leaves_its_gap(tmp_path: Path, name: str) -> None:
    kind = KINDS[name]
    with box_in(tmp_path) as box:
        stand = Stand(box, kind)
        stand.start()
        outages = {}
        for fault in Stand.FAULTS:
            outages[fault] = stand.outage(fault, OUT_S)
            time.sleep(1.0)
        box.ask("stop")
        account = box.verify()["one"]
        true_gaps = stand.true_gaps()
    print()
    for fault, outage in outages.items():
        print(_line(name, fault, outage))
    for fault, outage in outages.items():
        assert outage.lost_s is not None, fault
        assert outage.trouble_s is not None
        assert outage.trouble_s < TROUBLE_S + (0.5 if kind.sfreq < 20 else 0.0), fault
        assert outage.lost_s < LOST_S + SEEN_S, fault
        assert outage.back_s < BACK_S, fault
    assert outages["freeze"].degraded_s is not None
    assert outages["freeze"].reason == "device.silent"
    gaps = account[stand.stream]["gaps"]
    print(f"{name}: gaps {[(g['n'], g['plus_minus'], g['basis'], g['cause']) for g in gaps]},"
          f" true {[round(n, 1) for n in true_gaps]}")  # fmt: skip
    assert len(gaps) == len(true_gaps)
    n_exact = 0
    for gap, true in zip(gaps, true_gaps, strict=True):
        is_exact = gap["basis"] == "device_index"  # the same boot id
        n_exact += is_exact
        assert is_exact or gap["basis"] == "clock"
        assert (gap["cause"] == "restart") == (not is_exact)
        assert (gap["plus_minus"] == 0) == is_exact
        assert abs(gap["n"] - true) <= gap["plus_minus"] + 0.01
    # Unplugged and frozen it is the same run; a memory that overflows meanwhile leaves one more gap in it.
    assert n_exact >= 2 if kind.proves else n_exact == 0
    assert len(gaps) - n_exact == (2 if kind.proves else len(Stand.FAULTS))
    assert len({span[0] for span in account[stand.stream]["spans"]}) == (3 if kind.proves else 5)
    assert account[STEADY]["gap_samples"] == 0
    assert len(account[STEADY]["spans"]) == 1


def _line(name: str, fault: str, outage: Outage) -> str:
    times = (outage.degraded_s, outage.lost_s, outage.back_s)
    shown = " | ".join("–" if t is None else f"{t:.2f}" for t in times)
    return f"| {name} | {fault} | {shown} | `{outage.reason}` |"


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_network_that_vanishes_without_a_word_is_lost_in_time_and_blocks_no_device(
    tmp_path: Path,
) -> None:
    kind = KINDS["opm, tcp"]
    with box_in(tmp_path) as box:
        stand = Stand(box, kind)
        stand.launch()
        with relay_to(stand.where) as relay:
            stand.start(relay.address)
            relay.cut()
            began = time.monotonic()
            trouble_s = box.until(lambda: stand.state() in {"degraded", "lost"}, 3, "trouble")
            box.until_lost(stand.stream, 3)
            lost_s = time.monotonic() - began
            time.sleep(3.0 - lost_s)
            relay.mend()
            back_s = box.until_streaming(stand.stream, 10)
            time.sleep(1.0)
            box.ask("stop")
            account = box.verify()["one"]
    print(f"\n| opm, tcp | vanishes without FIN | {trouble_s:.2f} | {lost_s:.2f} | {back_s:.2f} |")
    assert trouble_s < TROUBLE_S
    assert LOST_S < lost_s + 0.1 < LOST_S + SEEN_S + 0.1
    assert back_s < BACK_S
    (gap,) = account[stand.stream]["gaps"]
    assert (gap["basis"], gap["plus_minus"]) == ("device_index", 0)
    assert account[STEADY]["gap_samples"] == 0


@pytest.mark.timeout(90)
def test_a_device_in_standby_is_connected_not_lost(tmp_path: Path) -> None:
    with box_in(tmp_path) as box:
        stand = Stand(box, KINDS["accel_hat, udp"])
        stand.start()
        operation = {"address": 10, "size": 1, "force": True}
        box.ask("command", device="dut", command="write_register", arguments={**operation, "value": 0})  # fmt: skip
        box.until(lambda: box.worker("acquire:dut")["reason"] == "standby", 5, "standby")
        until = time.monotonic() + 4.0
        while time.monotonic() < until:
            worker = box.worker("acquire:dut")
            assert (worker["link"], worker["reason"]) == ("degraded", "standby")
            time.sleep(0.05)
        assert worker["since_ms"] > 3000
        box.ask("command", device="dut", command="write_register", arguments={**operation, "value": 1})  # fmt: skip
        box.until(lambda: stand.state() == "streaming", 5, "samples")
        box.signal("dut", signal.SIGUSR1)
        box.until_lost(stand.stream, 5)
