"""Desired states and jobs between a real broker and the uplink process: what comes, what is told, what a flood costs."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from brainforge_edge.core import ipc, topics
from brainforge_edge.core.wire import Reported
from brainforge_edge.security.order import MOST_BYTES
from tests.broker.conftest import Site
from tests.broker.rig import CHUNK_ROWS, stream, wait_for
from tests.broker.test_uplink_worker import Worker, start_worker

MAG = stream("opm-mag")
MOST_S = 60.0
JOB = "0123456789abcdef"


def directives(worker: Worker, n: int, *, most_s: float = MOST_S) -> list[ipc.Directive]:
    """The next ones that are handed over."""
    found: list[ipc.Directive] = []
    until = time.monotonic() + most_s
    while len(found) < n:
        assert time.monotonic() < until, found
        message = worker.channel.receive(most_s)
        assert message is not None
        if isinstance(message, ipc.Directive):
            found.append(message)
    return found


def test_what_is_retained_comes_with_the_link_and_the_answers_go_back(
    any_site: Site, raw: Callable[..., Any]
) -> None:
    heard: dict[str, bytes] = {}
    cloud = raw(any_site.broker.port, on_message=heard.__setitem__)
    cloud.publish(topics.desired("bed-1"), b"state", qos=1, retain=True)
    cloud.publish(topics.job("bed-1", JOB), b"order", qos=1, retain=True)
    cloud.publish(topics.desired("bed-2"), b"of another", qos=1, retain=True)
    cloud.subscribe(topics.reported("+"), 1)
    cloud.subscribe(topics.job_status("+", "+"), 1)
    worker = start_worker(any_site)
    found = directives(worker, 2)
    assert {each.job: each.payload for each in found} == {"": b"state", JOB: b"order"}
    reported = msgspec.json.encode(Reported("bed-1", 7, "x", None, 0, None, None))
    for job, payload in (("", reported), (JOB, b"status")):
        worker.channel.send(ipc.Report(job=job, payload=payload, is_final=True))
    wait_for(lambda: len(heard) == 2)
    assert heard == {
        topics.reported("bed-1"): reported,
        topics.job_status("bed-1", JOB): b"status",
    }
    late: dict[str, bytes] = {}
    listener = raw(any_site.broker.port, on_message=late.__setitem__)
    listener.subscribe(topics.reported("+"), 1)
    wait_for(lambda: late)
    assert late == {topics.reported("bed-1"): reported}
    late.clear()
    cloud.publish(topics.job("bed-1", JOB), b"", qos=1, retain=True)
    cloud.publish(topics.desired("bed-2"), b"last", qos=1, retain=True)
    again = raw(any_site.broker.port, on_message=late.__setitem__)
    again.subscribe("bf/v1/+/job/+", 1)
    again.subscribe("bf/v1/+/desired", 1)
    wait_for(lambda: len(late) == 2)
    assert late == {topics.desired("bed-1"): b"state", topics.desired("bed-2"): b"last"}


def test_a_link_that_comes_back_brings_them_again(site: Site, raw: Callable[..., Any]) -> None:
    raw(site.broker.port).publish(topics.desired("bed-1"), b"state", qos=1, retain=True)
    worker = start_worker(site)
    assert directives(worker, 1)[0].payload == b"state"
    worker.channel.send(ipc.Report(job="", payload=b"{}", is_final=True))
    site.broker.kill()
    site.broker.start()
    raw(site.broker.port).publish(topics.desired("bed-1"), b"state", qos=1, retain=True)
    assert directives(worker, 1)[0].payload == b"state"


def test_when_another_state_stands_the_uplink_ends_in_order_to_begin_anew(site: Site) -> None:
    worker = start_worker(site)
    worker.wait_for_stats(lambda s: s["connected"])
    worker.channel.send(ipc.Applied(id=""))  # it began with none
    worker.wait_for_stats(lambda s: s["connected"])
    assert worker.process.poll() is None
    worker.channel.send(ipc.Applied(id="0123456789abcdef"))
    assert worker.process.wait(20) == 0


def resident(pid: int) -> int:
    """Bytes of memory that a process has now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.timeout(240)
def test_ten_thousand_messages_of_garbage_cost_bounded_memory_and_no_receipt(
    site: Site, raw: Callable[..., Any]
) -> None:
    """A stranger who may write on these topics; chunks are delivered meanwhile, and a state comes through."""
    site.ingest().start()
    log = site.log()
    worker = start_worker(site)
    worker.channel.send(log.append(MAG, 0))
    worker.wait_for_stats(lambda s: s["receipted"] == 2)
    before = resident(worker.process.pid)
    stranger = raw(site.broker.port)
    garbage, big = os.urandom(MOST_BYTES), os.urandom(1024 * 1024)
    handed = 0
    for i in range(10_000):
        stranger.publish(topics.job("bed-1", f"{i:016x}"), garbage[: 1 + i % 4096])
        if i % 500 == 0:
            stranger.publish(topics.job("bed-1", f"{i:015x}f"), garbage)
            stranger.publish(topics.desired("bed-1"), big)
            worker.channel.send(log.append(MAG, (1 + i // 500) * CHUNK_ROWS))
    stranger.publish(topics.desired("bed-1"), b"state", qos=1)
    stats = worker.wait_for_stats(lambda s: s["receipted"] == 22)
    assert stats["orders"]["waiting"] <= 17
    until = time.monotonic() + MOST_S
    while not any(each.payload == b"state" for each in directives(worker, 1)):
        handed += 1
        assert time.monotonic() < until
    assert resident(worker.process.pid) - before < 48 * 1024 * 1024
    assert handed < 2000
