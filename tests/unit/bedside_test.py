"""A session at the agent by hand: what it asks of recorder, feedback and devices, and what an answer or none leads to."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from brainforge_edge.core import ipc
from brainforge_edge.core.config import (
    DeviceConfig,
    EdgeConfig,
    NodeConfig,
    RecordingConfig,
    UplinkConfig,
)
from brainforge_edge.fleet.bedside import Bedside
from brainforge_edge.sessions.machine import State
from tests.unit.recorder_faulty_disk import UnsyncedDisk
from tests.unit.session_material import HandClock, S
from tests.unit.session_store_material import RANDOM

Said = TypeVar("Said", bound=ipc.Message)

WORN = {"hat": "p1", "cap": "p2"}
THERE = dict.fromkeys(WORN, "streaming")
PLAN = """
name = "plan"
title = { key = "t", text = "Plan" }
[[phase]]
name = "one"
duration_s = 100
timescale_s = 4
instruction = { key = "t.one", text = "One." }
"""


class Stand:
    """An agent's sessions, and what they said; `again` is the next process of it."""

    def __init__(self, root: Path, clock: HandClock, *, preroll_s: float = 0.0) -> None:
        self.root = root
        self.clock = clock
        self.preroll_s = preroll_s
        self.said: list[ipc.Message] = []
        self.links = dict(THERE)
        self.unrecorded: tuple[str, ...] = ()
        self.bedside = Bedside(
            EdgeConfig(
                node=NodeConfig(id="box", root=str(root)),
                recording=RecordingConfig(preroll_s=preroll_s),
                uplink=UplinkConfig(enabled=False),
                device=tuple(DeviceConfig(name=name, kind="openbci") for name in WORN),
            ),
            clock=clock,
            random=RANDOM.randbytes,
            boot_id="boot-1",
            disk=UnsyncedDisk(),
            send=self.said.append,
        )
        folder = root / "protocols"
        folder.mkdir(exist_ok=True)
        (folder / "plan.toml").write_text(PLAN, encoding="utf-8")

    def again(self) -> "Stand":
        self.bedside.close()
        return Stand(self.root, self.clock, preroll_s=self.preroll_s)

    def state(self) -> State:
        return self.bedside.store.bedside.state

    def do(self, do: str, **given: Any) -> Any:
        """The answer, or the code of the refusal."""
        arguments = {"do": do, "given": {"by": "nurse", **given}}
        self.bedside.command(ipc.Command(token=1, name="session", arguments=arguments))
        done = self.heard(ipc.CommandDone)[-1]
        return done.values if done.error is None else done.error["code"]

    def heard(self, kind: type[Said]) -> list[Said]:
        return [each for each in self.said if type(each) is kind]

    def asked(self) -> list[str]:
        return [each.wants for each in self.heard(ipc.RecorderAsk)]

    def watch(self, *, is_safe: bool = True) -> ipc.Watch:
        return ipc.Watch(
            t_ns=self.clock.now_ns, is_safe=is_safe, links=dict(self.links),
            unrecorded=self.unrecorded,
            free_bytes=10**12, disk_refuses=False,
        )  # fmt: skip

    def goes_on(self, seconds: int = 1) -> None:
        for _ in range(seconds):
            self.bedside.watch(self.watch())
            self.bedside.advance()
            self.clock.sleep(1)

    def begin(self, **changes: Any) -> Any:
        return self.do("start", **{"protocol": "plan", "devices": WORN, **changes})

    def records(self, **changes: Any) -> str:
        """A session that records; the name of its recording."""
        for who in WORN.values():
            self.do("consent", participant=who)
        self.goes_on()
        begun = self.begin(**changes)
        assert begun["state"] == "connecting", begun
        name = str(begun["session"]["recording"])
        self.goes_on(6)
        assert self.state() is State.RECORDING
        self.did("open")
        return name

    def did(self, wanted: str, error: dict[str, Any] | None = None) -> None:
        session = self.bedside.store.bedside.session
        assert session is not None
        self.bedside.did(ipc.RecorderDid(recording=session.recording, wanted=wanted, error=error))

    def saved(self) -> None:
        """The recorder closed it, and the account was read."""
        self.did("close")
        self.bedside._course.stop()
        self.bedside.advance()


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    made = Stand(tmp_path, HandClock())
    yield made
    made.bedside.close()


def failure() -> dict[str, Any]:
    return {
        "code": "storage.full", "what": "no", "why": "full", "remedy": "Make room",
        "transient": True, "facts": {},
    }  # fmt: skip


def test_devices_that_do_not_come_are_named_and_nothing_is_recorded(stand: Stand) -> None:
    for who in WORN.values():
        stand.do("consent", participant=who)
    stand.links["cap"] = "searching"
    stand.goes_on()
    stand.begin()
    stand.goes_on(61)
    assert stand.state() is State.CONNECTING
    stand.goes_on(3)
    assert stand.state() is State.FAILED
    assert stand.asked() == []
    last = stand.do("status")["last"]
    assert last["outcome"] == "devices_missing"
    assert last["summary"]["lost"] == [f"{name}: nothing was recorded" for name in WORN]


