"""A recording that is cut, or whose process is killed: it goes on at the very row where it ended."""

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from brainforge_edge.acquisition import streams as streams_module
from brainforge_edge.acquisition.devicerecording import DeviceRecording
from brainforge_edge.acquisition.pull import Pull
from brainforge_edge.acquisition.recording import Environment
from brainforge_edge.acquisition.stream import AcquiredStream
from brainforge_edge.acquisition.streams import Streams
from brainforge_edge.codec import registry
from brainforge_edge.core.block import GapCause, SampleBlock
from brainforge_edge.core.clock import SystemClock, boot_id
from brainforge_edge.core.stream import Dtype, StreamInfo
from brainforge_edge.devices.base import Driver
from brainforge_edge.recorder.chunk import Chunk
from brainforge_edge.recorder.log import RecordingLog
from brainforge_edge.recorder.verify import StreamAccount, verify_recording
from brainforge_edge.storage.files import SystemDisk
from tests.faults.rig import FRAME, STREAM, rows, stream_info
from tests.faults.ring_overrun_test import SlowDisk

N_CHANNELS = 4


class Device:
    """One device's acquire process without its process: the pull thread's rows, main's heartbeat."""

    def __init__(
        self, root: Path, rings: Path, disk: SlowDisk, *, is_resumed: bool = False
    ) -> None:
        clock = SystemClock()
        log = RecordingLog(root, disk=disk, random=os.urandom)
        env = Environment(
            recordings=root, node="box", log_id=log.log_id, boot_id=boot_id(), disk=disk,
            clock=clock, random=os.urandom, sync_ms=20, segment_bytes=16 * 1024 * 1024,
            journal_s=30.0, archived=lambda *_: None,
        )  # fmt: skip
        admit = threading.Lock()
        self.root = root
        self.clock = clock
        self.streams = Streams("bench", rings=rings, log=log)
        self.recording = DeviceRecording("bench", env, self.streams, admit)
        self.pull = Pull(
            make_driver=_no_driver, adopt=_no_rings, admit=admit, clock=clock,
            is_recording=lambda: self.recording.gates_written, wake_record=self.recording.poke,
        )  # fmt: skip
        if is_resumed:
            self.streams.attach_left(is_resumed=True)
        self.info = stream_info(N_CHANNELS)
        self.stream = self.streams.adopt(
            (self.info,), layout_changes=lambda: None, is_recorded=lambda: False
        )[STREAM]
        self.pushed = 0

    def push(self, n: int, *, every_s: float = 0.0, ahead_ns: int = 0) -> None:
        for _ in range(n // FRAME):
            now = self.clock.monotonic_ns()
            data = rows(self.pushed, FRAME, N_CHANNELS)
            block = SampleBlock(STREAM, 1, self.pushed, now + ahead_ns, data)
            self.pull._push(self.stream, block, "boot", now)
            self.recording.poke()
            self.pushed += FRAME
            time.sleep(every_s)

    def killed(self) -> None:
        """The threads end as they stand: nothing is brought to an end, no cursor moves any more."""
        active = self.recording.active
        assert active is not None
        active.abort.set()
        active.poke()
        for thread in self.recording._threads:
            thread.join(10)
            assert not thread.is_alive()
        active.journal.close()
        self.recording.active = None
        self.streams.close()

    def until(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        """Main's heartbeats until then."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end
            self.recording.advance()
            time.sleep(0.01)

    def is_open(self, name: str) -> bool:
        active = self.recording.active
        return active is not None and active.name == name

    def account(self, name: str) -> StreamAccount:
        def packed(chunk: Chunk) -> bytes:
            dtype = Dtype(chunk.dtype)
            found = registry.decode(
                chunk.codec, chunk.body, dtype, chunk.n_samples, chunk.n_channels
            )
            return registry.pack_rows(found, dtype)

        (stream,) = verify_recording(self.root / name, decode=packed, disk=SystemDisk()).streams
        return stream

    def close(self) -> None:
        self.recording.suspend()
        self.streams.close()


def _no_driver() -> Driver:
    raise AssertionError("rows are pushed by the test")


def _no_rings(_infos: tuple[StreamInfo, ...]) -> dict[str, AcquiredStream]:
    raise AssertionError("rings are there")


@pytest.fixture
def disk() -> SlowDisk:
    return SlowDisk("pwrite", ".seg")


@pytest.fixture
def device(tmp_path: Path, disk: SlowDisk, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    monkeypatch.setattr(streams_module, "RING_S", 1.0)
    rings = Path(tempfile.mkdtemp(prefix="bf-test-", dir="/dev/shm"))
    made = Device(tmp_path / "recordings", rings, disk)
    try:
        yield made
    finally:
        disk.go.set()
        made.close()
        shutil.rmtree(rings)


@pytest.mark.parametrize("stalled_rows", [0, 800, 4000])
def test_a_cut_while_the_disk_stalls_loses_no_row_that_no_gap_names(
    stalled_rows: int, device: Device, disk: SlowDisk
) -> None:
    device.recording.request("r1", 0.0)
    device.until(lambda: device.is_open("r1"))
    device.push(504, every_s=0.001)
    disk.go.clear()
    device.recording.request("r2", 60.0)
    assert not device.is_open("r1")
    device.push(stalled_rows, every_s=0.001)
    disk.go.set()
    device.until(lambda: device.is_open("r2"))
    device.push(504, every_s=0.001)
    device.recording.request_close("r2")
    device.until(lambda: not device.recording._closing)
    first, second = device.account("r1"), device.account("r2")
    assert (first.spans[0].first, first.spans[-1].end, first.gaps) == (0, 504, [])
    assert (second.spans[0].first, second.spans[-1].end) == (504, device.pushed)
    gaps = [named.gap for named in second.gaps]
    assert second.rows + sum(gap.n for gap in gaps) == device.pushed - 504
    assert all(gap.cause is GapCause.BOX for gap in gaps)
    assert bool(gaps) == (stalled_rows > device.stream.ring.capacity)
    assert first.is_clean
    assert second.is_clean


def test_a_stop_and_a_record_are_no_cut(device: Device) -> None:
    device.recording.request("r1", 0.0)
    device.until(lambda: device.is_open("r1"))
    device.push(400)
    device.recording.request_close("r1")
    device.until(lambda: not device.recording._closing)
    device.push(400)
    device.recording.request("r2", 0.1)
    device.until(lambda: device.is_open("r2"))
    device.recording.request_close("r2")
    device.until(lambda: not device.recording._closing)
    assert device.account("r1").rows == 400
    assert device.account("r2").rows == 100


def test_a_recording_without_a_row_leaves_nothing_behind_for_the_next_gap(device: Device) -> None:
    device.push(400)
    device.recording.request("r1", 0.0)
    device.until(lambda: device.is_open("r1"))
    assert device.stream.begins_ns is not None
    device.recording.request_close("r1")
    device.until(lambda: not device.recording._closing)
    assert device.stream.begins_ns is None


@pytest.mark.parametrize("rows_behind", [8, 400])
def test_rows_that_a_killed_process_journalled_but_did_not_mark_are_recorded_once(
    rows_behind: int, device: Device, disk: SlowDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.recording.request("r1", 0.0)
    device.until(lambda: device.is_open("r1"))
    device.push(504)
    ring = device.stream.ring
    device.until(lambda: ring.written == 504)
    for cursor in ("set_written", "set_durable"):
        monkeypatch.setattr(type(ring), cursor, lambda _ring, _row: None)
    device.push(rows_behind)
    active = device.recording.active
    assert active is not None
    part = active.parts[STREAM]
    device.until(lambda: part.journaled == device.pushed)
    device.killed()
    assert ring.written == 504
    monkeypatch.undo()
    monkeypatch.setattr(streams_module, "RING_S", 1.0)
    after = Device(device.root, device.streams._folder, disk, is_resumed=True)
    try:
        assert after.stream.ring.is_attached
        after.pushed = device.pushed
        after.push(80)  # came before the recording is resumed
        after.recording.recover_in_background()
        after.recording.request("r1", 0.0)
        after.until(lambda: after.is_open("r1"))
        after.push(80)
        after.recording.request_close("r1")
        after.until(lambda: not after.recording._closing)
        account = after.account("r1")
        assert (account.rows, account.duplicates) == (after.pushed, 0)
        assert [(span.first, span.end) for span in account.spans] == [(0, after.pushed)]
        assert account.is_clean
    finally:
        after.close()


def test_a_recording_that_ended_while_its_process_was_away_gets_no_row_of_after(
    device: Device, disk: SlowDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who wore the device may have withdrawn; what the killed process left is of before."""
    device.recording.request("r1", 0.0)
    device.until(lambda: device.is_open("r1"))
    device.push(504)
    device.until(lambda: device.stream.ring.durable == 504)
    monkeypatch.setattr(type(device.stream.ring), "set_written", lambda _ring, _row: None)
    device.push(80)
    device.killed()
    monkeypatch.undo()
    monkeypatch.setattr(streams_module, "RING_S", 1.0)
    after = Device(device.root, device.streams._folder, disk, is_resumed=True)
    try:
        after.pushed = device.pushed
        until_ns = after.clock.monotonic_ns() + 10**9
        after.recording.recover_in_background()
        after.recording.request("r1", 0.0, since_ns=0, until_ns=until_ns)
        after.until(lambda: after.is_open("r1"))
        after.push(160, ahead_ns=10**10)
        after.recording.request_close("r1")
        after.until(lambda: not after.recording._closing)
        account = after.account("r1")
        assert [(span.first, span.end) for span in account.spans] == [(0, 584)]
        assert account.is_clean
        assert after.stream.ring.written == after.pushed  # who looks at the signal goes on
    finally:
        after.close()
