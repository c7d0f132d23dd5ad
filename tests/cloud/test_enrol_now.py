"""`enrol now` against the real authority, through strangers, over TLS, and where nobody answers."""

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from brainforge_edge.cli.main import main
from brainforge_edge.cloud.authority.authority import Authority
from brainforge_edge.core.errors import BrainforgeError, ExitStatus
from brainforge_edge.core.httpaddress import http_address
from brainforge_edge.fleet import authority as client
from brainforge_edge.storage.files import SystemDisk
from tests.broker.served import Served

MOST_S = 60.0
Out = pytest.CaptureFixture[str]


def error(capsys: Out) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])["error"]
    return found


class Site:
    """A site made by commands, its authority served, and a box's configuration."""

    def __init__(self, root: Path, capsys: Out) -> None:
        self.root = root
        self._capsys = capsys
        assert main(["cloud", "ca", "init", "--root", str(root / "site")]) == 0
        self.served = Served(root / "site")
        self.config = root / "edge.toml"
        self.write_config()

    def write_config(self, *, scheme: str = "http", name: str = "bed-1") -> None:
        at = self.root / "tls"
        self.config.write_text(
            f'[node]\nid = "{name}"\n[seal]\nrecovery = "{at}/recovery.pem"\n'
            f'[uplink]\nsigner = "{at}/signer.pem"\n[uplink.tls]\nca = "{at}/ca.pem"\n'
            f'certificate = "{at}/node.pem"\nkey = "{at}/node.key"\n'
            f'enrol = "{scheme}://127.0.0.1:{self.served.port}"\n',
            encoding="utf-8",
        )

    def token(self, name: str = "bed-1") -> Path:
        self._capsys.readouterr()
        assert main(["cloud", "ca", "token", name, "--root", str(self.root / "site")]) == 0
        path = self.root / f"token-{len(list(self.root.glob('token-*')))}"
        path.write_text(self._capsys.readouterr().out, encoding="utf-8")
        return path

    def now(self, *words: str | Path) -> int:
        return main(["enrol", "now", "--config", str(self.config), "--json", *map(str, words)])

    @property
    def n_issued(self) -> int:
        made = Authority(self.root / "site", disk=SystemDisk(), random=os.urandom)
        return len(made.ledger().issued)


@pytest.fixture
def site(tmp_path: Path, capsys: Out) -> Iterator[Site]:
    made = Site(tmp_path, capsys)
    made.served.start()
    try:
        yield made
    finally:
        made.served.stop()


