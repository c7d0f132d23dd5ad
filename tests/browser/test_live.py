"""Viewers: rows as they are, the newest for each, and none at the cost of another."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from brainforge_edge.core.stream import ChannelInfo, Dtype, StreamInfo
from brainforge_edge.core.wire import LiveHeader
from brainforge_edge.web.daemon import Daemon
from brainforge_edge.web.frames import HEAD, MAGIC
from brainforge_edge.web.guard import Guard
from brainforge_edge.web.live import Live
from brainforge_edge.web.server import Server, listen
from tests.browser.conftest import Page

PATIENCE_S = 60


class Frame(NamedTuple):
    stream: int
    first: int
    n_stream: int
    seq: int
    rows: NDArray[np.float32]


def viewer(page: Page, **more: Any) -> Any:
    return connect(f"ws://127.0.0.1:{page.port}/live", compression=None, **more)


def texts(client: ClientConnection, kind: str) -> dict[str, Any]:
    """The next text of that kind."""
    while True:
        said = client.recv(timeout=PATIENCE_S)
        if isinstance(said, str):
            found: dict[str, Any] = json.loads(said)
            if found["kind"] == kind:
                return found


def frame(client: ClientConnection) -> Frame:
    while True:
        said = client.recv(timeout=PATIENCE_S)
        if isinstance(said, bytes):
            return unpacked(said)


def end_of(client: ClientConnection) -> tuple[int, str]:
    """Code and reason with which the box ends it."""
    try:
        while True:
            client.recv(timeout=PATIENCE_S)
    except ConnectionClosed as closed:
        return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (0, "no end was told")


def unpacked(said: bytes) -> Frame:
    magic, stream, first, n, n_stream, n_rows, _, _, seq, _, _ = HEAD.unpack_from(said)
    assert magic == MAGIC
    rows = np.frombuffer(said, dtype="<f4", offset=HEAD.size).reshape(n_rows, n)
    return Frame(stream, first, n_stream, int(seq), rows)


def test_a_viewer_sees_the_channels_it_asks_for(page: Page) -> None:
    with viewer(page) as whole, viewer(page) as part:
        streams = {s["stream_id"]: s for s in texts(whole, "streams")["streams"]}
        helmet = streams["helmet-mag"]
        assert (helmet["device"], helmet["sfreq"]) == ("helmet", 1000.0)
        assert helmet["channels"][1][1:] == ["mag", "T"]
        whole.send(json.dumps({"stream": "helmet-mag", "first": 0, "count": 300}))
        part.send(json.dumps({"stream": "helmet-mag", "first": 5, "count": 2}))
        # Each begins with whichever row comes next after its wish was heard: they need not be the same.
        all_rows: dict[int, NDArray[np.float32]] = {}
        two_rows: dict[int, NDArray[np.float32]] = {}
        until = time.monotonic() + PATIENCE_S
        while not (common := all_rows.keys() & two_rows.keys()):
            assert time.monotonic() < until, "no row was seen by both"
            one, two = frame(whole), frame(part)
            assert (one.stream, one.n_stream, one.rows.shape[1]) == (helmet["number"], 8, 8)
            assert (two.first, two.rows.shape[1]) == (5, 2)
            all_rows[one.seq], two_rows[two.seq] = one.rows, two.rows
        for seq in common:
            np.testing.assert_array_equal(two_rows[seq], all_rows[seq][:, 5:7])


def test_status_is_told_as_it_changes(page: Page) -> None:
    with viewer(page) as client:
        texts(client, "status")
        assert page.ask("/record", {"name": "watched"}).status == 200
        while (said := texts(client, "status")["said"])["verdict"] != "recording":
            assert said["verdict"] in {"idle", "starting", "unknown", "stalled"}
        assert said["status"]["recording"] == "watched"
        assert said["age_ms"] < 2000


@pytest.mark.parametrize("said", ["{", "[]", '{"stream": 7}', '{"count": 0}', '{"x": 1}', b"\xff"])
def test_words_that_are_not_understood_end_it_with_a_reason(page: Page, said: Any) -> None:
    with viewer(page) as client:
        client.send(said)
        code, reason = end_of(client)
    assert code == 1007
    assert "JSON" in reason


def test_an_oversized_frame_ends_it(page: Page) -> None:
    with viewer(page) as client:
        client.send("x" * 5000)
        assert end_of(client)[0] == 1009
    assert page.ask("/status").status == 200


@pytest.mark.parametrize(
    "wrong", [{"origin": "http://evil.example"}, {"additional_headers": {"Host": "evil.example"}}]
)
def test_a_foreign_page_sees_nothing(page: Page, wrong: Any) -> None:
    with pytest.raises((InvalidStatus, ConnectionClosed)), viewer(page, **wrong) as client:
        client.recv(timeout=PATIENCE_S)


def test_four_viewers_that_take_nothing_cost_the_recorder_nothing(page: Page) -> None:
    assert page.ask("/record", {"name": "stared-at"}).status == 200
    page.until("recording")
    before = page.box.stream("helmet-mag")
    stalled = [taking_nothing(page.port) for _ in range(4)]
    try:
        with viewer(page) as client:
            client.send(json.dumps({"stream": "helmet-mag", "first": 0, "count": 8}))
            seqs = [frame(client).seq for _ in range(75)]
        assert seqs == sorted(set(seqs))
    finally:
        for each in stalled:
            each.close()
    after = page.box.stream("helmet-mag")
    assert after["recorded"] > before["recorded"]
    assert (after["box_drops"], after["gaps"]) == (before["box_drops"], before["gaps"])


def taking_nothing(port: int, stream: str = "helmet-mag") -> socket.socket:
    """A viewer that asks for everything and then reads not a byte more."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(PATIENCE_S)
    sock.connect(("127.0.0.1", port))
    sock.sendall(
        f"GET /live HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    assert sock.recv(12) == b"HTTP/1.1 101"
    said = json.dumps({"stream": stream, "first": 0, "count": 400}).encode()
    assert len(said) < 126
    sock.sendall(bytes([0x81, 0x80 | len(said), 0, 0, 0, 0]) + said)
    return sock


N_CHANNELS = 306
INFO = StreamInfo(
    "loud-mag",
    "loud",
    1000.0,
    Dtype.I32,
    tuple(ChannelInfo(f"c{i}") for i in range(N_CHANNELS)),
)


class Said(msgspec.Struct):
    verdict: str = "idle"


@contextmanager
def served(stalled_s: float) -> Iterator[tuple[int, Live, socket.socket]]:
    """The server and its viewers alone, and the pipeline's end of the screen."""
    loop = asyncio.new_event_loop()
    listening = listen("127.0.0.1", 0)
    port: int = listening.getsockname()[1]
    live = Live(Said, Daemon(Path("nowhere")))
    server = Server(Guard(live, host="127.0.0.1", port=port), stalled_s=stalled_s)
    ours, screen = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1024 * 1024)

    async def serve() -> None:
        live.follow(screen, loop)
        live.opened(INFO)
        await server.serve(sockets=[listening])

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield port, live, ours
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)
        for each in (ours, screen, listening):
            each.close()


