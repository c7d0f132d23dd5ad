"""The box of the simulation: a device that comes and goes, the acquire process that records it, what it promised."""

import random
import shutil
from collections import deque
from collections.abc import Callable
from pathlib import Path

from brainforge_edge.acquisition.recording import Environment
from brainforge_edge.core import ipc
from brainforge_edge.core.block import SampleBlock
from brainforge_edge.core.errors import StorageError
from brainforge_edge.core.ranges import Intervals
from brainforge_edge.core.stream import ChannelInfo, Dtype, StreamInfo
from brainforge_edge.recorder.catalog import RecordingFile, write_recording_file
from brainforge_edge.recorder.entry import JournalDamaged
from brainforge_edge.recorder.journalfile import read_journal
from brainforge_edge.rings.ring import SampleRing
from brainforge_edge.storage.files import SystemDisk
from tests.faults.ioerr_disk import FailingDisk, Fault
from tests.faults.turns import DEVICE, Life, SetClock, rows_of
from tests.unit.recorder_faulty_disk import Killed

NODE = "bed-1"
EEG = StreamInfo(
    f"{DEVICE}-eeg", DEVICE, 4.0, Dtype.I16, tuple(ChannelInfo(f"c{i}") for i in range(2))
)
ACC = StreamInfo(f"{DEVICE}-acc", DEVICE, 1.0, Dtype.I16, (ChannelInfo("x"),))
STREAMS = {info.stream_id: info for info in (EEG, ACC)}
RING_S = 120.0
SEGMENT_BYTES = 76_000  # a file of some hundred seconds
JOURNAL_BYTES = 2048  # … of a minute and a half
MOST_CALLS = 30  # until power or process fail
BOOT_ROWS = 2**24  # what a device counts in one life at most
Key = tuple[str, int]  # stream id, incarnation


class SimDisk(FailingDisk):
    """A platter under a page cache, which may fail for a while."""

    def fail(self, error: int, lasts: int) -> None:
        self.struck = 0
        self._fault = Fault(len(self.called), error, lasts)

    def heal(self) -> None:
        self._fault = None

    def power_cut(self, beside: Path, seed: int) -> "SimDisk":
        """The disk as it is found when there is power again."""
        self.let_go()
        self.platter(beside)
        shutil.rmtree(self.root)
        beside.rename(self.root)
        found = SimDisk(self.root, seed=seed)
        found.take_stock(self.root)
        return found


