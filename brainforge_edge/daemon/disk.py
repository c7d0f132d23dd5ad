"""The disk budget of a box: how full it is, what is still allowed, and a reserve for a clean close.

Runs in: supervisor, its asyncio loop; the reserve is made and released in a thread beside it. Nothing
here deletes recorded data (recorder/freeing.py alone may): the reserve is the only file that goes.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from enum import IntEnum
from pathlib import Path
from typing import Any

from brainforge_edge.core import ipc, log
from brainforge_edge.core.config import EdgeConfig
from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.events import EventType
from brainforge_edge.core.stream import StreamInfo
from brainforge_edge.daemon.child import Child
from brainforge_edge.daemon.recordings import WHOLE_RING_S, Recordings
from brainforge_edge.storage.files import SystemDisk
from brainforge_edge.storage.room import Room

FLOOR_SHARE = 4  # with less than a quarter of the reserve left beside it, a recording is closed
FAULTS = frozenset({"storage.full", "storage.descriptors"})  # of a worker, worth an alarm

_log = log.get()


class Pressure(IntEnum):
    """What the disk still allows; each level forbids what the ones before it do."""

    NONE = 0
    ALARM = 1
    NO_DERIVED = 2  # products that can be made again are not made
    NO_RECORDING = 3  # no new one; an open one goes on
    FULL = 4  # an open one is closed while that is still possible


class DiskWatch:
    """`look` each second. `usage` is os.statvfs, given so that tests can fill a disk."""

    def __init__(
        self,
        config: EdgeConfig,
        *,
        told: Callable[[ipc.Event], Awaitable[None]],
        usage: Callable[[Path], os.statvfs_result] = os.statvfs,
    ) -> None:
        self._config = config.disk
        self._root = Path(config.node.root)
        self._room = Room(self._root, config.disk, usage)
        self._told = told
        self._disk = SystemDisk()
        self._seen: tuple[Pressure, frozenset[str]] = (Pressure.NONE, frozenset())
        self._is_looking = False
        self.resumes = (
            False  # a recording was closed for want of room: another begins when there is some
        )

    @property
    def pressure(self) -> Pressure:
        """As it is now."""
        free, used = self._room.look()
        if free < self._room.reserve_bytes() // FLOOR_SHARE:
            return Pressure.FULL
        limits = (
            (self._config.refuse_percent, Pressure.NO_RECORDING),
            (self._config.derived_percent, Pressure.NO_DERIVED),
            (self._config.alarm_percent, Pressure.ALARM),
        )
        return next((level for percent, level in limits if used >= percent), Pressure.NONE)

    def refuse_if_full(self) -> None:
        """StorageError `no_room` if no recording may begin."""
        if self.pressure >= Pressure.NO_RECORDING:
            raise StorageError(
                "no_room",
                "no recording was started",
                why=f"the disk of {self._root} is {self._room.look()[1]:.1f} % full, and from "
                f"{self._config.refuse_percent:g} % on none begins",
                remedy="Free space on it: remove recordings that were delivered or exported and verified",
                transient=True,
            )

    def figures(self, streams: Iterable[StreamInfo]) -> dict[str, Any]:
        """For status: free bytes, and for how many hours they do at packed size: the codec only makes it longer."""
        try:
            free, used = self._room.look()
            pressure = self.pressure
        except OSError as error:
            return {"free_bytes": None, "hours_left": None, "error": str(error)}
        rate = sum(info.row_bytes * info.sfreq for info in streams)
        return {
            "free_bytes": free,
            "hours_left": round(free / rate / 3600, 1) if rate else None,
            "used_percent": round(used, 1),
            "pressure": pressure.name.lower(),
            "derived": pressure < Pressure.NO_DERIVED,
            "reserve_bytes": self._room.kept_bytes(),
            "resumes": self.resumes,
        }

    async def look(self, recordings: Recordings, acquirers: Iterable[Child]) -> None:
        """Say what changed, close a recording that has no room, keep the reserve, begin again with room."""
        if self._is_looking:
            return  # a close takes its time
        self._is_looking = True
        try:
            faults = frozenset(_faults(acquirers))
            pressure = self.pressure
            await self._tell(pressure, faults)
            if recordings.current and (pressure is Pressure.FULL or "storage.full" in faults):
                await self._close(recordings)
            elif pressure < Pressure.NO_RECORDING:
                await asyncio.to_thread(self._keep_reserve)
                if self.resumes and self._room.kept_bytes() and not recordings.current:
                    await recordings.open_if_none(WHOLE_RING_S)
                    self.resumes = False
        finally:
            self._is_looking = False

    async def _close(self, recordings: Recordings) -> None:
        await asyncio.to_thread(self._release_reserve)
        _log.error("recording closed", reason="disk full", recording=recordings.current)
        self.resumes = recordings.scope is None  # a session ends with its recording
        await recordings.close()

    async def _tell(self, pressure: Pressure, faults: frozenset[str]) -> None:
        if (pressure, faults) == self._seen:
            return
        self._seen = (pressure, faults)
        free, used = self._room.look()
        data = {
            "pressure": pressure.name.lower(),
            "used_percent": round(used, 1),
            "free_bytes": free,
            "faults": sorted(faults),
        }
        _log.warning("disk", **data)
        await self._told(ipc.Event(event_type=EventType.LOG_PRESSURE, data=data))

    def _keep_reserve(self) -> None:
        """Made if it is not there, or of another size."""
        size = self._room.reserve_bytes()
        if self._room.kept_bytes() == size:
            return
        self._release_reserve()
        try:
            fd = self._disk.open(self._room.reserve, "new")
            try:
                self._disk.preallocate(fd, size)
            finally:
                self._disk.close(fd)
        except (
            StorageError
        ) as error:  # filled meanwhile: what there is of it goes, and the next look tries again
            _log.warning("no reserve", **error.as_dict())
            self._release_reserve()

    def _release_reserve(self) -> None:
        self._room.reserve.unlink(missing_ok=True)


def _faults(acquirers: Iterable[Child]) -> Iterable[str]:
    for child in acquirers:
        recording = child.stats.get("recording") or {}
        for error in filter(None, (recording.get("fault"), recording.get("error"))):
            if error["code"] in FAULTS:
                yield error["code"]