def test_a_device_that_went_away_just_before_the_start_is_waited_for(stand: Stand) -> None:
    """What the monitor saw before the start is of before."""
    for who in WORN.values():
        stand.do("consent", participant=who)
    stand.goes_on()
    stand.links["cap"] = "lost"
    assert stand.begin()["state"] == "connecting"
    assert stand.state() is State.CONNECTING
    stand.goes_on(2)
    assert stand.state() is State.CONNECTING
    stand.links["cap"] = "streaming"
    stand.goes_on(2)
    assert stand.state() is State.FLUSHING


def test_a_device_that_goes_away_degrades_the_session_until_it_is_back(stand: Stand) -> None:
    stand.records()
    stand.links["hat"] = "lost"
    stand.goes_on()
    shown = stand.do("status")
    assert (shown["is_degraded"], shown["lost_devices"]) == (True, ["hat"])
    assert shown["is_recording"]
    stand.links["hat"] = "degraded"
    stand.goes_on()
    assert stand.do("status")["is_degraded"] is False


def test_a_device_whose_recorder_cannot_write_degrades_the_session_and_none_left_is_no_recording(
    stand: Stand,
) -> None:
    """What it could not open before this session does not keep it from coming."""
    stand.unrecorded = ("cap",)
    for who in WORN.values():
        stand.do("consent", participant=who)
    stand.goes_on()
    stand.begin()
    stand.goes_on()
    assert stand.state() is State.FLUSHING
    stand.goes_on(6)
    stand.did("open")
    shown = stand.do("status")
    assert (shown["lost_devices"], shown["is_degraded"], shown["is_recording"]) == (
        ["cap"], True, True,
    )  # fmt: skip
    stand.links["hat"] = "lost"
    stand.goes_on()
    shown = stand.do("status")
    assert (shown["lost_devices"], shown["is_recording"]) == (["cap", "hat"], False)
    stand.unrecorded = ()
    stand.goes_on()
    shown = stand.do("status")
    assert (shown["lost_devices"], shown["is_recording"]) == (["hat"], True)


def test_a_process_that_starts_anew_asks_again_and_goes_on_without_who_is_missing(
    stand: Stand,
) -> None:
    name = stand.records()
    assert stand.asked() == ["open"]
    stand = stand.again()
    state = ipc.RecordingState(recording=name, is_open=True)
    scoped = stand.bedside.scoped(state)
    assert scoped.worn == WORN
    assert scoped.since_ns < stand.clock.now_ns
    assert stand.bedside.scoped(ipc.RecordingState(recording="other", is_open=True)).worn is None
    stand.bedside.advance()
    assert stand.state() is State.CONNECTING
    stand.links["cap"] = "down"
    stand.goes_on(9)
    assert stand.state() is State.CONNECTING
    stand.goes_on(9)
    assert stand.state() is State.RECORDING
    assert stand.asked() == ["open"]
    assert not stand.do("status")["is_recording"]  # the recorder has not said so yet
    stand.did("open")
    shown = stand.do("status")
    assert (shown["is_recording"], shown["lost_devices"]) == (True, ["cap"])
    assert shown["unsupervised_s"] >= 0


@pytest.mark.parametrize(("seconds", "adopted"), [(2, 3), (300, 60)])
def test_a_recording_adopts_rows_of_the_unbroken_lease_alone(
    tmp_path: Path, seconds: int, adopted: int
) -> None:
    stand = Stand(tmp_path, HandClock(), preroll_s=60.0)
    stand.clock.sleep(100)
    stand.bedside.watch(stand.watch())
    began_ns = stand.clock.now_ns
    stand.goes_on(seconds)
    stand.records(mode="record")
    (ask,) = stand.heard(ipc.RecorderAsk)
    assert ask.devices == WORN
    running_ns = stand.bedside.store.bedside.running_ns
    assert running_ns is not None
    assert ask.since_ns == max(began_ns, running_ns - 60 * S)
    assert (running_ns - ask.since_ns) // S >= adopted
    stand.bedside.close()


def test_a_recording_adopts_nothing_of_who_was_there_before_the_hand_over(tmp_path: Path) -> None:
    stand = Stand(tmp_path, HandClock(), preroll_s=60.0)
    stand.goes_on(300)
    handed_ns = stand.clock.now_ns
    stand.do("hand_over")
    stand.records()
    (ask,) = stand.heard(ipc.RecorderAsk)
    assert ask.since_ns == handed_ns
    stand.bedside.close()


def test_feedback_begins_with_the_session_and_ends_with_it(stand: Stand) -> None:
    for who in WORN.values():
        stand.do("consent", participant=who)
    stand.goes_on()
    stand.begin(mode="feedback")
    stand.goes_on(2)
    (from_ns,) = [each.t_ns for each in stand.heard(ipc.FeedbackFrom)]
    assert from_ns is not None
    assert stand.state() is State.FLUSHING
    stand.goes_on(4)
    assert stand.state() is State.RECORDING
    assert stand.clock.now_ns - from_ns >= 4 * S  # the longest window of the protocol
    assert stand.do("status")["is_recording"] is False
    stand.do("stop")
    assert stand.state() is State.IDLE
    assert stand.asked() == []
    assert [each.t_ns for each in stand.heard(ipc.FeedbackFrom)] == [from_ns, None]


