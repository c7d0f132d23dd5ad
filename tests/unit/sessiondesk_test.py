"""Without node.sqlite there are no sessions, and recordings go on; time passes only once what was said is heard."""

from pathlib import Path
from typing import Any, cast

import pytest

from brainforge_edge.core import ipc
from brainforge_edge.core.config import EdgeConfig, NodeConfig
from brainforge_edge.core.worker import WorkerChannel
from brainforge_edge.fleet.bedside import Bedside
from brainforge_edge.fleet.sessiondesk import SessionDesk
from brainforge_edge.storage.node import NODE_FILE

STATUS = ipc.Command(token=4, name="session", arguments={"do": "status", "given": {}})
PLAIN = ipc.OpenRecording(recording="night", preroll_s=0.0)


class Worker:
    """The agent's channel, as the desk needs it."""

    def __init__(self, root: Path) -> None:
        self.config = EdgeConfig(node=NodeConfig(id="box", root=str(root)))
        self.said: list[Any] = []
        self.has_message = False

    def send(self, message: ipc.Message) -> None:
        self.said.append(message)

    def desk(self) -> SessionDesk:
        return SessionDesk(cast("WorkerChannel", self))


def test_a_database_that_cannot_be_used_costs_sessions_alone(tmp_path: Path) -> None:
    (tmp_path / NODE_FILE).write_bytes(b"this is no database" * 500)
    worker = Worker(tmp_path)
    desk = worker.desk()
    assert [message.error["code"] for message in worker.said] == ["storage.sqlite"]
    assert (desk.handlers, desk.beat()) == ({}, {})
    opened: list[ipc.OpenRecording] = []
    desk.open(PLAIN, opened.append)
    assert opened == [PLAIN]
    state = ipc.RecordingState(recording="night", is_open=True)
    assert desk.scoped(state) is state
    commands: list[ipc.Command] = []
    desk.command(STATUS, commands.append)
    assert (commands, worker.said[-1].token) == ([], 4)
    assert worker.said[-1].error["code"] == "storage.sqlite"
    desk.close()


def test_other_commands_are_the_registrys(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    desk = worker.desk()
    registry = ipc.Command(token=5, name="list")
    commands: list[ipc.Command] = []
    for command in (registry, STATUS):
        desk.command(command, commands.append)
    assert commands == [registry]
    assert worker.said[-1].values["state"] == "idle"
    desk.close()


def test_no_time_passes_while_something_waits_to_be_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed: list[None] = []
    monkeypatch.setattr(Bedside, "advance", lambda _: passed.append(None))
    worker = Worker(tmp_path)
    desk = worker.desk()
    worker.has_message = True
    assert desk.beat()["state"] == "idle"
    assert passed == []
    worker.has_message = False
    desk.beat()
    assert passed == [None]
    desk.close()
