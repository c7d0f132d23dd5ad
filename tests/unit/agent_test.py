"""The agent's markers: each on the disk at once, and no agent's end makes a recording look damaged."""

from pathlib import Path
from typing import Any, cast

import cbor2
import msgspec
import pytest

from brainforge_edge.core import ipc
from brainforge_edge.core.config import EdgeConfig, NodeConfig, SealConfig, UplinkConfig
from brainforge_edge.core.stream import Codec
from brainforge_edge.core.worker import WorkerChannel
from brainforge_edge.fleet import agent as agent_module
from brainforge_edge.fleet.agent import Agent
from brainforge_edge.recorder.chunk import Chunk
from brainforge_edge.recorder.reader import Whole, iter_chunks
from brainforge_edge.recorder.verify import verify_recording
from brainforge_edge.security.sign import Verifier, make_signer
from brainforge_edge.storage.files import SystemDisk
from tests.unit.recorder_faulty_disk import MortalDisk

NIGHT = "night-1"


class Supervisor:
    """What the agent sees of it."""

    def __init__(self, root: Path, open_recording: str = "") -> None:
        self.config = EdgeConfig(
            node=NodeConfig(id="box", root=str(root)), seal=SealConfig(enabled=False)
        )
        self.start = ipc.Start(config=b"", worker="agent", rings={}, open_recording=open_recording)
        self.heard: list[Any] = []

    def send(self, message: ipc.Message) -> None:
        self.heard.append(message)

    def agent(self) -> Agent:
        return Agent(cast("WorkerChannel", self))

    def errors(self) -> list[Any]:
        return [getattr(message, "error", None) for message in self.heard]


def mark(agent: Agent, text: str, token: int) -> None:
    agent.mark(ipc.Marks(recording=NIGHT, marks=((token, 0.0, text),), token=token))


def opened(supervisor: Supervisor) -> Agent:
    agent = supervisor.agent()
    agent.open(ipc.OpenRecording(recording=NIGHT, preroll_s=0.0))
    return agent


def texts(root: Path) -> list[str]:
    folder = root / "recordings" / NIGHT / "markers"
    chunks = [
        whole.chunk()
        for path in sorted(folder.glob("*.seg"))
        for whole in iter_chunks(path, disk=SystemDisk())
        if isinstance(whole, Whole) and whole.head.codec == Codec.MARKERS
    ]
    return [text for chunk in chunks for _, _, text in cbor2.loads(chunk.body)]


def is_clean(root: Path) -> bool:
    def unread(chunk: Chunk) -> bytes:
        raise AssertionError(chunk)

    folder = root / "recordings" / NIGHT
    account = verify_recording(folder, decode=unread, disk=SystemDisk())
    assert sum(stream.markers for stream in account.streams) == len(texts(root))
    return account.is_clean


@pytest.mark.parametrize("text", ["eyes closed", "", "🧠" * 1000])
def test_every_marker_of_a_long_night_is_stored_once_and_in_order(
    tmp_path: Path, text: str
) -> None:
    supervisor = Supervisor(tmp_path)
    agent = opened(supervisor)
    expected = [f"{n}{text}"[:1000] for n in range(60)]
    for n, described in enumerate(expected):
        mark(agent, described, n)
    agent.close(ipc.CloseRecording(recording=NIGHT))
    assert not any(supervisor.errors())
    assert texts(tmp_path) == expected
    assert is_clean(tmp_path)
    for path in tmp_path.rglob("*.seg"):
        assert path.stat().st_size <= 64 * 1024


def test_an_agent_that_was_killed_leaves_nothing_that_verify_calls_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_module, "SystemDisk", MortalDisk)
    mark(opened(Supervisor(tmp_path)), "before", 1)  # … and no word more
    assert not is_clean(tmp_path)
    again = Supervisor(tmp_path, NIGHT)
    agent = again.agent()
    agent.report()
    mark(agent, "after", 2)
    agent.close(ipc.CloseRecording(recording=NIGHT))
    assert not any(again.errors())
    assert texts(tmp_path) == ["before", "after"]
    assert is_clean(tmp_path)


def test_a_signer_that_comes_with_a_later_enrolment_is_believed_without_a_new_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nothing would be freed, and the disk of a box that was started first would fill."""
    path = tmp_path / "signer.pem"
    supervisor = Supervisor(tmp_path / "box")
    supervisor.config = msgspec.structs.replace(
        supervisor.config, uplink=UplinkConfig(signer=str(path))
    )
    agent = supervisor.agent()
    trusted: list[Verifier | None] = []
    monkeypatch.setattr(agent.keeper, "trust", trusted.append)
    agent.stats()
    assert trusted == []
    _, public = make_signer()
    path.write_bytes(public)
    for _ in range(3):
        agent.stats()
    assert [each and each.pem for each in trusted] == [public]
    agent.devices.close()
