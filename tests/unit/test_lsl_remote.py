"""LabRecorder's remote control: its lines, the names they give, and a server that bounds them."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainforge_edge.cloud.broker.ports import free_port
from brainforge_edge.core.config import LslConfig
from brainforge_edge.core.errors import BrainforgeError, SessionError
from brainforge_edge.core.ids import checked_name
from brainforge_edge.daemon import control
from brainforge_edge.outlets import rcs
from brainforge_edge.outlets.remote import MAX_CLIENTS, Remote

README_LINE = (
    r"filename {root:C:\Data\} {template:exp%n\%p_block_%b.xdf} {run:2} {participant:P003}"
    " {task:MemoryGuided}"
)


@pytest.mark.parametrize(
    ("line", "verb"),
    [
        ("start\r\n", rcs.Verb.START),
        (" stop ", rcs.Verb.STOP),
        ("update", rcs.Verb.UPDATE),
        ("select all", rcs.Verb.SELECT),
        ("select none", rcs.Verb.SELECT),
        (README_LINE, rcs.Verb.FILENAME),
        ("starts", rcs.Verb.UNKNOWN),
        ("", rcs.Verb.UNKNOWN),
    ],
)
def test_a_line_is_one_command(line: str, verb: rcs.Verb) -> None:
    assert rcs.parse(line).verb is verb


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (README_LINE, "p003-block-memoryguided"),
        ("filename {participant:P003} {session:1} {task:Rest}", "sub-p003-ses-1-task-rest"),
        ("filename {run:2} {modality:meg} {participant:7}", "sub-7-run-2-meg"),
        ("filename {task:MemoryGuided} {template:s_%p_%n.xdf {modality:ieeg}", "s"),
        ("filename {root:/data}", ""),
        ("filename {template:../../etc/passwd}", "passwd"),
    ],
)
def test_a_filename_becomes_the_name_of_a_recording(line: str, name: str) -> None:
    assert rcs.recording_name(rcs.parse(line).fields) == name


@given(st.one_of(st.text(), st.text(alphabet="filename {}:ptaskrun%/\\.-_ é", max_size=200)))
def test_any_line_is_parsed_and_gives_a_name_that_may_stand_in_a_path(line: str) -> None:
    for text in (line, f"filename {line}", "filename {template:" + line):
        name = rcs.recording_name(rcs.parse(text).fields)
        if name:
            checked_name(f"{name}-20", "the name")


class _Daemon:
    """The daemon's own control socket, with verbs that only take note."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "control.sock"
        self.asked: list[dict[str, Any]] = []
        self.used: set[str] = set()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._end: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._end = asyncio.Event()
        verbs: dict[str, control.Verb] = {"record": self._record, "stop": self._note}
        server = await control.serve(self.path, verbs)
        self._ready.set()
        await self._end.wait()
        server.close()
        await asyncio.sleep(0.05)  # connections that were just closed say goodbye

    async def _note(self, request: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(request)
        return {}

    async def _record(self, request: dict[str, Any]) -> dict[str, Any]:
        await self._note(request)
        if request["name"] in self.used:
            raise SessionError("name_used", "no recording", why="it is there", remedy="Choose")
        self.used.add(request["name"])
        return {}

    def __enter__(self) -> "_Daemon":
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._end is not None
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)


@contextmanager
def _remote(control_socket: Path) -> Iterator[int]:
    port = free_port()
    remote = Remote(LslConfig(remote=True, remote_port=port), control=control_socket)
    remote.start()
    try:
        yield port
    finally:
        remote.stop()
    assert remote.crashed is None


@pytest.fixture
def remote_port(tmp_path: Path) -> Iterator[int]:
    with _remote(tmp_path / "none.sock") as port:
        yield port


class _Script:
    """A client as PsychoPy scripts are."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=10)

    def say(self, line: str) -> str:
        self.sock.sendall(line.encode() + b"\n")
        return self.sock.recv(4096).decode()

    def __enter__(self) -> "_Script":
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


def test_a_script_starts_and_stops_a_recording_and_never_writes_over_one(tmp_path: Path) -> None:
    with _Daemon(tmp_path) as daemon, _remote(daemon.path) as port, _Script(port) as script:
        said = [script.say(line) for line in ("update", "select all", README_LINE, "start", "stop")]
        assert said == ["OK"] * 5
        assert script.say("start") == "OK"
    name = "p003-block-memoryguided"
    names = [(asked["verb"], asked.get("name")) for asked in daemon.asked]
    assert names == [("record", name), ("stop", None), ("record", name), ("record", f"{name}-2")]


def test_what_cannot_be_done_is_answered_with_the_reason(remote_port: int) -> None:
    with _Script(remote_port) as script:
        answer = script.say("start")
        assert answer.startswith("ERROR the daemon did not record")
        assert script.say("eject") == "ERROR unknown command\n"
        assert script.say("update") == "OK"


def test_a_line_without_end_ends_the_connection_and_no_other(remote_port: int) -> None:
    with _Script(remote_port) as greedy, _Script(remote_port) as script:
        greedy.sock.sendall(b"x" * (2 * rcs.MAX_LINE))
        with contextlib.suppress(ConnectionResetError):  # when it was still sending
            assert greedy.sock.recv(100) == b""
        assert script.say("update") == "OK"


def test_one_client_too_many_is_turned_away(remote_port: int) -> None:
    scripts = [_Script(remote_port) for _ in range(MAX_CLIENTS)]
    try:
        assert [script.say("update") for script in scripts] == ["OK"] * MAX_CLIENTS
        with _Script(remote_port) as more:
            assert more.sock.recv(10) == b""
    finally:
        for script in scripts:
            script.sock.close()


def test_a_port_that_is_held_is_told_with_its_remedy(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        config = LslConfig(remote=True, remote_port=holder.getsockname()[1])
        remote = Remote(config, control=tmp_path / "none.sock")
        with pytest.raises(BrainforgeError) as caught:
            remote.start()
    assert caught.value.code == "transport.remote_port"
    assert "remote_port" in str(caught.value)
