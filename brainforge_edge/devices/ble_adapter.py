"""The box's Bluetooth adapters: whether they are blocked, and who may use one now.

One scan or connection at a time on an adapter, over all processes of this box: BlueZ answers `InProgress` for hours when two clients connect at once. The lock is the kernel's: a
process that dies gives it back.
Runs in: acquire process, thread "ble".
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from brainforge_edge.devices import gatt

_LOOK_S = 0.05
_MOST_S = 120.0
_RFKILL = Path("/sys/class/rfkill")


class AdapterLock:
    """`folder` is the node's run folder; None is no lock at all (nobody else is there)."""

    def __init__(self, folder: Path | None, adapter: str = "") -> None:
        self.path = None if folder is None else folder / f"ble-{adapter or 'default'}.lock"

    @asynccontextmanager
    async def held(self, most_s: float = _MOST_S) -> AsyncIterator[None]:
        """Wait for it; DeviceError `adapter_busy` after `most_s`."""
        if self.path is None:
            yield
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Whoever may look at the daemon's folder may wait for it too, without writing.
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            try:
                async with asyncio.timeout(most_s):
                    while not _take(descriptor):  # noqa: ASYNC110  of another process
                        await asyncio.sleep(_LOOK_S)
            except TimeoutError:
                why = f"other devices have been connecting for {most_s:g} s"
                raise gatt.adapter_busy(why) from None
            yield
        finally:
            os.close(descriptor)


class Claim:
    """Whoever holds it is connected to `address`; a process that dies gives it back."""

    def __init__(self, folder: Path, address: str) -> None:
        name = address.lower().replace(":", "-").replace("/", "-")
        self._path = folder / f"ble-device-{name}.lock"
        self._descriptor = -1

    def take(self) -> bool:
        """False if another link of this box holds it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not _take(descriptor):
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Idempotent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_blocked(root: Path = _RFKILL) -> bool:
    """Whether rfkill holds every Bluetooth radio off."""
    states = [
        (entry / "soft").read_text().strip() == "1" or (entry / "hard").read_text().strip() == "1"
        for entry in sorted(root.glob("rfkill*"))
        if (entry / "type").read_text().strip() == "bluetooth"
    ]
    return bool(states) and all(states)
