"""A running box under attack: cables, workers and daemon end at bad moments; then the account."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.faults.box import Box, box_in, cli, n_rows, spans

HELMET = "helmet-mag"
CYTON = "cyton-eeg"


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """Two devices that are configured; nothing runs yet."""
    with box_in(tmp_path) as made:
        made.device("helmet", "opm")
        made.device("cyton", "openbci")
        made.write_config()
        yield made


def up(box: Box, *, auto: bool = False) -> None:
    if auto:
        box.write_config(recording="auto_record = true")
    box.emulate("helmet", "opm")
    box.emulate("cyton", "cyton")
    box.start()
    for stream_id in (HELMET, CYTON):
        box.until_streaming(stream_id, 20)


def record(box: Box, name: str) -> None:
    assert cli("record", "--name", name, "--config", box.config).returncode == 0


def stop(box: Box) -> dict[str, Any]:
    result = cli("stop", "--json", "--config", box.config)
    assert result.returncode == 0, result.stdout
    reply: dict[str, Any] = json.loads(result.stdout)
    return reply


def is_done(box: Box, recording: str) -> bool:
    """No journal is left, and live readers see what comes in."""
    figures = box.stream(HELMET)
    is_idle = not figures["recorded"] and figures["head"] - figures["written"] < 100
    return is_idle and not list((box.recordings / recording).glob("*.journal"))


def whole(stream: dict[str, Any]) -> None:
    """No hole without a name, nothing twice, all of it in segments."""
    assert stream["clean"], stream
    assert not stream["missing"]
    assert not stream["duplicates"]
    assert not stream["in_journal"]


def check_helmet_to_the_end(box: Box, *recordings: str) -> None:
    """Every sample from the first recorded one to the last emitted one is a row or in a named gap.

    Call when the device has ended and the recording is stopped.
    """
    account = box.verify()
    streams = [account[name][HELMET] for name in recordings]
    for stream in streams:
        whole(stream)
    first = min(s[1] for stream in streams for s in spans(stream))
    rows = sum(stream["rows"] for stream in streams)
    gaps = sum(stream["gap_samples"] for stream in streams)
    assert first + rows + gaps == box.ledger("helmet")["emitted"]


def test_a_cable_that_is_pulled_again_and_again(box: Box) -> None:
    up(box)
    record(box, "cable")
    for _ in range(3):
        for name, stream_id in (("helmet", HELMET), ("cyton", CYTON)):
            box.signal(name, signal.SIGUSR1)
            assert box.until_lost(stream_id, 5) < 2.0
        time.sleep(0.3)
        for name in ("helmet", "cyton"):
            box.signal(name, signal.SIGUSR2)
        for stream_id in (HELMET, CYTON):
            box.until_streaming(stream_id, 5)
    box.quiet(HELMET)
    box.quiet(CYTON)
    stop(box)
    check_helmet_to_the_end(box, "cable")
    account = box.verify()["cable"]
    whole(account[CYTON])
    assert {gap["basis"] for gap in account[HELMET]["gaps"]} == {"device_index"}
    assert 1 <= len(account[HELMET]["gaps"]) <= 3


def test_a_recording_that_waits_for_its_device_begins_with_the_first_row(box: Box) -> None:
    box.start()
    box.until(lambda: box.worker("acquire:helmet").get("state") == "running", 20, "the worker")
    record(box, "early")
    box.emulate("helmet", "opm")
    box.until(lambda: box.stream(HELMET).get("recorded", 0) > 500, 20, "recorded rows")
    head = box.quiet(HELMET)
    stop(box)
    stream = box.verify()["early"][HELMET]
    whole(stream)
    assert stream["rows"] == head


def sent(box: Box) -> int:
    """Live blocks of the helmet; 0 while the pipeline takes up a new layout."""
    return int(box.status()["pipeline"].get("streams", {}).get(HELMET, {}).get("sent", 0))


def test_another_layout_after_a_reconnect_goes_on_in_the_recording(box: Box) -> None:
    up(box)
    record(box, "layout")
    time.sleep(0.5)
    before = box.quiet(HELMET)
    box.emulate("helmet", "opm", channels=12)
    box.until(lambda: box.stream(HELMET).get("n_channels") == 12, 15, "the other layout")
    box.until(lambda: box.stream(HELMET).get("recorded", 0) > 500, 15, "rows of it on the disk")
    live = sent(box)
    box.until(lambda: sent(box) > live, 10, "live values of it")
    after = box.quiet(HELMET)
    stop(box)
    stream = box.verify()["layout"][HELMET]
    whole(stream)
    first = spans(stream)[0][1]
    assert stream["rows"] == (before - first) + after


def test_quick_recordings_hold_no_row_twice(box: Box) -> None:
    up(box)
    for name in ("a", "b", "c"):
        record(box, name)
        assert set(stop(box)["devices"].values()) == {"closed"}
    account = box.verify()
    found = sorted(s for name in account for s in spans(account[name].get(HELMET, {"spans": []})))
    assert found
    for (inc, _, end), (next_inc, first, _) in pairwise(found):
        assert (inc, end) <= (next_inc, first)
    for recording in account.values():
        for stream_id in {HELMET, CYTON} & set(recording):
            whole(recording[stream_id])
    assert box.stream(HELMET)["head"] - box.stream(HELMET)["written"] < 100


def test_stop_while_a_worker_is_down_keeps_what_it_had(box: Box) -> None:
    up(box)
    record(box, "down")
    box.until(lambda: box.stream(HELMET)["recorded"] > 500, 10, "recorded rows")
    os.kill(box.worker("acquire:helmet")["pid"], signal.SIGKILL)
    recorded = box.stream(HELMET).get("recorded") or 500
    stop(box)
    box.until(lambda: box.is_streaming(HELMET), 20, "the worker again")
    account = box.verify
    box.until(lambda: is_done(box, "down"), 20, "the end of what the worker had")
    whole(account()["down"][HELMET])
    assert account()["down"][HELMET]["rows"] >= recorded
    figures = box.stream(HELMET)
    assert figures["head"] - figures["written"] < 100, "live readers must go on"
    assert box.status()["recording"] is None
    record(box, "next")
    box.until(lambda: box.stream(HELMET)["recorded"] > 100, 10, "recorded rows")
    stop(box)
    whole(account()["next"][HELMET])


def test_a_device_that_goes_while_the_recording_stops(box: Box) -> None:
    up(box)
    record(box, "going")
    time.sleep(0.5)
    pull = threading.Timer(0.05, lambda: box.signal("helmet", signal.SIGUSR1))
    pull.start()
    assert set(stop(box)["devices"].values()) == {"closed"}
    pull.join()
    whole(box.verify()["going"][HELMET])


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_the_daemon_ends_and_the_recording_is_resumed(how: signal.Signals, box: Box) -> None:
    up(box)
    record(box, "resumed")
    box.until(lambda: box.stream(HELMET)["recorded"] > 500, 10, "recorded rows")
    assert box.daemon is not None
    box.daemon.process.send_signal(how)
    assert box.daemon.wait(30.0)
    box.children.release([box.daemon])
    started = time.monotonic()
    box.start()
    box.until_streaming(HELMET, 15)
    box.until(lambda: box.stream(HELMET).get("recorded", 0) > 100, 15, "recorded rows again")
    assert time.monotonic() - started < 10.0
    assert box.status()["recording"] == "resumed"
    box.quiet(HELMET)
    stop(box)
    check_helmet_to_the_end(box, "resumed")


@pytest.mark.long
def test_a_worker_that_says_nothing_is_replaced_alone(box: Box) -> None:
    up(box)
    record(box, "silent")
    others = {w["name"]: w["pid"] for w in box.status()["workers"]}
    pid = others.pop("acquire:helmet")
    os.kill(pid, signal.SIGSTOP)
    box.until(lambda: box.worker("acquire:helmet").get("pid") not in {pid, None}, 20, "another")
    box.until(lambda: box.is_streaming(HELMET), 10, "samples again")
    assert {w["name"]: w["pid"] for w in box.status()["workers"] if w["name"] in others} == others
    box.quiet(HELMET)
    stop(box)
    check_helmet_to_the_end(box, "silent")


@pytest.mark.long
def test_a_stalled_supervisor_does_not_kill_its_workers_when_it_goes_on(box: Box) -> None:
    up(box)
    record(box, "stalled")
    pids = {w["name"]: w["pid"] for w in box.status()["workers"]}
    assert box.daemon is not None
    box.daemon.process.send_signal(signal.SIGSTOP)
    time.sleep(10.0)
    box.daemon.process.send_signal(signal.SIGCONT)
    time.sleep(2.5)
    assert {w["name"]: w["pid"] for w in box.status()["workers"]} == pids
    box.quiet(HELMET)
    stop(box)
    check_helmet_to_the_end(box, "stalled")
    assert box.verify()["stalled"][HELMET]["gap_samples"] == 0


@pytest.mark.long
def test_a_cut_loses_no_row_between_two_recordings(box: Box) -> None:
    box.write_config(recording="auto_record = true\ncut_s = 10.0")
    up_at = time.monotonic()
    box.emulate("helmet", "opm")
    box.start()
    box.until(lambda: len(list(box.recordings.glob("rec-*/recording.json"))) >= 3, 40, "two cuts")
    assert time.monotonic() - up_at > 15.0
    time.sleep(1.0)
    head = box.quiet(HELMET)
    stop(box)
    account = box.verify()
    for recording in account.values():
        whole(recording[HELMET])
    assert n_rows(account, HELMET) == head
    found = sorted(s for recording in account.values() for s in spans(recording[HELMET]))
    assert all(a[2] == b[1] for a, b in pairwise(found))