class Box:
    """`step` acquires and records; `die` and `cut_power` as they say."""

    def __init__(self, folder: Path, chance: random.Random, clock: SetClock) -> None:
        self.root = folder / "recordings"
        self.rings = folder / "rings"
        self._beside = folder / "platter"
        for made in (self.root, self.rings):
            made.mkdir(parents=True)
        self.clock = clock
        self.disk = SimDisk(self.root, seed=chance.randrange(2**32))
        self.life: Life | None = None
        self.news: deque[ipc.Archived] = deque()  # for the uplink, through the supervisor
        self.required: dict[Key, Intervals] = {}  # rows that were promised
        # Rows that were written when the process died: they outlive it, and a power cut only once
        # they were recovered.
        self._outlived: dict[Key, Intervals] = {}
        self.boots: dict[Key, int] = {}
        self.recordings = 1
        self.is_linked = True
        self.lives = 0
        self._chance = chance
        self._boot = 0
        self._born_ns = clock.now_ns
        self._next = dict.fromkeys(STREAMS, 0)
        self._seen = dict.fromkeys(STREAMS, 0)  # ring rows that were found durable
        self._is_closing = False
        self._fate: Callable[[], None] | None = None
        self.is_closed = False
        self.stale: list[str] = []
        self._env = Environment(
            recordings=self.root, node=NODE, log_id=b"", boot_id="boot-1", disk=self.disk,
            clock=clock, random=chance.randbytes, sync_ms=80, segment_bytes=SEGMENT_BYTES,
            journal_s=1.0, archived=self._archived, journal_bytes=JOURNAL_BYTES,
        )  # fmt: skip

    @property
    def recording(self) -> str:
        return f"rec-{self.recordings}"

    def _archived(self, recording: str, stream_id: str, segment: str, end: int) -> None:
        self.news.append(
            ipc.Archived(recording=recording, stream_id=stream_id, segment=segment, end=end)
        )

    def strike(self, fate: Callable[[], None]) -> bool:
        """Before one of the next calls that change something on the disk; False if that is to come already."""
        if self._fate is not None:
            return False
        self._fate = fate
        self.disk.at = self.disk.count + self._chance.randint(0, MOST_CALLS)
        return True

    def step(self) -> None:
        """What the device sent since the last step, and a few turns of the threads."""
        try:
            self._acquire()
        except Killed:
            fate, self._fate = self._fate, None
            assert fate is not None
            self.disk.at, self.disk.is_dead = -1, False
            fate()

    def _acquire(self) -> None:
        life = self._living()
        since_ns = self.clock.now_ns - self._born_ns
        for stream_id, info in STREAMS.items():
            first, end = self._next[stream_id], int(since_ns * info.sfreq / 1e9)
            self._next[stream_id] = end
            if life is None or not self.is_linked or end <= first:
                continue
            t_ns = self._born_ns + round(first * 1e9 / info.sfreq)
            rows = rows_of(info, self._boot * BOOT_ROWS + first, end - first)
            block = SampleBlock(stream_id, self._boot, first, t_ns, rows)
            try:
                if life.push(block, f"device-{self._boot}"):
                    ring = life.streams.all[stream_id].ring
                    (newest,) = ring.runs(ring.head - 1, ring.head)
                    self.boots[stream_id, newest.incarnation] = self._boot
            except StorageError:
                life.streams.all[stream_id].continuity.reconnected()  # the link is made anew
        for _ in range(2):
            if life is not None and not self._turn(life):
                return

    def _living(self) -> Life | None:
        if self.life is None and not self.is_closed:
            try:
                self.life = Life(
                    self._env, tuple(STREAMS.values()), rings=self.rings, ring_s=RING_S,
                    open_recording=self.recording,
                )  # fmt: skip
                self.lives += 1
                self._recovered()
            except StorageError:
                self.disk.let_go()
        return self.life

    def _turn(self, life: Life) -> bool:
        """False when the process has ended."""
        if self._is_closing and not life.recording.request_close(self.recording):
            self._closed()
            return False
        try:
            answers = life.turn()
        except StorageError:
            self.die()
            return False
        self._promised(life)
        if self._is_closing and any(
            a.recording == self.recording and not a.is_open for a in answers
        ):
            self._closed()
            return False
        return True

    def _promised(self, life: Life, *, with_written: bool = False) -> None:
        """Rows that another process saw durable, and, where only the process dies, written."""
        for stream_id, stream in life.streams.all.items():
            ring = stream.ring
            self._hold(self.required, stream_id, ring, ring.durable)
            if (
                with_written and ring.recording_row is not None
            ):  # else `written` only follows `head`
                self._hold(self._outlived, stream_id, ring, ring.written)

    def _hold(self, kept: dict[Key, Intervals], stream_id: str, ring: SampleRing, end: int) -> None:
        first = self._seen[stream_id]
        for run in ring.runs(first, end) if end > first else ():
            held = kept.setdefault((stream_id, run.incarnation), Intervals())
            held.add(run.seq, run.seq + run.n)
        self._seen[stream_id] = max(first, end)

    def _recovered(self) -> None:
        """What outlived the process is in segments now, and on the disk."""
        for key, rows in self._outlived.items():
            held = self.required.setdefault(key, Intervals())
            for first, end in rows:
                held.add(first, end)
        self._outlived.clear()

    def _closed(self) -> None:
        self.is_closed = True
        self.die()

    def die(self) -> None:
        """The process ends; page cache and rings stay."""
        life, self.life = self.life, None
        if life is not None:
            self._promised(life, with_written=True)
            life.die()
        self.disk.let_go()
        self._check_order()

    def cut_power(self) -> None:
        life, self.life = self.life, None
        if life is not None:
            self._promised(life)  # whoever watches the ring sees it up to this moment
            life.die()
        self.disk = self._env.disk = self.disk.power_cut(
            self._beside, self._chance.randrange(2**32)
        )
        shutil.rmtree(self.rings)
        self.rings.mkdir()
        self._seen = dict.fromkeys(STREAMS, 0)
        self._outlived.clear()
        self.news.clear()
        self._check_order()

    def reboot_device(self) -> None:
        self._boot += 1
        self._born_ns = self.clock.now_ns
        self._next = dict.fromkeys(STREAMS, 0)

    def next_recording(self) -> None:
        """As a long recording is cut."""
        self.recordings += 1
        if self.life is not None:
            self.life.recording.request(self.recording, 60.0)

    def stop(self) -> None:
        self._is_closing = True

    def calm(self) -> None:
        """Nothing fails any more."""
        self._fate, self.disk.at = None, -1
        self.disk.heal()

    def close_files(self) -> None:
        """`recording.json`, as the agent leaves it."""
        for folder in sorted(self.root.glob("rec-*")):
            file = RecordingFile(folder.name, None, NODE, closed=True)
            write_recording_file(self.root, file, SystemDisk())

    def _check_order(self) -> None:
        """A journal's file gives each stream's rows in their order: none of an earlier lap."""
        disk = SystemDisk()
        for path in sorted(self.root.glob("rec-*/*.journal/*.jrn")):
            last: dict[int, tuple[int, int]] = {}
            try:
                for entry in read_journal(path, disk):
                    place = (entry.incarnation, entry.seq)
                    if place < last.get(entry.stream, (0, -1)):
                        self.stale.append(f"{path.name}: {place} after {last[entry.stream]}")
                        break
                    last[entry.stream] = place
            except JournalDamaged:
                continue
