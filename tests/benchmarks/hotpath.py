"""What one frame of a helmet costs in Python and kernels, from the link's bytes to the journal's file.

The daemon's own pull loop, driver and record loop. The emulated helmet writes into a socket between two
readings, on a clock that moves on by a frame each time: nothing rests, no terminal and no disk takes part,
and what is left is CPU time of the two threads. The peer does in the barest way what must be done: it reads
the socket, spreads the samples with batched numpy and writes as many bytes to a file beside; it finds no
frame and checks nothing. *Cold*: before each piece of work memory is walked through, as other programs do
in the 8 ms between two frames.
"""

import os
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from brainforge_edge.acquisition.continuity import Continuity
from brainforge_edge.acquisition.pull import Pull
from brainforge_edge.acquisition.record import Record
from brainforge_edge.acquisition.recording import Environment, Part, Recording
from brainforge_edge.acquisition.stream import AcquiredStream
from brainforge_edge.core.stream import StreamInfo
from brainforge_edge.core.threads import Bell
from brainforge_edge.devices import opm
from brainforge_edge.devices.base import FrameSink
from brainforge_edge.devices.bfp_driver import BfpDriver
from brainforge_edge.devices.link import FdTransport
from brainforge_edge.emulators.bfp_kinds import HELMET_SAMPLES, Circumstances, helmet
from brainforge_edge.emulators.ledger import Ledger
from brainforge_edge.emulators.sources import make_sources
from brainforge_edge.kernels.unpack import BfpScanner
from brainforge_edge.recorder.journal import Journal
from brainforge_edge.rings.ring import SampleRing
from brainforge_edge.storage.files import SystemDisk
from tests.benchmarks.row import Row

FRAMES = 1500
SFREQ = 1000.0
FRAME_NS = round(HELMET_SAMPLES / SFREQ * 1e9)
WALKED = 8 << 20  # bytes: more than a core's own caches
JOURNAL_S = 4.0


class FrameClock:
    """Moves when it is told to."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000_000

    def monotonic_ns(self) -> int:
        return self.now_ns

    def utc_ns(self) -> int | None:
        return None

    def sleep(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


class Turnstile(Bell):
    """The record thread's bell: lets it through when told to, and tells what its turn cost."""

    def __init__(self) -> None:
        super().__init__()
        self.spent_ns: list[int] = []
        self._go = threading.Semaphore(0)
        self._done = threading.Semaphore(0)
        self._began = 0

    def ring(self) -> None:
        """By the pull thread: whoever waits comes through at the next `turn`."""

    def wait(self, timeout_s: float) -> bool:
        if self._began:
            self.spent_ns.append(time.thread_time_ns() - self._began)
        self._done.release()
        self._go.acquire()
        self._began = time.thread_time_ns()
        return True

    def turn(self) -> None:
        self._done.acquire()
        self._go.release()


class Link(FdTransport):
    """A helmet at the other end of a socket; `between` is what happens before each reading of
    a frame, and tells whether there is to be one."""

    def __init__(self, clock: FrameClock, between: Callable[[], bool]) -> None:
        near, self._far = socket.socketpair()
        self._far.setblocking(False)
        near.setblocking(False)
        super().__init__("socket", near.fileno(), near.close)
        (source,) = make_sources("opm")
        speed = SFREQ / source.sfreq
        around = Circumstances(Ledger(None), os.urandom, clock.now_ns, speed=speed)
        self._device = helmet(source, around)
        self._device.plugged(clock.now_ns)
        self._clock = clock
        self._between = between
        self._began = 0
        self.spent_ns: list[int] = []

    def write(self, data: bytes) -> None:
        self._device.receive(data, self._clock.now_ns)

    def read(self, timeout_s: float) -> bytes:
        self._clock.now_ns += FRAME_NS
        self._produce()
        return super().read(timeout_s)

    def fill(self, sink: FrameSink, timeout_s: float) -> int:
        if self._began:
            self.spent_ns.append(time.thread_time_ns() - self._began)
        if not self._between():
            return 0
        self._clock.now_ns += FRAME_NS
        self._produce()
        assert isinstance(sink, BfpScanner)
        sink.pace(0.0)  # it is not to rest until the wall clock's next frame
        self._began = time.thread_time_ns()
        return super().fill(sink, timeout_s)

    def close(self) -> None:
        super().close()
        self._far.close()

    def _produce(self) -> None:
        self._device.produce(self._clock.now_ns)
        self._device.fifo.send(_Wire(self._far))


class _Wire:
    def __init__(self, far: socket.socket) -> None:
        self._far = far

    def write(self, data: bytes | memoryview) -> int:
        return self._far.send(data)


