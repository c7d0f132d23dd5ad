"""An acquire process whose threads are taken in turn: real rings, recording and recovery, one thread, a clock that is set."""

from collections.abc import Callable
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from brainforge_edge.acquisition.archive import Archive
from brainforge_edge.acquisition.devicerecording import DeviceRecording
from brainforge_edge.acquisition.pull import Pull
from brainforge_edge.acquisition.record import Record
from brainforge_edge.acquisition.recording import Environment
from brainforge_edge.acquisition.stream import AcquiredStream
from brainforge_edge.acquisition.streams import Streams
from brainforge_edge.acquisition.sync import Sync
from brainforge_edge.core.block import SampleBlock
from brainforge_edge.core.ipc import RecordingState
from brainforge_edge.core.stream import StreamInfo
from brainforge_edge.devices.base import Driver
from brainforge_edge.recorder.log import RecordingLog

DEVICE = "dev"
MOST_TURNS = 10  # of a thread that is waited for


class SetClock:
    """Time that passes when a thread sleeps, and when the test says so."""

    def __init__(self, now_ns: int = 1_000_000_000) -> None:
        self.now_ns = now_ns
        self.utc_offset_ns: int | None = None  # UTC less the box clock; None: nobody knows

    def monotonic_ns(self) -> int:
        return self.now_ns

    def monotonic(self) -> float:
        return self.now_ns / 1e9

    def utc_ns(self) -> int | None:
        return None if self.utc_offset_ns is None else self.now_ns + self.utc_offset_ns

    def sleep(self, seconds: float) -> None:
        self.now_ns += max(0, round(seconds * 1e9))


class Turn:
    """Stands for a thread: record, sync and archive are taken in turn, any other runs through at its start."""

    def __init__(self, name: str, body: Callable[[], None]) -> None:
        self.name = name
        self._body = body
        owner = getattr(body, "__self__", None)
        self._owner = owner if isinstance(owner, Record | Sync | Archive) else None
        self._is_over = False

    def start(self) -> None:
        if self._owner is None:
            self._body()
            self._is_over = True

    def turn(self) -> None:
        if self._owner is not None and not self._is_over:
            self._is_over = self._owner.turn()

    def join(self, timeout: float | None = None) -> None:
        """It goes on while it is waited for."""
        for _ in range(MOST_TURNS):
            self.turn()
            if self._is_over:
                return
        raise RuntimeError(f"{self.name} is waited for and does not end")

    def is_alive(self) -> bool:
        return not self._is_over


class Life:
    """One life of an acquire process: from its start to `stop`, or until the test lets it die.

    `open_recording` is what the supervisor says of a recording that goes on; `proof` is the device's
    boot id. Errors of the disk that a process would end with leave `Life` and `turn`.
    """

    def __init__(
        self,
        env: Environment,
        infos: tuple[StreamInfo, ...],
        *,
        rings: Path,
        ring_s: float,
        open_recording: str = "",
    ) -> None:
        self._threads: list[Turn] = []
        self._env = env
        self._admit = Lock()
        log = RecordingLog(env.recordings, disk=env.disk, random=env.random)
        env.log_id = log.log_id
        self.streams = Streams(DEVICE, rings=rings, log=log, ring_s=ring_s)
        self.recording = DeviceRecording(
            DEVICE, env, self.streams, self._admit, thread=self._thread
        )
        self.pull = Pull(
            make_driver=_no_driver, adopt=_no_rings, admit=self._admit, clock=env.clock,
            is_recording=lambda: self.recording.gates_written, wake_record=self.recording.poke,
        )  # fmt: skip
        try:
            self.recording.recover_in_background()
            self.streams.attach_left(is_resumed=bool(open_recording))
            if open_recording:
                self.recording.request(open_recording, 60.0)
            self.streams.adopt(
                infos,
                layout_changes=self.recording.suspend_for_layout,
                is_recorded=lambda: self.recording.is_wanted,
            )
        except BaseException:
            self.die()
            raise
        for stream in self.streams.all.values():
            stream.continuity.reconnected()

    def _thread(self, name: str, body: Callable[[], None]) -> Turn:
        turn = Turn(name, body)
        self._threads.append(turn)
        return turn

    def push(self, block: SampleBlock, proof: str) -> bool:
        """As the pull thread does; whether rows of the block went into the ring."""
        stream = self.streams.all[block.stream_id]
        before = stream.ring.head
        self.pull._push(stream, block, proof, self._env.clock.monotonic_ns())
        self.recording.poke()
        return stream.ring.head > before

    def turn(self) -> list[RecordingState]:
        """A heartbeat of main, with its answers to the supervisor, then each thread once."""
        answers = self.recording.advance()
        for thread in list(self._threads):
            thread.turn()
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        return answers

    @property
    def is_recorded(self) -> bool:
        return self.recording.active is not None

    def die(self) -> None:
        """The kernel lets go of its rings; the files are its disk's."""
        self.streams.close()


def rows_of(info: StreamInfo, first: int, n: int) -> NDArray[np.int16]:
    """Noise that is a function of the row's index, so that no codec shortens it and no row is like another."""
    index = np.arange(first, first + n, dtype=np.uint64)[:, None]
    channel = np.arange(info.n_channels, dtype=np.uint64)[None, :]
    mixed = (index * np.uint64(64) + channel) * np.uint64(0x9E3779B97F4A7C15)
    return (mixed >> np.uint64(40)).astype(np.uint16).view(np.int16)


def _no_driver() -> Driver:
    raise AssertionError("blocks are pushed here, no device is opened")


def _no_rings(_: tuple[StreamInfo, ...]) -> dict[str, AcquiredStream]:
    raise AssertionError("no device announces streams here")
