"""What a person's `stop` means for a box that records by itself."""

import asyncio
from pathlib import Path

import pytest

from brainforge_edge.core.config import EdgeConfig, NodeConfig, RecordingConfig
from brainforge_edge.core.errors import SessionError
from brainforge_edge.daemon.supervisor import Supervisor


def test_a_stop_that_stopped_nothing_leaves_auto_record_on(tmp_path: Path) -> None:
    async def stop() -> bool:
        supervisor = Supervisor(
            EdgeConfig(
                node=NodeConfig(id="box", root=str(tmp_path), run=str(tmp_path / "run")),
                recording=RecordingConfig(auto_record=True),
            )
        )
        for end in supervisor._live:
            end.close()
        with pytest.raises(SessionError, match="nothing was stopped"):
            await supervisor._stop_recording({})
        return supervisor._auto

    assert asyncio.run(stop())
