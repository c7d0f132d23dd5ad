"""Bedside sessions on a box whose parts are killed: what was recorded stays, and the session goes on or says why not."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from brainforge_edge.recorder.catalog import read_recording, stream_descriptor
from brainforge_edge.storage.files import SystemDisk
from tests.faults.box import check_refusal, cli
from tests.faults.sessionbox import MOST_S, PLAN, WORN, SessionBox, ready, session_box

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

LONG = ("rest", 3600.0)  # such a session ends when it is told to
CAPS = tuple(f"{name}-eeg" for name in WORN)
SESSION = 15


def recorded(box: SessionBox) -> dict[str, Any]:
    """The account of the one recording there is."""
    (account,) = box.verify().values()
    return account


def durable(box: SessionBox) -> dict[str, int]:
    """How many rows of each cap are recorded and on the disk now, at least."""
    streams = box.status()["streams"]
    return {
        each["stream_id"]: each.get("recorded", 0) for each in streams if each["stream_id"] in CAPS
    }


def labels(box: SessionBox, recording: str) -> dict[str, str]:
    """The participant under whom each cap was recorded."""
    disk = SystemDisk()
    streams = read_recording(box.recordings / recording, disk).streams
    found = {cap: stream_descriptor(streams[cap], disk) for cap in CAPS}
    return {cap: each.identity.participant for cap, each in found.items() if each is not None}


def until_more(box: SessionBox, stream_id: str, n: int = 100, *, than: int | None = None) -> None:
    """So many more rows of it are on the disk than now, or than there were."""
    before = box.rows(stream_id) if than is None else than
    box.until(lambda: box.rows(stream_id) >= before + n, MOST_S, f"more rows of {stream_id}")


def ended(box: SessionBox) -> dict[str, Any]:
    """The summary of a session that is over without a fault."""
    last = box.until_state("idle")["last"]
    assert last["summary"] is not None
    return {"outcome": last["outcome"], **last["summary"]}


def test_what_may_not_be_is_refused_by_name_and_changes_nothing(tmp_path: Path) -> None:
    """And an emergency stop latches, whoever asks for the next session."""
    with session_box(tmp_path, LONG) as box:
        untouched = box.now()
        wish: dict[str, Any] = {"protocol": PLAN, "devices": WORN}
        for code, change in (
            ("session.no_consent", {"devices": {"one": "p-nobody"}}),
            ("session.unknown_device", {"devices": {"three": "p-one"}}),
            ("session.no_devices", {"devices": {}}),
            ("session.bad_duration", {"duration": 0}),
            ("session.bad_duration", {"duration": -5}),
            ("session.bad_duration", {"duration": 10**12}),
            ("session.bad_duration", {"duration": "long"}),
            ("session.bad_mode", {"mode": "loud"}),
            ("session.unknown_protocol", {"protocol": "none"}),
            ("session.bad_participant", {"devices": {"one": "Ann Smith"}}),
            ("session.bad_person", {"by": " "}),
            ("config.bad_argument", {"devices": ["one"]}),
            ("config.bad_argument", {"devices": {"one": 7}}),
            ("config.bad_argument", {"colour": "red"}),
            ("config.bad_argument", {"protocol": None}),
        ):
            assert box.refused("start", **(wish | change)) == code, change
        for do in ("stop", "acknowledge", "save_again"):
            assert box.refused(do) == "session.not_running"
        assert box.refused("release") == "session.not_latched"
        assert box.refused("dance") == "config.bad_argument"
        assert {**box.now(), "left_s": 0.0} == {**untouched, "left_s": 0.0}
        box.ask("record", name="plain")
        assert box.refused("start", **wish) == "session.recording_open"
        box.ask("stop")
        session_id = box.begin()["session_id"]
        box.until_recording()
        assert box.refused("start", **wish) == "session.already_running"
        assert box.refused("hand_over") == "session.still_running"
        check_refusal(cli("record", "--run", box.run), SESSION, "a session is going on")
        check_refusal(cli("stop", "--run", box.run), SESSION, "a session is going on")
        assert box.now()["session_id"] == session_id
        until_more(box, CAPS[0])
        assert box.session("emergency_stop", by="doctor")["emergency_stop"]
        failed = box.until_state("failed")
        assert failed["ended_by"] == failed["last"]["outcome"] == "emergency_stop"
        assert box.refused("start", **wish) == "session.not_acknowledged"
        box.session("acknowledge")
        assert box.refused("start", **wish) == "session.emergency_stop"
        assert box.session("release")["latch"] is None
        assert box.session("look", **wish)["checks"][-1]["outcome"] == "passed"
        assert sorted(box.verify()) == ["plain", failed["session"]["recording"]]


def test_one_who_withdraws_stops_alone_and_the_wrong_one_is_corrected_afterwards(
    tmp_path: Path,
) -> None:
    with session_box(tmp_path, LONG) as box:
        box.begin()
        box.until_recording()
        for cap in CAPS:
            until_more(box, cap)
        safe = durable(box)["two-eeg"]
        parted = box.session("withdraw", participant="p-two")
        assert (parted["stopped"], parted["going_on"]) == (["two"], ["one"])
        box.until(
            lambda: not (box.worker("acquire:two").get("recording") or {}).get("name"),
            MOST_S,
            "the end of the cap of who withdrew",
        )
        until_more(box, "one-eeg", 250)
        assert box.now()["session"]["devices"] == {"one": "p-one"}
        assert box.now()["is_recording"]
        box.session("stop")
        summary = ended(box)
        assert summary["outcome"] == "stop_asked"
        ((recording, account),) = box.verify().items()
        assert labels(box, recording) == {"one-eeg": "p-one", "two-eeg": "p-two"}
        assert account["two-eeg"]["rows"] >= safe >= 100
        assert account["one-eeg"]["rows"] >= account["two-eeg"]["rows"] + 200
        assert box.refused("start", protocol=PLAN, devices=WORN) == "session.no_consent"
        said = cli(
            "session", "correct", box.now()["last"]["session_id"], "one", "p-three",
            "--reason", "the list was wrong", "--by", "nurse", "--run", box.run,
        )  # fmt: skip
        assert said.returncode == 0, said.stderr
        assert "recorded as p-one, noted as p-three" in said.stdout
        assert box.now()["seats"] == WORN
        assert box.session("hand_over")["seats"] == {}


@pytest.mark.parametrize("who", ["agent", "acquire:two", "supervisor"])
def test_a_session_goes_on_after_a_kill_in_a_phase_and_loses_no_recorded_row(
    tmp_path: Path, who: str
) -> None:
    with session_box(tmp_path, LONG) as box:
        session_id = box.begin()["session_id"]
        box.until_recording()
        for cap in CAPS:
            until_more(box, cap)
        safe, rows = durable(box), {cap: box.rows(cap) for cap in CAPS}
        if who == "supervisor":
            assert box.daemon is not None
            box.daemon.process.send_signal(signal.SIGKILL)
            assert box.daemon.wait(MOST_S)
            box.children.release([box.daemon])
            box.start()
            ready(box)
        else:
            os.kill(box.worker(who)["pid"], signal.SIGKILL)
            box.until(lambda: box.worker(who).get("restarts") == 1, MOST_S, f"the end of {who}")
        box.until_recording()
        for cap in CAPS:
            until_more(box, cap, than=rows[cap])
        assert box.now()["session_id"] == session_id
        assert box.now()["phase"]["name"] == "rest"
        box.session("stop")
        summary = ended(box)
        account = recorded(box)
    # A process of a device that ended is seen: its device is missing, and the session stays as it is.
    is_told = who != "acquire:two"
    assert (summary["outcome"], summary["restarts"]) == ("stop_asked", int(is_told))
    assert (summary["unsupervised_s"] > 0) == is_told
    for cap in CAPS:
        assert account[cap]["rows"] >= safe[cap] + 100
        assert not account[cap]["missing"]


def test_a_monitor_that_is_blind_ends_the_session_and_keeps_every_row(tmp_path: Path) -> None:
    """A process of a device that hangs is not seen; the one of the other cap records until the end."""
    with session_box(tmp_path, LONG) as box:
        box.begin()
        box.until_recording()
        for cap in CAPS:
            until_more(box, cap)
        safe = durable(box)
        os.kill(box.worker("acquire:two")["pid"], signal.SIGSTOP)
        failed = box.until_state("failed")
        assert failed["ended_by"] == "monitor_lapsed"
        assert not failed["is_recording"]
        shown = cli("session", "status", "--run", box.run)
        assert "session FAILED after monitor_lapsed" in shown.stdout
        box.session("acknowledge")
        account = recorded(box)
    for cap in CAPS:
        assert account[cap]["rows"] >= safe[cap]