def datagram(seq: int) -> bytes:
    rows = np.full((10, N_CHANNELS), seq, dtype="<f4")
    head = msgspec.msgpack.encode(LiveHeader("loud-mag", 0, seq, seq, seq, 250.0, 10, N_CHANNELS))
    name = b"loud-mag"
    return bytes([len(name)]) + name + len(head).to_bytes(2, "little") + head + rows.tobytes()


def test_a_viewer_that_takes_nothing_is_let_go_and_another_misses_nothing() -> None:
    """Each frame is seen by the one who reads; the other fills its buffers and is ended."""
    with served(stalled_s=0.5) as (port, live, pipeline):
        stalled = taking_nothing(port, "loud-mag")
        with connect(f"ws://127.0.0.1:{port}/live", compression=None) as client:
            client.send(json.dumps({"stream": "loud-mag", "first": 0, "count": 400}))
            until = time.monotonic() + PATIENCE_S
            while True:  # what it asks for is heard a moment later
                pipeline.send(datagram(0))
                try:
                    if isinstance(client.recv(timeout=0.2), bytes):
                        break
                except TimeoutError:
                    assert time.monotonic() < until
            seq = 0
            while live.n_viewers == 2:
                assert time.monotonic() < until
                seq += 10
                pipeline.send(datagram(seq))
                while (seen := frame(client).seq) == 0:
                    continue
                assert seen == seq
            assert seq > 100
        with stalled:
            until_its_end(stalled)


def until_its_end(stalled: socket.socket) -> None:
    """What lies in the buffers still comes; then the connection is over."""
    with suppress(ConnectionResetError):
        while stalled.recv(65536):
            continue
