"""The disk budget: what each level allows, the reserve, and a recording that is closed in time and begun again."""

import asyncio
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from brainforge_edge.core import ipc
from brainforge_edge.core.config import DiskConfig, EdgeConfig, NodeConfig, parse
from brainforge_edge.core.errors import ConfigError, StorageError
from brainforge_edge.daemon.child import Child
from brainforge_edge.daemon.disk import DiskWatch, Pressure
from brainforge_edge.daemon.recordings import Recordings
from brainforge_edge.daemon.scope import Scope

MIB = 2**20
TOTAL = 1000 * MIB
RESERVE = 62  # MiB, a sixteenth
Usage = namedtuple("Usage", "f_blocks f_bfree f_bavail f_frsize")


class Recorder:
    """What `Recordings` does, in words."""

    def __init__(self) -> None:
        self.current = "night"
        self.scope: Scope | None = None
        self.did: list[str] = []

    async def close(self) -> None:
        self.current = ""
        self.did.append("closed")

    async def open_if_none(self, preroll_s: float) -> None:
        assert preroll_s > 0
        self.current = "night-2"
        self.did.append("opened")


class Stand:
    """A disk of 1000 MiB with so much `free` beside what the reserve has."""

    def __init__(self, root: Path) -> None:
        self.free = 900 * MIB
        self.root = root
        self.told: list[dict[str, Any]] = []
        self.recorder = Recorder()
        self.stats: dict[str, Any] = {}
        config = EdgeConfig(
            node=NodeConfig(id="box", root=str(root)), disk=DiskConfig(reserve_mib=RESERVE)
        )
        self.watch = DiskWatch(config, told=self._hear, usage=self._usage)

    def _usage(self, path: Path) -> Any:
        assert path == self.root
        reserve = self.root / "reserve"
        kept = reserve.stat().st_size if reserve.exists() else 0
        left = max(0, self.free - kept) // 4096
        return Usage(TOTAL // 4096, left, left, 4096)

    async def _hear(self, event: ipc.Event) -> None:
        assert event.event_type == "log.pressure"
        self.told.append(event.data)

    def look(self) -> None:
        children = [cast(Child, SimpleNamespace(stats=self.stats))]
        asyncio.run(self.watch.look(cast(Recordings, self.recorder), children))


def test_each_level_is_reached_and_told_once(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    stand.look()
    assert (tmp_path / "reserve").stat().st_size == RESERVE * MIB
    for free, level in (
        (180, Pressure.ALARM),
        (140, Pressure.NO_DERIVED),
        (100, Pressure.NO_RECORDING),
    ):
        stand.free = free * MIB
        assert stand.watch.pressure is level
        stand.look()
        stand.look()
        assert stand.told[-1]["pressure"] == level.name.lower()
        assert stand.watch.figures([])["derived"] == (level < Pressure.NO_DERIVED)
    assert len(stand.told) == 3
    assert stand.recorder.did == []
    with pytest.raises(StorageError, match="95 %") as refused:
        stand.watch.refuse_if_full()
    assert refused.value.code == "storage.no_room"


def test_a_recording_is_closed_from_the_reserve_and_begun_again_with_room(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    stand.look()
    stand.free = (RESERVE + 3) * MIB
    stand.look()
    assert stand.recorder.did == ["closed"]
    assert not (tmp_path / "reserve").exists()
    stand.look()
    with pytest.raises(StorageError):  # what the reserve gave back is no room for another
        stand.watch.refuse_if_full()
    assert stand.recorder.did == ["closed"]
    stand.free = 500 * MIB
    stand.look()
    assert stand.recorder.did == ["closed", "opened"]
    assert (tmp_path / "reserve").exists()


def test_what_a_person_stopped_does_not_begin_by_itself(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    stand.free = 10 * MIB
    stand.look()
    assert stand.watch.resumes
    stand.watch.resumes = False  # `stop`
    stand.free = 500 * MIB
    stand.look()
    assert stand.recorder.did == ["closed"]


def test_a_recording_of_a_session_does_not_begin_again_by_itself(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    stand.recorder.scope = Scope({"hat": "p1"}, 0)
    stand.free = 10 * MIB
    stand.look()
    assert not stand.watch.resumes
    stand.free = 500 * MIB
    stand.look()
    assert stand.recorder.did == ["closed"]


def test_a_worker_without_room_or_descriptors_is_told_of(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    stand.look()
    stand.stats = {"recording": {"fault": {"code": "storage.descriptors"}, "error": None}}
    stand.look()
    assert stand.told[-1]["faults"] == ["storage.descriptors"]
    assert stand.recorder.did == []
    stand.stats = {"recording": {"fault": {"code": "storage.full"}, "error": None}}
    stand.look()
    assert stand.recorder.did == ["closed"]


@pytest.mark.parametrize(
    "entry",
    ["reserve_mib = 4", "alarm_percent = 0", "derived_percent = 70", "refuse_percent = 100"],
)
def test_limits_that_cannot_work_are_refused(entry: str) -> None:
    with pytest.raises(ConfigError, match="allowed are"):
        parse(f'[node]\nid = "box"\n[disk]\n{entry}\n')
