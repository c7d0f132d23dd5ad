"""A driver behind the daemon's own pull thread and rings; with a recording, all of an acquire process."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from brainforge_edge.acquisition.linkstate import LinkState
from brainforge_edge.acquisition.pull import Pull
from brainforge_edge.acquisition.streams import Streams
from brainforge_edge.core.clock import SystemClock
from brainforge_edge.devices.base import Driver
from brainforge_edge.recorder.log import RecordingLog
from brainforge_edge.storage.files import SystemDisk


@contextmanager
def pulled(
    folder: Path, make_driver: Callable[[], Driver], device: str = "dut"
) -> Iterator[tuple[Pull, Streams]]:
    log = RecordingLog(folder / "recordings", disk=SystemDisk(), random=Random(1).randbytes)
    (folder / "rings").mkdir()
    streams = Streams(device, rings=folder / "rings", log=log)
    pull = Pull(
        make_driver=make_driver,
        adopt=lambda infos: streams.adopt(
            infos, layout_changes=lambda: None, is_recorded=lambda: False
        ),
        admit=threading.Lock(),
        is_recording=lambda: False,
        wake_record=lambda: None,
        clock=SystemClock(),
    )
    thread = threading.Thread(target=pull.run)
    thread.start()
    try:
        yield pull, streams
    finally:
        pull.stop()
        thread.join(10)
        streams.close()
        assert not thread.is_alive()
        assert pull.crashed is None


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        threading.Event().wait(0.02)


def rows(streams: Streams, stream_id: str = "dut-eeg") -> int:
    stream = streams.all.get(stream_id)
    return stream.ring.head if stream is not None else 0


class States:
    """The link's states as they follow each other, each with when it was first seen."""

    def __init__(self, pull: Pull) -> None:
        self.seen: list[tuple[LinkState, float]] = []
        self._pull = pull
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "States":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self._look()

    def after(self, moment: float) -> list[LinkState]:
        return [state for state, at in self.seen if at >= moment]

    def when(self, state: LinkState, after: float) -> float:
        """Seconds from `after` until that state was first seen."""
        return next(at for each, at in self.seen if each is state and at >= after) - after

    def _watch(self) -> None:
        while not self._end.wait(0.005):
            self._look()

    def _look(self) -> None:
        state = self._pull.state
        if not self.seen or self.seen[-1][0] is not state:
            self.seen.append((state, time.monotonic()))
