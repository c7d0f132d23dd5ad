"""Six seconds of a recording with small files on a disk that fails, in simulated time, and the account of it."""

import shutil
from pathlib import Path

import numpy as np

from brainforge_edge.acquisition.recording import Environment
from brainforge_edge.codec import registry
from brainforge_edge.core.block import SampleBlock
from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.stream import ChannelInfo, Codec, Dtype, StreamInfo
from brainforge_edge.recorder.catalog import RecordingFile, write_recording_file
from brainforge_edge.recorder.reader import iter_chunks
from brainforge_edge.recorder.recover import repair_recording
from brainforge_edge.recorder.verify import verify_recording
from brainforge_edge.storage.files import Disk
from tests.faults.ioerr_disk import FailingDisk, Fault
from tests.faults.reference import Found
from tests.faults.turns import DEVICE, Life, SetClock, rows_of
from tests.unit.recorder_box import decode
from tests.unit.recorder_faulty_disk import UnsyncedDisk
from tests.unit.recorder_material import seeded

RECORDING = "rec-1"
STEP_NS = 100_000_000
STEPS = 60
MOST_STEPS = 1500  # in which a recording must have ended
FAST = StreamInfo(f"{DEVICE}-fast", DEVICE, 1000.0, Dtype.I16, (ChannelInfo("c0"),))
SLOW = StreamInfo(
    f"{DEVICE}-slow", DEVICE, 20.0, Dtype.I16, tuple(ChannelInfo(f"c{i}") for i in range(3))
)
STREAMS = (FAST, SLOW)
SEGMENT_BYTES = 76_000  # two chunks beside what is kept free
JOURNAL_BYTES = 4096  # 1.4 s a file
RING_S = 8.0


class Station:
    """A device and the process that records it, which is started again when it ends."""

    def __init__(self, folder: Path, fault: Fault | None, *, seed: int = 1) -> None:
        self.root = folder / "recordings"
        self.rings = folder / "rings"
        for made in (self.root, self.rings):
            made.mkdir(parents=True)
        self.disk = FailingDisk(self.root, fault, seed=seed)
        self.clock = SetClock()
        self.life: Life | None = None
        self.ends = 0  # of the process, by an error that it did not survive
        self.sent = {info.stream_id: 0 for info in STREAMS}
        self.acknowledged = dict(self.sent)
        self._env = Environment(
            recordings=self.root, node="node-1", log_id=b"", boot_id="boot-1", disk=self.disk,
            clock=self.clock, random=seeded(seed), sync_ms=80, segment_bytes=SEGMENT_BYTES,
            journal_s=0.5, archived=lambda *_: None, journal_bytes=JOURNAL_BYTES,
        )  # fmt: skip

    def step(self) -> None:
        """Rows of a tenth of a second, and a turn of each thread."""
        self.clock.now_ns += STEP_NS
        life = self._living()
        if life is None:
            return
        for info in STREAMS:
            first, n = self.sent[info.stream_id], round(info.sfreq * STEP_NS / 1e9)
            t_ns = self.clock.now_ns + round(first * 1e9 / info.sfreq)
            block = SampleBlock(info.stream_id, 0, first, t_ns, rows_of(info, first, n))
            try:
                taken = life.push(block, "device-boot-1")
            except StorageError:  # its incarnation could not be kept: nothing was admitted
                self.die(by_itself=True)
                return
            self.sent[info.stream_id] += n if taken else 0
        self._turn(life)

    def until_recorded(self) -> None:
        """The recording goes on once the fault is over: rows of both streams become durable."""
        before = dict(self.acknowledged)
        for _ in range(MOST_STEPS):
            if all(self.acknowledged[key] > before[key] for key in before):
                return
            self.step()
        raise TimeoutError(f"the recording did not go on within {MOST_STEPS} steps")

    def finish(self) -> None:
        """As a recording is stopped."""
        for _ in range(MOST_STEPS):
            self.clock.now_ns += STEP_NS
            life = self._living()
            if life is None:
                continue
            is_open = life.recording.request_close(RECORDING)
            if self._turn(life) or not is_open:
                self.die()
                return
        raise TimeoutError(f"the recording did not end within {MOST_STEPS} steps")

    def _living(self) -> Life | None:
        if self.life is None:
            try:
                self.life = Life(
                    self._env, STREAMS, rings=self.rings, ring_s=RING_S, open_recording=RECORDING
                )
            except StorageError:
                self.die(by_itself=True)
        return self.life

    def _turn(self, life: Life) -> bool:
        """Whether the recording has been closed."""
        try:
            answers = life.turn()
        except StorageError:
            self.die(by_itself=True)
            return False
        for stream_id, stream in life.streams.all.items():
            self.acknowledged[stream_id] = stream.ring.durable
        return any(not answer.is_open and answer.error is None for answer in answers)

    def die(self, *, by_itself: bool = False) -> None:
        """The process ends; what it wrote stays in the page cache, what it had open is closed."""
        self.ends += by_itself
        if self.life is not None:
            self.life.die()
            self.life = None
        self.disk.let_go()

    def close(self) -> None:
        self.die()
        shutil.rmtree(self.rings)


def compare(root: Path, wanted: dict[str, int], most: dict[str, int]) -> tuple[Found, str]:
    """Rows before `wanted` must be there, once, as they were, and none from `most` on.

    Then what the recorder's own account says wrong: "" if it is exact.
    """
    found = Found()
    for info in STREAMS:
        times = np.zeros(most[info.stream_id], np.int64)
        different = 0
        for path in sorted((root / RECORDING / info.stream_id).glob("*.seg")):
            for whole in iter_chunks(path):
                if whole.head.codec >= Codec.DESCRIPTOR:
                    continue
                chunk = whole.chunk()
                rows = np.frombuffer(decode(chunk), "<i2").reshape(chunk.n_samples, -1)
                wrong = np.any(rows != rows_of(info, chunk.seq, chunk.n_samples), axis=1)
                different += int(wrong.sum()) + max(0, chunk.end - len(times))
                times[chunk.seq : chunk.end] += 1
        lost = int(np.count_nonzero(times[: wanted[info.stream_id]] == 0))
        found += Found(lost, int(times.sum() - np.count_nonzero(times)), different)
    return found, _inexact(root, wanted)


def _inexact(root: Path, wanted: dict[str, int]) -> str:
    if not any(wanted.values()):
        return ""
    if not (root / RECORDING).is_dir():
        return "the recording is not there"
    account = verify_recording(root / RECORDING, decode=decode, disk=UnsyncedDisk())
    if not account.is_clean:
        return f"the account is not clean: {account}"
    for stream in account.streams:
        spans = [(span.first, span.end) for span in stream.spans]
        if stream.gaps or stream.in_journal or len(spans) > 1 or (spans and spans[0][0] != 0):
            return (
                f"{stream.stream_id}: {spans}, gaps {stream.gaps}, {stream.in_journal} in journal"
            )
    return ""


def put_right(root: Path, disk: Disk) -> None:
    """What is left to the next start: leftovers of journals, ends of segments."""
    if (root / RECORDING).is_dir():
        repair_recording(
            root / RECORDING, encode=registry.encode_packed, disk=disk, random=seeded(9),
            segment_bytes=SEGMENT_BYTES,
        )  # fmt: skip
        write_recording_file(root, RecordingFile(RECORDING, None, "node-1", closed=True), disk)
