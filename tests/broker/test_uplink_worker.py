"""The uplink as the supervisor runs it: its own process, IPC, live datagrams."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from brainforge_edge.core import ipc, topics
from brainforge_edge.core.config import EdgeConfig, NodeConfig, SealConfig, UplinkConfig
from tests.broker.conftest import Site
from tests.broker.rig import CHUNK_ROWS, assert_stored_once, stream, wait_for

MAG = stream("opm-mag")


class Worker(NamedTuple):
    process: subprocess.Popen[bytes]
    channel: ipc.Channel
    live: socket.socket

    def wait_for_stats(self, what: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        deadline = time.monotonic() + 20.0
        seen: dict[str, Any] = {}
        while time.monotonic() < deadline:
            message = self.channel.receive(5.0)
            assert message is not None
            if isinstance(message, ipc.Heartbeat):
                seen = message.stats
                if seen.get("state") and what(seen):
                    return seen
        raise AssertionError(seen)


def start_worker(site: Site) -> Worker:
    ours, theirs = socket.socketpair()
    live, live_theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    fds = [theirs.fileno(), live_theirs.fileno()]
    process = subprocess.Popen(
        [sys.executable, "-m", "brainforge_edge.uplink.worker", "--fd", str(fds[0]),
         "--live-fd", str(fds[1])],
        pass_fds=fds,
    )  # fmt: skip
    theirs.close()
    live_theirs.close()
    config = EdgeConfig(
        node=NodeConfig(id="bed-1", root=str(site.root / "box"), run=str(site.root)),
        uplink=UplinkConfig(port=site.broker.port),
        seal=SealConfig(enabled=False),
    )
    channel = ipc.Channel(ours)
    channel.send(ipc.Start(config=msgspec.msgpack.encode(config), worker="uplink"))
    site.stack.callback(ours.close)
    site.stack.callback(live.close)
    site.stack.callback(process.wait)
    site.stack.callback(process.kill)
    return Worker(process, channel, live)


@pytest.fixture
def worker(site: Site) -> Worker:
    return start_worker(site)


def test_announced_chunks_are_delivered_and_the_heartbeat_says_so(
    site: Site, worker: Worker
) -> None:
    site.ingest().start()
    box_log = site.log()
    for i in range(12):
        worker.channel.send(box_log.append(MAG, i * CHUNK_ROWS))
    stats = worker.wait_for_stats(lambda s: s["receipted"] == 13)
    assert stats["state"] == "open"
    assert stats["connected"]
    worker.channel.send(ipc.Stop())
    assert worker.process.wait(15) == 0
    assert_stored_once(site.cloud, box_log)


def test_what_was_announced_just_before_the_stop_is_still_delivered(
    site: Site, worker: Worker
) -> None:
    site.ingest().start()
    box_log = site.log()
    worker.channel.send(box_log.append(MAG, 0))
    worker.wait_for_stats(lambda s: s["receipted"] == 2)
    for i in range(1, 40):
        worker.channel.send(box_log.append(MAG, i * CHUNK_ROWS))
    worker.channel.send(ipc.Stop())
    assert worker.process.wait(15) == 0
    assert_stored_once(site.cloud, box_log)


def test_the_end_of_the_supervisor_ends_the_worker(worker: Worker) -> None:
    worker.wait_for_stats(lambda s: s["connected"])
    worker.channel._sock.shutdown(socket.SHUT_RDWR)
    assert worker.process.wait(15) == 0


def test_live_messages_arrive_under_their_stream(
    site: Site, worker: Worker, raw: Callable[..., Any]
) -> None:
    heard: list[tuple[str, bytes]] = []
    listener = raw(site.broker.port, on_message=lambda t, p: heard.append((t, p)))
    listener.subscribe(topics.live("bed-1", "+"), 0)
    worker.wait_for_stats(lambda s: s["connected"])
    payload = os.urandom(30_000)

    def arrived() -> bool:
        worker.live.send(b"\x07opm-mag" + payload)
        worker.live.send(b"\x07Bad/Nam" + payload)
        return bool(heard)

    wait_for(arrived)
    assert heard[0] == (topics.live("bed-1", "opm-mag"), payload)
    stats = worker.wait_for_stats(lambda s: s["live"]["sent"])
    assert stats["live"]["dropped"] > 0


def test_events_are_published_for_the_cloud(
    site: Site, worker: Worker, raw: Callable[..., Any]
) -> None:
    heard: list[tuple[str, bytes]] = []
    listener = raw(site.broker.port, on_message=lambda t, p: heard.append((t, p)))
    listener.subscribe(topics.event("bed-1", "+"), 1)
    site.ingest().start()
    worker.wait_for_stats(lambda s: s["state"] == "open")
    worker.channel.send(ipc.Event(event_type="stream.gap", stream_id="opm-mag", data={"n": 3}))
    wait_for(lambda: heard)
    assert heard[0][0] == topics.event("bed-1", "stream.gap")
    assert msgspec.msgpack.decode(heard[0][1])["data"] == {"n": 3}


def test_the_worker_imports_no_numerics_it_does_not_need() -> None:
    script = (
        "import sys, brainforge_edge.uplink.worker as w;"
        "print([m for m in ('scipy', 'mne', 'sqlite_utils', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=Path.cwd()
    )
    assert done.stdout.strip() == "[]"
