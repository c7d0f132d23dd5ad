"""Sessions at the supervisor where others do not answer: a person is told, and nothing is taken for done."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from brainforge_edge.core import ipc
from brainforge_edge.core.config import DeviceConfig, EdgeConfig, NodeConfig
from brainforge_edge.core.errors import BrainforgeError
from brainforge_edge.daemon import sessions as sessions_module
from brainforge_edge.daemon.child import Child
from brainforge_edge.daemon.commands import Commands
from brainforge_edge.daemon.scope import Scope
from brainforge_edge.daemon.supervisor import Supervisor

NAME = "ses-1"
Act = Callable[[Supervisor], Awaitable[object]]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ipc.Message]]:
    """What is said to workers, none of which runs; who is asked waits for nobody."""
    said: list[tuple[str, ipc.Message]] = []

    async def keep(child: Child, message: ipc.Message) -> bool:
        said.append((child.name, message))
        return False

    monkeypatch.setattr(Child, "send", keep)
    for name in ("AGENT_S", "SAVE_S"):
        monkeypatch.setattr(sessions_module, name, 0.0)
    return said


def act(root: Path, do: Act) -> Any:
    async def done() -> object:
        supervisor = Supervisor(
            EdgeConfig(
                node=NodeConfig(id="box", root=str(root), run=str(root / "run")),
                device=(DeviceConfig(name="hat", kind="openbci"),),
            )
        )
        supervisor._paths.close()
        return await do(supervisor)

    return asyncio.run(done())


def refused(root: Path, do: Act) -> str:
    with pytest.raises(BrainforgeError) as error:
        act(root, do)
    return error.value.code


def test_an_agent_that_is_not_there_is_told_of_and_feedback_ends_all_the_same(
    tmp_path: Path, told: list[tuple[str, ipc.Message]]
) -> None:
    code = refused(tmp_path, lambda s: s.sessions.verb({"do": "emergency_stop", "by": "nurse"}))
    assert code == "storage.agent_down"
    assert ("pipeline", ipc.FeedbackFrom(t_ns=None)) in told


def test_a_device_that_does_not_close_is_named(
    tmp_path: Path, told: list[tuple[str, ipc.Message]]
) -> None:
    async def close(supervisor: Supervisor) -> None:
        await supervisor.sessions.heard(ipc.RecorderAsk(recording=NAME, wants="close"))

    act(tmp_path, close)
    did = [message for _, message in told if isinstance(message, ipc.RecorderDid)]
    assert [(each.wanted, each.error and each.error["code"]) for each in did] == [
        ("close", "storage.not_saved")
    ]
    assert "hat: down" in str(did[0].error)


def test_a_recording_that_was_closed_under_a_session_is_told_of_once(
    tmp_path: Path, told: list[tuple[str, ipc.Message]]
) -> None:
    async def lose(supervisor: Supervisor) -> None:
        supervisor.recordings.current = NAME
        supervisor.recordings.scope = Scope({"hat": "p1"}, 0)
        await supervisor.sessions.look()
        supervisor.recordings.current, supervisor.recordings.scope = "", None
        for _ in range(2):
            await supervisor.sessions.look()

    act(tmp_path, lose)
    did = [message for _, message in told if isinstance(message, ipc.RecorderDid)]
    assert [(each.recording, each.wanted, each.error and each.error["code"]) for each in did] == [
        (NAME, "lost", "session.recording_lost")
    ]


@pytest.mark.parametrize("verb", ["_record", "_stop_recording"])
def test_a_recording_of_a_session_is_not_a_persons_to_open_or_close(
    tmp_path: Path, told: list[tuple[str, ipc.Message]], verb: str
) -> None:
    async def ask(supervisor: Supervisor) -> None:
        supervisor.recordings.current = NAME
        supervisor.recordings.scope = Scope({"hat": "p1"}, 0)
        await getattr(supervisor, verb)({})

    assert refused(tmp_path, ask) == "session.session_goes_on"
    assert told == []


@pytest.mark.parametrize("request_", [{}, {"do": 5}, {"do": "start", "duration": 2**70}])
def test_what_cannot_be_passed_on_is_refused(
    tmp_path: Path, told: list[tuple[str, ipc.Message]], request_: dict[str, Any]
) -> None:
    assert refused(tmp_path, lambda s: s.sessions.verb(request_)) == "config.bad_argument"
    assert told == []


def test_a_worker_is_told_whose_rows_it_records_and_from_when(
    tmp_path: Path, told: list[tuple[str, ipc.Message]]
) -> None:
    """Also one that starts anew; a device that is not worn is told nothing."""

    async def start(supervisor: Supervisor) -> tuple[ipc.Start, ipc.Start, ipc.Start]:
        supervisor.recordings.current = NAME
        supervisor.recordings.scope = Scope({"hat": "p1"}, 77)
        hat, other = (supervisor._start(f"acquire:{name}") for name in ("hat", "cap"))
        await supervisor.sessions.heard(
            ipc.RecorderAsk(recording=NAME, wants="let_go", devices={"hat": "p1"})
        )
        return hat, other, supervisor._start("acquire:hat")

    hat, other, gone = act(tmp_path, start)
    assert (hat.open_recording, hat.participant, hat.since_ns) == (NAME, "p1", 77)
    assert (other.open_recording, other.participant) == ("", "")
    assert told == [("acquire:hat", ipc.CloseRecording(recording=NAME))]
    # It was down: what it has of the recording is still to be brought to the disk, under its participant.
    assert (gone.open_recording, gone.participant) == (NAME, "p1")
    assert (hat.until_ns is None, gone.until_ns is not None) == (True, True)


def test_who_withdraws_while_the_session_is_saved_does_not_hold_it_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device answers once, and both who asked it to close have their answer; that it had opened is none."""
    asked: asyncio.Queue[ipc.Message] = asyncio.Queue()

    async def keep(child: Child, message: ipc.Message) -> bool:
        if child.name != "acquire:hat":
            return False
        asked.put_nowait(message)
        return True

    monkeypatch.setattr(Child, "send", keep)
    monkeypatch.setattr(Child, "pid", 1)

    async def close(supervisor: Supervisor) -> tuple[dict[str, str], dict[str, str]]:
        supervisor.recordings.current = NAME
        supervisor.recordings.scope = Scope({"hat": "p1"}, 0)
        ending = asyncio.create_task(supervisor.recordings.end(NAME))
        going = asyncio.create_task(supervisor.recordings.let_go(NAME, ("hat",)))
        assert await asked.get() == await asked.get() == ipc.CloseRecording(recording=NAME)
        (hat,) = (child for child in supervisor.acquirers if child.name == "acquire:hat")
        for is_open in (True, False):
            said = ipc.RecordingState(recording=NAME, is_open=is_open)
            await supervisor.recordings.heard(hat, said)
        return await asyncio.wait_for(ending, 30), await asyncio.wait_for(going, 30)

    assert act(tmp_path, close) == ({"hat": "closed"}, {"hat": "closed"})


