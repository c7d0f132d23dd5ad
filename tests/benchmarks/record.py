"""Recording alone: bytes at the block device, CPU by thread, and how far `written` and `durable` lag.

The peer of every row of bytes is the packed 24-bit stream. Journal and segments lie on a loop disk
each (the stream's folder in the recording is a link to the second one), so that the sectors written
to each device, file-system journal included, are counted apart and belong to this recording alone.
Chunks are synced several at a time: the count begins and ends right after such a sync, and the codec's
bytes are those of the chunks that lie in the files at these two instants, so that neither side has more.
Without root there is no loop disk: then /proc/PID/io stands in and the goals of bytes are not judged.
"""

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from brainforge_edge.cli.demo.plan import NODE, DemoDevice
from brainforge_edge.cli.demo.sources import read_ledger
from brainforge_edge.core.stream import Codec, StreamInfo
from brainforge_edge.emulators.bfp_kinds import HELMET_SAMPLES
from brainforge_edge.recorder.catalog import RecordingFile, write_recording_file
from brainforge_edge.recorder.chunk import Head
from brainforge_edge.recorder.reader import iter_heads
from brainforge_edge.rings.reader import RingReader
from brainforge_edge.storage.files import SystemDisk
from tests.benchmarks.barerecorder import measured as measured_bare
from tests.benchmarks.box import CYTON, HELMET, HELMET_SFREQ, BenchBox
from tests.benchmarks.lateness import BareTimer, SentTimes, quantile
from tests.benchmarks.loopdisk import LoopDisk, is_possible
from tests.benchmarks.processes import threads_cpu_s, threads_switches, written_bytes
from tests.benchmarks.row import Row

JOURNAL_GOAL = 1.12
CHUNKS_GOAL = 1.01
CPU_GOAL = 3.0
CPU_CODEC_GOAL = 8.0
WRITTEN_GOAL_MS = 10.0
DURABLE_GOAL_MS = 100.0
SYNC_MS = 10.0  # `durable` is promised only where fdatasync stays below this at p99
TBW = 150e12
RECORDING = "bench"
SETTLE_S = 3.0
SYNC_WAIT_S = 30.0
DAY_S = 86_400


def run(*, seconds: float = 60.0) -> list[Row]:
    """The helmet for `seconds`, then the Cyton alone for half of that."""
    rows = []
    for device, stream_id, length in (
        (HELMET, "helmet-mag", seconds),
        (CYTON, "cyton-eeg", seconds / 2),
    ):
        rows += _rows(_measure(device, stream_id, length), is_goal=device is HELMET)
    return rows


@dataclass
class Totals:
    """Counters at one instant."""

    t: float
    journal_bytes: int
    chunk_bytes: int
    process_bytes: int
    rows: int
    codec_bytes: int  # of the chunks in the files
    archived: int
    segment_bytes: int
    cpu: dict[str, float]
    switches: dict[str, int]


@dataclass
class Measured:
    info: StreamInfo
    frame_rows: int
    is_device: bool
    opening_bytes: int
    before: Totals
    after: Totals
    codec_bytes: int
    file_bytes: int
    sync_p99_ms: float
    recorded: int
    lost: int
    waking_percent: float
    least_percent: float  # what a bare recorder took; 0 where none was run
    written_ms: list[float] = field(default_factory=list)
    durable_ms: list[float] = field(default_factory=list)
    timer_ms: list[float] = field(default_factory=list)


@dataclass
class Disks:
    """Two loop devices, or none."""

    journal: LoopDisk | None = None
    chunks: LoopDisk | None = None

    def bytes_written(self) -> tuple[int, int]:
        if self.journal is None or self.chunks is None:
            return 0, 0
        return self.journal.bytes_written(), self.chunks.bytes_written()


@contextmanager
def _disks(root: Path, recordings: Path, stream_id: str) -> Iterator[Disks]:
    if not is_possible():
        yield Disks()
        return
    with (
        LoopDisk(root / "journal.img", recordings, mib=1024) as journal,
        LoopDisk(root / "chunks.img", root / "chunks", mib=4096) as chunks,
    ):
        for folder in (recordings / RECORDING, chunks.mount / stream_id):
            folder.mkdir()
        (recordings / RECORDING / stream_id).symlink_to(chunks.mount / stream_id)
        yield Disks(journal, chunks)


