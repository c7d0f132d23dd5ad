"""What a person's `stop` means for a box that records by itself; who hears what workers say of orders."""

import asyncio
from pathlib import Path

import pytest

from brainforge_edge.core import ipc
from brainforge_edge.core.config import EdgeConfig, NodeConfig, RecordingConfig
from brainforge_edge.core.errors import SessionError
from brainforge_edge.daemon.child import Child
from brainforge_edge.daemon.supervisor import Supervisor


def test_a_stop_that_stopped_nothing_leaves_auto_record_on(tmp_path: Path) -> None:
    async def stop() -> bool:
        supervisor = Supervisor(
            EdgeConfig(
                node=NodeConfig(id="box", root=str(tmp_path), run=str(tmp_path / "run")),
                recording=RecordingConfig(auto_record=True),
            )
        )
        supervisor._paths.close()
        with pytest.raises(SessionError, match="nothing was stopped"):
            await supervisor._stop_recording({})
        return supervisor._auto

    assert asyncio.run(stop())


def test_orders_pass_from_the_uplink_to_the_agent_and_what_became_of_them_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, ipc.Message]] = []

    async def keep(child: Child, message: ipc.Message) -> bool:
        told.append((child.name, message))
        return True

    monkeypatch.setattr(Child, "send", keep)
    order, report = (
        ipc.Directive(job="a", payload=b"x"),
        ipc.Report(job="a", payload=b"y", is_final=True),
    )
    stands = ipc.Applied(id="z")

    async def pass_on() -> None:
        supervisor = Supervisor(
            EdgeConfig(node=NodeConfig(id="box", root=str(tmp_path), run=str(tmp_path / "run")))
        )
        supervisor._paths.close()
        (uplink,) = [child for child in supervisor.others if child.name == "uplink"]
        await supervisor._heard(uplink, order)
        for message in (report, stands):
            await supervisor._heard(supervisor.agent, message)
        await asyncio.gather(*supervisor._tasks)

    asyncio.run(pass_on())
    assert told == [("agent", order), ("uplink", report), ("uplink", stands)]