@pytest.mark.parametrize("do", ["", "stop", "hand_over"])
def test_a_persons_recording_adopts_nothing_of_a_session_or_of_before_a_hand_over(
    tmp_path: Path, told: list[tuple[str, ipc.Message]], monkeypatch: pytest.MonkeyPatch, do: str
) -> None:
    async def answer(*_: object) -> ipc.CommandDone:
        return ipc.CommandDone(token=1, values={"state": "idle"})

    monkeypatch.setattr(Commands, "ask", answer)
    wanted_s = 1e-3  # the box itself runs for longer

    async def adopt(supervisor: Supervisor) -> tuple[float, float, float]:
        before_s = supervisor.sessions.adopted_s(wanted_s)
        began_s = time.monotonic()
        if do:
            supervisor.agent.ready = True
            await supervisor.sessions.verb({"do": do, "by": "nurse"})
        else:
            supervisor.recordings.scope = Scope({"hat": "p1"}, 0)
            await supervisor.sessions.look()
            supervisor.recordings.scope = None
        adopted_s = supervisor.sessions.adopted_s(1e6)
        return before_s, adopted_s, time.monotonic() - began_s

    before_s, adopted_s, passed_s = act(tmp_path, adopt)
    assert before_s == wanted_s
    assert 0 <= adopted_s <= passed_s