class Bare:
    """The peer."""

    def __init__(self, folder: Path) -> None:
        self.spent_ns: list[int] = []
        self._near, self._far = socket.socketpair()
        self._fd = os.open(folder / "bare", os.O_RDWR | os.O_CREAT)
        self._n = HELMET_SAMPLES * 306
        self._sent = os.urandom(24 + 16 + 39 + 3 * self._n + 4)
        self._wide = np.zeros((self._n, 4), np.uint8)
        self._at = 0

    def turn(self) -> None:
        self._far.send(self._sent)
        began = time.thread_time_ns()
        data = os.read(self._near.fileno(), 65_536)
        samples = np.frombuffer(data, np.uint8, 3 * self._n, 24 + 16 + 39)
        self._wide[:, 1:] = samples.reshape(-1, 3)
        rows = self._wide.view("<i4") >> 8
        os.pwrite(self._fd, samples.data, self._at)
        self.spent_ns.append(time.thread_time_ns() - began)
        self._at = (self._at + len(samples)) % (1 << 22)
        assert len(rows) == self._n

    def close(self) -> None:
        self._near.close()
        self._far.close()
        os.close(self._fd)


class Stand:
    """An acquire process of one helmet without its main, sync and archive threads."""

    def __init__(self, folder: Path, *, frames: int, is_cold: bool) -> None:
        self._folder = folder
        self._frames = frames
        self._walked = np.zeros(WALKED if is_cold else 0, np.uint8)
        self._clock = FrameClock()
        self.bare = Bare(folder)
        self.turnstile = Turnstile()
        self.link = Link(self._clock, self._between)
        self._recording: Recording | None = None
        self._thread: threading.Thread | None = None
        self._pull = Pull(
            make_driver=self._driver,
            adopt=self._adopt,
            admit=threading.Lock(),
            is_recording=lambda: True,
            wake_record=self.turnstile.ring,
            clock=self._clock,
        )

    def run(self) -> None:
        self._pull.run()
        assert self._recording is not None
        assert self._thread is not None
        self._recording.abort.set()
        self.turnstile.turn()
        self._thread.join()
        for failed in (self._pull.crashed, self._recording.crashed):
            if failed is not None:
                raise failed
        for part in self._recording.parts.values():
            part.stream.ring.close()
        self._recording.journal.close()
        self.bare.close()

    def _driver(self) -> BfpDriver:
        config = opm.Config(port="socket")
        part = opm.OpmPart(config, device="bench", clock=self._clock)
        return BfpDriver(
            part, config, device="bench", clock=self._clock, open_transport=lambda: self.link
        )

    def _adopt(self, infos: tuple[StreamInfo, ...]) -> dict[str, AcquiredStream]:
        streams = {}
        for number, info in enumerate(infos, 1):
            path = self._folder / f"{info.stream_id}.ring"
            ring = SampleRing.create(path, info, seconds=4.0)
            ring.recording_row = 0
            continuity = Continuity(info.sfreq, lambda _: 1)
            streams[info.stream_id] = AcquiredStream(info, number, ring, continuity, path)
        self._recording = recording = self._record(streams)
        self._thread = threading.Thread(target=Record(recording).run)
        self._thread.start()
        return streams

    def _record(self, streams: dict[str, AcquiredStream]) -> Recording:
        disk = SystemDisk()
        env = Environment(
            recordings=self._folder,
            node="bench",
            log_id=b"L" * 16,
            boot_id="",
            disk=disk,
            clock=self._clock,
            random=os.urandom,
            sync_ms=80,
            segment_bytes=1 << 24,
            journal_s=JOURNAL_S,
            archived=lambda *_: None,
        )
        infos = {stream.number: stream.info for stream in streams.values()}
        journal = Journal.create(
            self._folder / "bench.journal",
            streams=infos,
            log_id=env.log_id,
            file_bytes=round(JOURNAL_S * sum(info.row_bytes * info.sfreq for info in infos.values())),
            disk=disk,
            random=os.urandom,
        )  # fmt: skip
        parts = {key: Part(stream, 0, 0, 0) for key, stream in streams.items()}
        return Recording("bench", "bench", parts, journal, env, lambda _: None, wake=self.turnstile)

    def _between(self) -> bool:
        """What other threads do in the 8 ms after a frame; False at the end."""
        recording = self._recording
        if recording is None:  # the rings are made by another thread
            time.sleep(0.001)
            return True
        self._walked += 1
        self.turnstile.turn()
        recording.journal.release(recording.journal.appended)
        recording.undurable.clear()
        recording.unreleased.clear()
        for part in recording.parts.values():
            part.stream.ring.set_durable(part.stream.ring.written)
        self._walked += 1
        self.bare.turn()
        self._walked += 1
        if recording.journal.appended < self._frames:
            return True
        self._pull.stop()
        return False


def run(*, frames: int = FRAMES) -> list[Row]:
    rows = []
    for is_cold in (False, True):
        with tempfile.TemporaryDirectory(prefix="bf-hotpath-", dir="/dev/shm") as folder:
            stand = Stand(Path(folder), frames=frames, is_cold=is_cold)
            stand.run()
        how = "cold" if is_cold else "warm"
        peer = statistics.median(stand.bare.spent_ns) / 1000
        pull = statistics.median(stand.link.spent_ns) / 1000
        record = statistics.median(stand.turnstile.spent_ns) / 1000
        rows += [
            Row(f"{how}: {case}", ours, peer, "us/frame", ours / peer)
            for case, ours in (("pull", pull), ("record", record), ("both", pull + record))
        ]
    return rows
