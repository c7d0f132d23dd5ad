"""The control client against daemons that are absent, silent, garbled or refusing."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from brainforge_edge.cli import main as cli
from brainforge_edge.cli.client import request
from brainforge_edge.core.config import SOCKET_NAME
from brainforge_edge.core.errors import ExitStatus, NoDaemonError, SessionError

Answer = Callable[[bytes], bytes | None]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Callable[[Answer], Path]]:
    """Starts a daemon that answers each line with `answer(line)` and closes on None."""
    servers: list[tuple[socket.socket, threading.Thread]] = []

    def start(answer: Answer) -> Path:
        path = tmp_path / SOCKET_NAME
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        server.bind(str(path))
        server.listen()
        thread = threading.Thread(target=_serve, args=(server, answer))
        thread.start()
        servers.append((server, thread))
        return path

    yield start
    for server, thread in servers:
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        server.close()


def _serve(server: socket.socket, answer: Answer) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:  # the test is over
            return
        with connection, connection.makefile("rb") as lines:
            for line in lines:
                reply = answer(line)
                if reply is None:
                    break
                connection.sendall(reply)


def test_a_request_is_one_line_and_its_reply_is_returned(
    daemon: Callable[[Answer], Path],
) -> None:
    heard: list[bytes] = []

    def answer(line: bytes) -> bytes:
        heard.append(line)
        return b'{"ok": true, "recording": "night-3"}\n'

    reply = request(daemon(answer), "record", name="night-3", preroll=5.0)
    assert reply["recording"] == "night-3"
    assert json.loads(heard[0]) == {"verb": "record", "name": "night-3", "preroll": 5.0}


def test_no_daemon_is_said_with_the_way_to_start_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["status", "--run", str(tmp_path)]) == ExitStatus.NO_DAEMON
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "brainforge-edge run --config" in said


def test_a_socket_that_a_dead_daemon_left_is_no_daemon(tmp_path: Path) -> None:
    path = tmp_path / SOCKET_NAME
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    with pytest.raises(NoDaemonError) as caught:
        request(path, "status")
    assert caught.value.code == "daemon.not_running"


def test_a_socket_that_may_not_be_opened_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:  # root, who runs tests too, may open every socket
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(NoDaemonError) as caught:
        request(tmp_path / SOCKET_NAME, "status")
    assert caught.value.code == "daemon.refused"


def test_a_path_too_long_for_a_socket_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(NoDaemonError) as caught:
        request(tmp_path / ("x" * 200) / SOCKET_NAME, "status")
    assert caught.value.code == "daemon.unreachable"


def test_the_daemons_error_arrives_in_its_family_with_its_exit_status(
    daemon: Callable[[Answer], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = SessionError("not_recording", "nothing was stopped", why="none is open", remedy="Go")
    line = json.dumps({"ok": False, "error": refusal.as_dict()}).encode() + b"\n"
    path = daemon(lambda _: line)
    assert cli.main(["stop", "--run", str(path.parent)]) == ExitStatus.SESSION
    assert "nothing was stopped: none is open. Go." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (None, "daemon.garbled"),
        (b"hello\n", "daemon.garbled"),
        (b"[1]\n", "daemon.garbled"),
        (b'{"ok": false}\n', "daemon.garbled"),
        (b'{"ok": true', "daemon.silent"),
    ],
)
def test_a_garbled_reply_is_an_error_of_ours(
    daemon: Callable[[Answer], Path], reply: bytes | None, code: str
) -> None:
    with pytest.raises(NoDaemonError) as caught:
        request(daemon(lambda _: reply), "status", timeout_s=0.2)
    assert caught.value.code == code
    assert caught.value.transient


def test_a_reply_in_pieces_is_put_together(daemon: Callable[[Answer], Path]) -> None:
    large = {"ok": True, "streams": ["x" * 1000] * 300}
    assert request(daemon(lambda _: json.dumps(large).encode() + b"\n"), "status") == large


def test_a_marker_goes_out_with_its_text_and_duration(
    daemon: Callable[[Answer], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    heard: list[bytes] = []

    def answer(line: bytes) -> bytes:
        heard.append(line)
        return b'{"ok": true, "recording": "r", "t_ns": 5}\n'

    path = daemon(answer)
    arguments = ["mark", "eyes closed", "--duration", "2", "--run", str(path.parent), "--json"]
    assert cli.main(arguments) == ExitStatus.OK
    request_line = json.loads(heard[0])
    assert request_line == {"verb": "mark", "description": "eyes closed", "duration": 2.0}
    assert json.loads(capsys.readouterr().out)["t_ns"] == 5
