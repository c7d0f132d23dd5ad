"""How long the supervisor waits for a worker."""

import asyncio
import os
from pathlib import Path

import msgspec
import pytest

from brainforge_edge.core import ipc
from brainforge_edge.core.config import EdgeConfig, NodeConfig
from brainforge_edge.daemon import child
from brainforge_edge.daemon.child import Child


def _start() -> ipc.Start:
    config = EdgeConfig(node=NodeConfig(id="box"))
    return ipc.Start(config=msgspec.msgpack.encode(config), worker="slow")


def test_a_worker_that_is_slow_to_start_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "SILENT_S", 0.5)  # far less than the worker needs

    async def start() -> int:
        is_ready = asyncio.Event()

        async def heard(_: Child, message: ipc.AnyMessage) -> None:
            if isinstance(message, ipc.Ready):
                is_ready.set()

        slow = Child("slow", "tests.unit.slow_worker", start_message=_start, on_message=heard)
        slow.begin()
        try:
            await asyncio.wait_for(is_ready.wait(), 20)
            return slow.restarts
        finally:
            await slow.stop(5)

    assert asyncio.run(start()) == 0


def niceness(pid: int) -> set[int]:
    """Of all its threads."""
    threads = [int(thread.name) for thread in Path(f"/proc/{pid}/task").iterdir()]
    return {os.getpriority(os.PRIO_PROCESS, thread) for thread in threads}


def test_a_worker_that_had_to_be_killed_is_gone_when_stop_returns() -> None:
    async def stopped() -> int:
        is_ready = asyncio.Event()

        async def heard(_: Child, message: ipc.AnyMessage) -> None:
            if isinstance(message, ipc.Ready):
                is_ready.set()

        deaf = Child(
            "deaf",
            "tests.unit.slow_worker",
            start_message=_start,
            on_message=heard,
            arguments=["--deaf"],
            niceness=7,
        )
        deaf.begin()
        await asyncio.wait_for(is_ready.wait(), 20)
        pid = deaf.pid
        assert pid is not None
        assert niceness(pid) == {7}
        await deaf.stop(0.2)
        return pid

    async def is_there_after() -> bool:
        pid = await stopped()
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True

    assert not asyncio.run(is_there_after())