def test_devices_of_who_withdraws_are_let_go_before_anything_is_written(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = stand.records()
    agreed: list[bool] = []

    def keep(message: ipc.Message) -> None:
        if isinstance(message, ipc.RecorderAsk):
            said = stand.bedside.participants.consent("p2")
            agreed.append(said is not None and said.is_granted)
        stand.said.append(message)

    monkeypatch.setattr(stand.bedside, "_send", keep)
    parted = stand.do("withdraw", participant="p2")
    assert (parted["stopped"], parted["going_on"]) == (["cap"], ["hat"])
    assert agreed == [True]
    ask = stand.heard(ipc.RecorderAsk)[-1]
    assert (ask.recording, ask.wants, ask.devices) == (name, "let_go", {"cap": "p2"})
    assert stand.state() is State.RECORDING
    stand.do("withdraw", participant="p1")
    assert stand.state() is State.SAVING
    assert stand.asked() == ["open", "let_go", "let_go", "close"]


def test_an_agent_that_was_late_has_not_lost_the_monitor(stand: Stand) -> None:
    stand.records()
    waited = []
    for _ in range(20):
        waited.append(stand.watch())
        stand.clock.sleep(1)
    for watch in waited:
        stand.bedside.watch(watch)
    stand.bedside.advance()
    assert stand.state() is State.RECORDING
    assert stand.do("status")["is_watched"]


@pytest.mark.parametrize("is_heard", [True, False])
def test_a_monitor_that_does_not_see_all_ends_the_session_and_it_is_saved(
    stand: Stand, *, is_heard: bool
) -> None:
    stand.records()
    for _ in range(4):
        if is_heard:
            stand.bedside.watch(stand.watch(is_safe=False))
        stand.clock.sleep(1)
    stand.bedside.advance()
    assert stand.state() is State.SAVING
    assert stand.asked() == ["open", "close"]
    stand.saved()
    assert stand.state() is State.FAILED
    assert stand.do("status")["last"]["outcome"] == "monitor_lapsed"


def test_a_recorder_that_fails_ends_the_session(stand: Stand) -> None:
    stand.records()
    stand.did("lost", failure())
    assert stand.state() is State.SAVING
    stand.bedside.advance()
    assert stand.asked() == ["open", "close"]
    stand.saved()
    assert stand.state() is State.FAILED


def test_what_could_not_be_saved_is_saved_when_it_is_asked_for_again(stand: Stand) -> None:
    stand.records()
    stand.do("stop")
    stand.did("close", failure())
    assert stand.state() is State.FAILED
    assert stand.begin() == "session.not_acknowledged"
    assert stand.do("save_again")["state"] == "saving"
    assert stand.asked() == ["open", "close", "close"]
    stand.saved()
    assert stand.state() is State.IDLE
    assert stand.do("summary")["summary"]["outcome"] == "stop_asked"
    assert stand.do("summary", session="none") == "session.unknown_session"


def test_no_other_recording_is_opened_while_a_session_goes_on(stand: Stand) -> None:
    plain = ipc.OpenRecording(recording="plain", preroll_s=0.0)
    assert stand.bedside.refuse_plain(plain) is None
    name = stand.records()
    refused = stand.bedside.refuse_plain(plain)
    assert refused is not None
    assert refused.code == "session.session_goes_on"
    own = ipc.OpenRecording(recording=name, preroll_s=0.0)
    assert stand.bedside.refuse_plain(own) is None


@pytest.mark.parametrize(
    "act",
    [
        lambda stand: stand.do("status", colour="red"),
        lambda stand: stand.do("start", protocol="plan", devices={"hat": 5}),
        lambda stand: stand.do("start", protocol="plan", devices=WORN, mode=None),
        lambda stand: stand.do("dance"),
        lambda stand: stand.do("consent", participant=["p1"]),
    ],
)
def test_a_malformed_request_is_refused_and_changes_nothing(
    stand: Stand, act: Callable[[Stand], Any]
) -> None:
    before = stand.do("status")
    assert act(stand) == "config.bad_argument"
    assert stand.do("status") == before


def test_every_protocol_is_listed_and_a_wrong_one_says_why(stand: Stand) -> None:
    (stand.root / "protocols" / "bad.toml").write_text("phase = 3", encoding="utf-8")
    listed = {each["name"]: each for each in stand.do("protocols")["protocols"]}
    assert set(listed) == {"bad", "eyes-open-closed", "meditation", "p300", "plan"}
    assert listed["bad"]["error"]["code"] == "config.bad_protocol"
    assert listed["plan"]["title"] == {"key": "t", "text": "Plan"}