def _measure(device: DemoDevice, stream_id: str, seconds: float) -> Measured:
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bf-record-")))
        run = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bf-", dir="/dev/shm")))
        recordings = root / "box" / "recordings"
        box = BenchBox(root, run, devices=[device], is_whole=False)
        disks = stack.enter_context(_disks(root, recordings, stream_id))
        # Left open by an earlier life, so that the daemon resumes it in the folder prepared here.
        left_open = RecordingFile(RECORDING, time.time_ns(), NODE)
        write_recording_file(recordings, left_open, SystemDisk())
        blank = disks.bytes_written()
        stack.enter_context(box)
        box.until(lambda: box.streams()[stream_id].get("recorded"), 30.0, "the recording")
        time.sleep(SETTLE_S)
        opening = disks.bytes_written()
        before = _totals(box, device, stream_id, disks)
        lags = Lags(box, device, stream_id)
        with BareTimer() as timer:
            lags.follow(seconds)
        after = _totals(box, device, stream_id, disks)
        worker = next(w for w in box.status()["workers"] if w["name"] == f"acquire:{device.name}")
        box.stop_devices()
        box.stop_recording()
        folder = recordings / RECORDING / stream_id
        heads = _heads(folder)
        n_recorded = sum(head.n_samples for head in heads)
        least = measured_bare(root, seconds / 3) if device is HELMET else {}
        emitted = read_ledger(box.plan.ledger(device)).emitted
        return Measured(
            info=lags.info,
            frame_rows=HELMET_SAMPLES if device is HELMET else 1,
            is_device=disks.journal is not None,
            opening_bytes=opening[0] - blank[0],
            before=before,
            after=after,
            codec_bytes=sum(head.body_bytes for head in heads),
            file_bytes=sum(path.stat().st_size for path in folder.glob("*.seg")),
            sync_p99_ms=float(worker["recording"]["sync_p99_ms"]),
            recorded=n_recorded,
            lost=emitted - min(head.seq for head in heads) - n_recorded,
            waking_percent=timer.cpu_percent,
            least_percent=sum(least.values()),
            written_ms=lags.written_ms,
            durable_ms=lags.durable_ms,
            timer_ms=timer.late_ms,
        )


def _totals(box: BenchBox, device: DemoDevice, stream_id: str, disks: Disks) -> Totals:
    pid = box.pids()[f"acquire:{device.name}"]
    before = int(box.streams()[stream_id]["archived_rows"])
    box.until(
        lambda: int(box.streams()[stream_id]["archived_rows"]) > before, SYNC_WAIT_S, "a sync"
    )
    stream = box.streams()[stream_id]
    folder = box.plan.recordings / RECORDING / stream_id
    codec_bytes = -1
    while codec_bytes != (found := sum(head.body_bytes for head in _heads(folder))):
        codec_bytes = found  # a chunk that came meanwhile belongs to both or to none
        journal, chunks = disks.bytes_written()
    return Totals(
        t=time.monotonic(),
        journal_bytes=journal,
        chunk_bytes=chunks,
        process_bytes=written_bytes(pid),
        rows=RingReader(box.ring(stream_id)).written,
        codec_bytes=codec_bytes,
        archived=int(stream["archived_rows"]),
        segment_bytes=int(stream["log_bytes"]),
        cpu=threads_cpu_s(pid),
        switches=threads_switches(pid),
    )


def _heads(folder: Path) -> list[Head]:
    """Of the chunks of samples."""
    found = [located.head for path in folder.glob("*.seg") for located in iter_heads(path)]
    return [head for head in found if head.codec < Codec.DESCRIPTOR]


class Lags:
    """Follows the ring's cursors from this process, as any reader does."""

    def __init__(self, box: BenchBox, device: DemoDevice, stream_id: str) -> None:
        self._reader = RingReader(box.ring(stream_id))
        self.info = self._reader.info
        self._sent = SentTimes(box.plan.ledger(device), HELMET_SFREQ) if device is HELMET else None
        self._ahead = 0  # device index of a row, less its row number
        self.written_ms: list[float] = []
        self.durable_ms: list[float] = []

    def follow(self, seconds: float) -> None:
        """A helmet's rows: from the last byte of each due at the device, to seen in this process."""
        if self._sent is None:
            time.sleep(seconds)
            return
        stop = threading.Event()
        watcher = threading.Thread(target=self._watch_durable, args=(self._sent, stop))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not self._reader.wait(0.1):
                continue
            now = time.monotonic_ns()
            rows = self._reader.read(4096)
            if rows is None:
                continue
            for found in rows.runs:
                self._ahead = found.seq - found.row
                sent = self._sent.sent_all_ns(found.seq, found.seq + found.n)
                self.written_ms += ((now - sent) / 1e6).tolist()
            if not watcher.is_alive():
                watcher.start()
        stop.set()
        watcher.join()

    def _watch_durable(self, sent: SentTimes, stop: threading.Event) -> None:
        """Each 7 ms: how old the oldest row is that is not durable yet; 0 if there is none."""
        while not stop.wait(0.007):
            durable, written = self._reader.durable, self._reader.written
            now = time.monotonic_ns()
            age = (now - sent.sent_ns(durable + self._ahead)) / 1e6 if durable < written else 0.0
            self.durable_ms.append(max(0.0, age))


def _rows(m: Measured, *, is_goal: bool) -> list[Row]:
    name = f"{m.info.n_channels} ch @ {m.info.sfreq:g} Hz"
    return [*_byte_rows(m, name, is_goal=is_goal), *_cpu_rows(m, name, is_goal=is_goal),
            *(_lag_rows(m, name) if is_goal else []),
            Row(f"{name}: samples lost of {m.recorded}", m.lost, None, "samples", None, "= 0",
                m.lost == 0)]  # fmt: skip


