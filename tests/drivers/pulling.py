"""A driver behind the daemon's own pull thread and rings; with a recording, all of an acquire process."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from brainforge_edge.acquisition.devicerecording import DeviceRecording
from brainforge_edge.acquisition.linkstate import LinkState
from brainforge_edge.acquisition.pull import Pull
from brainforge_edge.acquisition.recording import Environment
from brainforge_edge.acquisition.streams import Streams
from brainforge_edge.codec import registry
from brainforge_edge.core.clock import SystemClock, boot_id
from brainforge_edge.core.stream import Dtype
from brainforge_edge.devices.base import Driver
from brainforge_edge.recorder.catalog import RecordingFile, write_recording_file
from brainforge_edge.recorder.chunk import Chunk
from brainforge_edge.recorder.log import RecordingLog
from brainforge_edge.recorder.verify import Account, verify_recording
from brainforge_edge.storage.files import SystemDisk


class Acquired:
    """What an acquire process has of one device; `recording` while one is to be written."""

    def __init__(
        self,
        folder: Path,
        make_driver: Callable[[], Driver],
        device: str = "dut",
        *,
        participant: str = "",
    ) -> None:
        clock, disk = SystemClock(), SystemDisk()
        recordings = folder / "recordings"
        (folder / "rings").mkdir(exist_ok=True)
        log = RecordingLog(recordings, disk=disk, random=os.urandom)
        env = Environment(
            recordings=recordings,
            node="ward",
            log_id=log.log_id,
            boot_id=boot_id(),
            disk=disk,
            clock=clock,
            random=os.urandom,
            sync_ms=80,
            segment_bytes=1 << 24,
            journal_s=10.0,
            archived=lambda *_: None,
            participant=participant,
        )
        admit = threading.Lock()
        self.streams = Streams(device, rings=folder / "rings", log=log)
        self.recording = DeviceRecording(device, env, self.streams, admit)
        self.pull = Pull(
            make_driver=make_driver,
            adopt=lambda infos: self.streams.adopt(
                infos,
                layout_changes=self.recording.suspend_for_layout,
                is_recorded=lambda: self.recording.is_wanted,
            ),
            admit=admit,
            is_recording=lambda: self.recording.gates_written,
            wake_record=self.recording.poke,
            clock=clock,
        )
        self._thread = threading.Thread(target=self.pull.run)

    def __enter__(self) -> "Acquired":
        self.recording.recover_in_background()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.pull.stop()
            self._thread.join(10)
        finally:
            self.recording.suspend()
            self.streams.close()
        assert not self._thread.is_alive()
        assert self.pull.crashed is None

    def record(self, name: str) -> None:
        """Open a recording, and wait until it is."""
        self.recording.request(name, 60.0)
        wait_for(lambda: any(answer.is_open for answer in self.recording.advance()))

    def close_recording(self, name: str) -> None:
        """… and until all of it is archived."""
        assert self.recording.request_close(name)
        wait_for(lambda: any(not answer.is_open for answer in self.recording.advance()))


@contextmanager
def pulled(
    folder: Path, make_driver: Callable[[], Driver], device: str = "dut"
) -> Iterator[tuple[Pull, Streams]]:
    with Acquired(folder, make_driver, device) as acquired:
        yield acquired.pull, acquired.streams


def closed(folder: Path, name: str) -> Path:
    """Its folder, after the supervisor's last word on a recording."""
    file = RecordingFile(name, None, "ward", closed=True)
    write_recording_file(folder / "recordings", file, SystemDisk())
    return folder / "recordings" / name


def verified(folder: Path) -> Account:
    """The exact account of a recording, every chunk decoded."""

    def packed(chunk: Chunk) -> bytes:
        dtype = Dtype(chunk.dtype)
        rows = registry.decode(chunk.codec, chunk.body, dtype, chunk.n_samples, chunk.n_channels)
        return registry.pack_rows(rows, dtype)

    return verify_recording(folder, decode=packed, disk=SystemDisk())


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
