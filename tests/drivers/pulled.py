"""A driver behind the whole pull thread, and what its rings got."""

import threading
from collections.abc import Callable
from pathlib import Path
from random import Random

from brainforge_edge.acquisition.pull import Pull
from brainforge_edge.acquisition.streams import Streams
from brainforge_edge.core.clock import SystemClock
from brainforge_edge.devices.base import Driver
from brainforge_edge.recorder.log import RecordingLog
from brainforge_edge.storage.files import SystemDisk


class Pulled:
    """The thread runs from the start on; a context manager, or `close`."""

    def __init__(self, device: str, folder: Path, make_driver: Callable[[], Driver]) -> None:
        log = RecordingLog(folder / "recordings", disk=SystemDisk(), random=Random(1).randbytes)
        (folder / "rings").mkdir()
        self.streams = Streams(device, rings=folder / "rings", log=log)
        self.pull = Pull(
            make_driver=make_driver,
            adopt=lambda infos: self.streams.adopt(
                infos, layout_changes=lambda: None, is_recorded=lambda: False
            ),
            admit=threading.Lock(),
            is_recording=lambda: False,
            wake_record=lambda: None,
            clock=SystemClock(),
        )
        self._thread = threading.Thread(target=self.pull.run)
        self._thread.start()

    def rows(self, stream_id: str) -> int:
        stream = self.streams.all.get(stream_id)
        return stream.ring.head if stream is not None else 0

    def __enter__(self) -> "Pulled":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.pull.stop()
        self._thread.join(10)
        self.streams.close()
        assert not self._thread.is_alive()
        assert self.pull.crashed is None