def _byte_rows(m: Measured, name: str, *, is_goal: bool) -> list[Row]:
    length = m.after.t - m.before.t
    raw = (m.after.rows - m.before.rows) * m.info.row_bytes
    archived_raw = (m.after.archived - m.before.archived) * m.info.row_bytes
    segments = m.after.segment_bytes - m.before.segment_bytes
    coded = m.codec_bytes / (m.recorded * m.info.row_bytes)
    per_file = m.file_bytes / m.codec_bytes

    def megabytes(case: str, ours: float, peer: float, goal: float = 0.0, of: str = "raw") -> Row:
        ratio = ours / peer if peer else float("nan")
        is_judged = bool(goal) and is_goal
        text = f"<= {goal:g} x {of}" if is_judged else ""
        return Row(f"{name}: {case}", ours / 1e6 / length, peer / 1e6 / length, "MB/s", ratio,
                   text, ratio <= goal if is_judged else None)  # fmt: skip

    if not m.is_device:
        process = m.after.process_bytes - m.before.process_bytes
        where = "no loop disk without root; acquire's write_bytes"
        return [megabytes(f"{where}, journal and chunks", process, raw),
                megabytes("chunks in the files", segments, archived_raw)]  # fmt: skip
    journal = m.after.journal_bytes - m.before.journal_bytes
    chunks = m.after.chunk_bytes - m.before.chunk_bytes
    per_day = (journal + chunks) / length * DAY_S
    return [
        megabytes("journal at the device", journal, raw, JOURNAL_GOAL),
        megabytes("chunks at the device", chunks, m.after.codec_bytes - m.before.codec_bytes,
                  CHUNKS_GOAL, "codec size"),
        Row(f"{name}: chunks in the files", m.file_bytes / 1e6, m.codec_bytes / 1e6, "MB",
            per_file, "<= 1.01 x codec size" if is_goal else "",
            per_file <= CHUNKS_GOAL if is_goal else None),
        Row(f"{name}: codec size", coded, 1.0, "x raw", coded),
        megabytes("journal and chunks at the device", journal + chunks, raw),
        Row(f"{name}: zeros of the journal at the opening of a recording", m.opening_bytes / 1e6,
            None, "MB once", None),
        Row(f"{name}: written a day", per_day / 1e9, None, "GB/day", None),
        Row(f"{name}: life of a 150 TBW disk", TBW / per_day / 365, None, "years", None),
    ]  # fmt: skip


def _cpu_rows(m: Measured, name: str, *, is_goal: bool) -> list[Row]:
    length = m.after.t - m.before.t
    spent = {
        thread: 100 * (cpu - m.before.cpu.get(thread, 0.0)) / length
        for thread, cpu in m.after.cpu.items()
    }
    total = sum(spent.values())
    bare = total - spent.get("archive", 0.0)

    def percent(case: str, ours: float, goal: float = 0.0) -> Row:
        is_judged = bool(goal) and is_goal
        return Row(f"{name}: CPU of acquire, {case}", ours, m.waking_percent,
                   "% of a core (waking 125/s)", ours / m.waking_percent, f"<= {goal:g}" if is_judged else "", ours <= goal if is_judged else None)  # fmt: skip

    least = m.least_percent
    return [
        percent("without the codec's thread", bare, CPU_GOAL),
        *(
            [Row(f"{name}: … against a bare recorder", bare, least, "% of a core", bare / least)]
            if least
            else []
        ),
        percent("with it", total, CPU_CODEC_GOAL),
        *(percent(f"thread {thread}", share) for thread, share in sorted(spent.items())),
        *(_switch_row(m, name, thread) for thread in ("pull", "record")),
    ]


def _switch_row(m: Measured, name: str, thread: str) -> Row:
    """Which no load of the machine moves: two waits of a thread for one frame are one too many."""
    rate = (m.after.switches[thread] - m.before.switches[thread]) / (m.after.t - m.before.t)
    frames = m.info.sfreq / m.frame_rows
    return Row(f"{name}: thread {thread} waits", rate, frames, "/s (frames)", rate / frames)


def _lag_rows(m: Measured, name: str) -> list[Row]:
    def late(case: str, ms: list[float], q: float, goal: float = 0.0, *, of: bool = True) -> Row:
        ours = quantile(ms, q)
        timer = quantile(m.timer_ms, q)
        is_judged = bool(goal) and of
        return Row(f"{name}: {case}", ours, timer, "ms (timer)", ours / timer,
                   f"<= {goal:g} ms" if goal else "", ours <= goal if is_judged else None)  # fmt: skip

    is_fast = m.sync_p99_ms <= SYNC_MS
    return [
        Row(f"{name}: fdatasync p99", m.sync_p99_ms, None, "ms", None),
        late("last byte sent -> written, p50", m.written_ms, 0.5),
        late("last byte sent -> written, p99", m.written_ms, 0.99, WRITTEN_GOAL_MS),
        late("durable behind, p50", m.durable_ms, 0.5),
        late("durable behind, p99", m.durable_ms, 0.99, DURABLE_GOAL_MS, of=is_fast),
        late("durable behind, max", m.durable_ms, 1.0),
    ]