@contextmanager
def stranger(port: int, change: Callable[[bytes, bytes], tuple[bytes, bytes]]) -> Iterator[str]:
    """Between a box and the authority; `change` gets what the box sent and what came back, and hands both on.

    Its first result is what the authority hears: `change` is asked with an empty answer before.
    """
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def serve() -> None:
            with suppress(OSError):  # the listener's end
                while True:
                    near, _ = listener.accept()
                    with near, suppress(ConnectionError):
                        request = _message(near)
                        with socket.create_connection(("127.0.0.1", port), MOST_S) as far:
                            far.sendall(change(request, b"")[0])
                            answer = b""
                            while more := far.recv(65_536):
                                answer += more
                        near.sendall(change(request, answer)[1])

        thread = threading.Thread(target=serve)
        thread.start()
        stack.callback(thread.join)
        stack.callback(listener.shutdown, socket.SHUT_RDWR)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def _message(sock: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += sock.recv(65_536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split()[0])
    while len(body) < length:
        body += sock.recv(65_536)
    return head + b"\r\n\r\n" + body


def test_one_command_enrols_a_box_and_brings_the_sites_keys(site: Site, capsys: Out) -> None:
    at_site = ["--root", str(site.root / "site")]
    for role in ("signer", "recovery"):
        assert main(["keys", "make", str(site.root / "made"), "--role", role]) == 0
        pem = str(site.root / "made" / f"{role}.pem")
        assert main(["cloud", "ca", "publish", *at_site, f"--{role}", pem]) == 0
    assert main(["cloud", "ca", "publish", *at_site, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out.splitlines()[-1])["published"]
    assert [each["role"] for each in shown] == ["recovery", "signer"]
    assert site.now("--token-file", site.token()) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["keys"] == {"recovery": "written", "signer": "written"}
    assert main(["config", "check", str(site.config)]) == 0
    assert main(["enrol", "now", "--config", str(site.config), "--renew"]) == 0
    assert "lies there already" in capsys.readouterr().out
    secret = str(site.root / "made" / "recovery.key")
    assert main(["cloud", "ca", "publish", *at_site, "--recovery", secret]) == ExitStatus.SECURITY


def test_a_used_token_says_so_and_another_box_cannot_take_it(site: Site, capsys: Out) -> None:
    token = site.token()
    assert site.now("--token-file", token) == 0
    capsys.readouterr()
    assert site.now("--token-file", token) == ExitStatus.SECURITY
    said = error(capsys)
    assert said["code"] == "security.token_used"
    assert "cloud ca token" in said["remedy"]
    site.write_config(name="bed-2")
    token = site.token("bed-1")
    assert site.now("--token-file", token) == ExitStatus.SECURITY
    assert error(capsys)["code"] == "security.token_of_another"


def test_a_stranger_who_changes_the_answer_is_found_out_and_costs_no_token(
    site: Site, capsys: Out
) -> None:
    token = site.token()

    def changed(request: bytes, answer: bytes) -> tuple[bytes, bytes]:
        return request, answer.replace(b'"keys":{', b'"keys":{"signer":"",').replace(
            b"MI", b"MJ", 1
        )

    def lost(request: bytes, answer: bytes) -> tuple[bytes, bytes]:
        return request, b""

    def refused(request: bytes, answer: bytes) -> tuple[bytes, bytes]:
        words = b'{"error": {"code": "security.token_used", "why": "\\u001b[2J so", "remedy": "sh -c x"}}'
        head = b"HTTP/1.1 403 No\r\nContent-Length: " + str(len(words)).encode()
        return request, head + b"\r\n\r\n" + words

    capsys.readouterr()
    for change, status in ((lost, 13), (changed, 14), (refused, 14)):
        with stranger(site.served.port, change) as url:
            assert site.now("--token-file", token, "--at", url) == status, change
        said = error(capsys)
        assert "sh -c" not in str(said)  # whose advice that is cannot be known
        assert "\x1b" not in str(said)
        assert not (site.root / "tls" / "node.pem").exists()
    assert site.now("--token-file", token) == 0
    assert site.n_issued == 1


def test_a_stranger_who_changes_the_request_gets_nothing(site: Site, capsys: Out) -> None:
    token = site.token()
    other: dict[str, bytes] = {}

    def other_key(request: bytes, answer: bytes) -> tuple[bytes, bytes]:
        head, _, body = request.partition(b"\r\n\r\n")
        put_in = other["body"]
        head = head.replace(str(len(body)).encode(), str(len(put_in)).encode())
        return head + b"\r\n\r\n" + put_in, answer

    out = site.root / "r"
    capsys.readouterr()
    words = ["enrol", "request", "--config", str(site.config), "--out", str(out)]
    assert main([*words, "--token-file", str(site.token())]) == 0
    foreign = json.loads(out.read_bytes())
    assert main([*words[:-1], f"{out}2", "--token-file", str(token)]) == 0
    own = json.loads((site.root / "r2").read_bytes())
    other["body"] = json.dumps(own | {"request": foreign["request"]}).encode()
    capsys.readouterr()
    with stranger(site.served.port, other_key) as url:
        assert site.now("--token-file", token, "--at", url) == ExitStatus.SECURITY
    assert error(capsys)["code"] == "security.request_forged"
    assert site.now("--token-file", token) == 0


def test_a_request_that_was_played_back_gives_a_stranger_nothing_that_he_could_use(
    site: Site,
) -> None:
    heard: list[bytes] = []

    def noted(request: bytes, answer: bytes) -> tuple[bytes, bytes]:
        heard.append(answer or request)
        return request, answer

    with stranger(site.served.port, noted) as url:
        assert site.now("--token-file", site.token(), "--at", url) == 0
    key = (site.root / "tls" / "node.key").read_bytes().splitlines()[1]
    token = (site.root / "token-0").read_bytes().strip().rpartition(b"-")[2]
    for message in heard:
        assert key not in message
        assert token not in message
    with socket.create_connection(("127.0.0.1", site.served.port), MOST_S) as sock:
        sock.sendall(heard[0])
        again = b""
        while more := sock.recv(65_536):
            again += more
    assert again.startswith(b"HTTP/1.1 200 ")
    assert site.n_issued == 1  # the same certificate, for a key that he does not have


def test_over_tls_the_sites_own_ca_is_trusted_and_a_stranger_is_not(
    tmp_path: Path, capsys: Out
) -> None:
    made = Site(tmp_path, capsys)
    at_site = ["--root", str(tmp_path / "site")]
    out = tmp_path / "server"
    issue = ["cloud", "ca", "issue", "broker", *at_site, "--host", "127.0.0.1", "--out", str(out)]
    assert main(issue) == 0
    tls = ("--tls-cert", str(out / "broker.pem"), "--tls-key", str(out / "broker.key"))
    made.served = Served(tmp_path / "site", more=tls)
    made.write_config(scheme="https")
    made.served.start()
    try:
        token = made.token()
        assert made.now("--token-file", token) == ExitStatus.TRANSPORT
        said = error(capsys)
        assert said["code"] == "transport.authority_untrusted"
        assert "--ca" in said["remedy"]
        assert made.now("--token-file", token, "--ca", out / "ca.pem") == 0
        assert made.now("--renew") == 0  # trusts the ca.pem that it has
        plain = f"http://127.0.0.1:{made.served.port}"
        capsys.readouterr()
        assert made.now("--renew", "--at", plain) == ExitStatus.TRANSPORT
        assert made.now("--renew", "--ca", tmp_path / "edge.toml") == ExitStatus.SECURITY
        assert error(capsys)["code"] == "security.not_a_certificate"
    finally:
        assert made.served.stop() == 0
    gone = str(tmp_path / "gone")
    serve = ["cloud", "ca", "serve", *at_site, "--listen", "127.0.0.1:0"]
    assert main([*serve, "--tls-cert", gone, "--tls-key", gone]) == ExitStatus.SECURITY
    assert "--tls-cert" in capsys.readouterr().err


def test_nobody_there_is_an_error_with_a_remedy_and_the_token_stays(
    site: Site, capsys: Out
) -> None:
    token = site.token()
    site.served.stop()
    assert site.now("--token-file", token) == ExitStatus.TRANSPORT
    said = error(capsys)
    assert said["code"] == "transport.authority_absent"
    assert said["transient"] is True
    assert "cloud ca serve" in said["remedy"]
    assert site.now("--token-file", token, "--at", "http://no.such.host.invalid:8480") == 13
    site.served.start()
    assert site.now("--token-file", token) == 0
    assert site.n_issued == 1


@pytest.mark.parametrize(
    ("words", "status", "part"),
    [
        (["enrol", "now", "--config", "{box}"], 2, "either --token-file or --renew"),
        (["enrol", "now", "--config", "{box}", "--renew", "--token-file", "t"], 2, "either"),
        (["enrol", "now", "--config", "{bare}", "--renew"], 2, "Give --at"),
        (["enrol", "now", "--config", "{box}", "--renew", "--at", "ftp://a:1"], 2, "HOST:PORT"),
        (["enrol", "now", "--config", "{box}", "--renew", "--at", "http://a"], 2, "HOST:PORT"),
        (["enrol", "now", "--config", "{box}", "--renew"], 14, "enrol now --token-file"),
        (["enrol", "now", "--config", "{wrong}", "--renew"], 10, "uplink.tls.enrol is 'http://a'"),
        (["cloud", "ca", "serve", "--root", "{root}"], 14, "cloud ca init"),
        (["cloud", "ca", "serve", "--root", "{site}", "--listen", "8480"], 2, "HOST:PORT"),
        (
            ["cloud", "ca", "serve", "--root", "{site}", "--listen", "192.0.2.1:8480"],
            17,
            "--listen",
        ),
        (["cloud", "ca", "serve", "--root", "{site}", "--tls-key", "k"], 2, "together"),
        (["cloud", "ca", "serve", "--root", "{site}", "--days", "nan"], 2, "not a number"),
        (["cloud", "ca", "publish", "--root", "{site}", "--signer", "{root}/none"], 12, "none"),
    ],
)
def test_wrong_words_have_their_status_and_a_sentence(
    tmp_path: Path, words: list[str], status: int, part: str, capsys: Out
) -> None:
    made = Site(tmp_path, capsys)
    bare, wrong = tmp_path / "bare.toml", tmp_path / "wrong.toml"
    text = made.config.read_text(encoding="utf-8")
    bare.write_text(text.rpartition("enrol =")[0], encoding="utf-8")
    wrong.write_text(text.rpartition("enrol =")[0] + 'enrol = "http://a"\n', encoding="utf-8")
    places = {"box": made.config, "bare": bare, "wrong": wrong, "root": tmp_path}
    filled = [word.format(**places, site=tmp_path / "site") for word in words]
    assert main(filled) == status
    assert part in capsys.readouterr().err


def _hear(near: socket.socket) -> None:
    with near.makefile("rb") as heard:
        length = 0
        while line := heard.readline().strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        heard.read(length)


@contextmanager
def saying(answer: bytes, *, drips: bool = False) -> Iterator[int]:
    """A port at which somebody says this, whatever he hears."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def serve() -> None:
            with suppress(OSError):
                while True:
                    near, _ = listener.accept()
                    with near, suppress(OSError):
                        _hear(
                            near
                        )  # all of it: what is closed with bytes unread takes its answer back
                        near.sendall(answer)
                        while drips:
                            near.sendall(b"x")
                            if over.wait(0.05):
                                break

        over = threading.Event()
        thread = threading.Thread(target=serve)
        thread.start()
        stack.callback(thread.join)
        stack.callback(over.set)
        stack.callback(listener.shutdown, socket.SHUT_RDWR)
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "authority_absent"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "authority_absent"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 5000, "authority_absent"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_000_000, "authority_odd"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "authority_odd"),
        (b"HTTP/1.1 302 No\r\nLocation: http://127.0.0.1:1/\r\n\r\n", "authority_odd"),
        (b"HTTP/1.1 500 No\r\n\r\n<html>", "authority_odd"),
        (b"HTTP/1.1 403 No\r\n\r\n" + b"[" * 60_000, "authority_odd"),
        (b'HTTP/1.1 403 No\r\n\r\n{"error": 5}', "authority_odd"),
        (b'HTTP/1.1 403 No\r\n\r\n{"error": {"code": ["a"], "why": {}}}', "authority_odd"),
        (b'HTTP/1.1 503 No\r\n\r\n{"error": {"code": "cloud.busy", "why": "so"}}', "busy"),
    ],
)
def test_whatever_a_stranger_says_is_an_error_of_ours(answer: bytes, reason: str) -> None:
    with saying(answer) as port:
        address = http_address(f"http://127.0.0.1:{port}")
        assert address is not None
        with pytest.raises(BrainforgeError) as caught:
            client.exchange(address, b"{}")
    assert caught.value.code == f"transport.{reason}"
    assert caught.value.transient
    assert len(str(caught.value)) < 1000


def test_who_answers_a_byte_now_and_then_is_hung_up_on() -> None:
    with saying(b"HTTP/1.1 200 OK\r\nx: ", drips=True) as port:
        address = http_address(f"http://127.0.0.1:{port}")
        assert address is not None
        with pytest.raises(BrainforgeError) as caught:
            client.exchange(address, b"{}", most_s=1.0)
    assert caught.value.code == "transport.authority_odd"  # what there is of it is no answer
