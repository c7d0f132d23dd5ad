"""Recorder first: no reader sees a row before it is journalled, nothing is acknowledged before it is synced."""

import os
import random
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from brainforge_edge.acquisition.record import Record
from brainforge_edge.acquisition.recording import Part
from brainforge_edge.acquisition.sync import Sync
from brainforge_edge.recorder.journal import Entry
from brainforge_edge.rings.reader import RingReader
from brainforge_edge.rings.ring import SampleRing
from brainforge_edge.storage.files import SystemDisk
from tests.faults.rig import STREAM, Rig


class AcknowledgesEarly(Sync):
    """The mutant: `durable` moves before the sync."""

    def once(self) -> bool:
        recording = self._recording
        with recording.marks:
            for _, stream_id, row in recording.undurable:
                ring = recording.parts[stream_id].stream.ring
                ring.set_durable(max(ring.durable, row))
        return super().once()


class ShowsEarly(Record):
    """The mutant: `written` moves before the journal is written."""

    def _write(self, part: Part, upto: int) -> bool:
        ring = part.stream.ring
        ring.set_written(max(ring.written, upto))
        return super()._write(part, upto)


class Spy:
    """Knows what the journal has taken and synced, and looks at the cursors from another mapping."""

    def __init__(self, rig: Rig, seed: int) -> None:
        self.rig = rig
        self.random = random.Random(seed)
        self.journalled = 0
        self.synced = 0
        self.looks = 0
        self.wrong: list[str] = []
        self.stop = threading.Event()
        self.wrap()
        self.reader = RingReader(rig.ring_folder / f"{STREAM}.ring")
        self.thread = threading.Thread(target=self.look)

    def wrap(self) -> None:
        assert self.rig.recording is not None
        journal = self.rig.recording.journal
        append, append_rows, sync = journal.append, journal.append_rows, journal.sync

        def spying_append(entries: list[Entry]) -> int:
            position = append(entries)
            self.journalled += sum(entry.n_samples for entry in entries)
            return position

        def spying_append_rows(
            ring: SampleRing, number: int, first: int, end: int
        ) -> tuple[int, int] | None:
            run = append_rows(ring, number, first, end)
            if run is not None:
                self.journalled += end - first
            return run

        def spying_sync() -> int:
            before = self.journalled
            position = sync()
            self.synced = max(self.synced, before)
            return position

        journal.append = spying_append  # type: ignore[method-assign, assignment]
        journal.append_rows = spying_append_rows  # type: ignore[method-assign]
        journal.sync = spying_sync  # type: ignore[method-assign]

    def look(self) -> None:
        while not self.stop.is_set():
            durable = self.reader.durable
            synced = self.synced
            written = self.reader.written
            journalled = self.journalled
            # The cursors were read before the journal's own counts: an honest cursor is never ahead.
            if durable > synced:
                self.wrong.append(f"durable {durable} of {synced} synced")
            if written > journalled:
                self.wrong.append(f"written {written} of {journalled} journalled")
            self.looks += 1
            self.stop.wait(self.random.uniform(0, 0.0005))


@pytest.fixture
def ring_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="bf-test-", dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder)


class SlowDisk(SystemDisk):
    """Long writes and syncs widen every window in which a wrong order could be seen."""

    def syscall(self, name, function, *args):  # type: ignore[no-untyped-def]
        if name in {"pwrite", "fdatasync"}:
            os.sched_yield()
            threading.Event().wait(0.002)
        return function(*args)


def watched(
    tmp_path: Path, ring_folder: Path, record: type[Record], sync: type[Sync], seed: int
) -> Spy:
    rig = Rig(tmp_path, ring_folder, SystemDisk(), record=record, sync=sync, n_channels=16)
    rig.start()
    spy = Spy(rig, seed)
    rig.disk.syscall = SlowDisk().syscall  # type: ignore[attr-defined]
    spy.thread.start()
    try:
        rig.push_for(1.5)
        rig.finish()
    finally:
        spy.stop.set()
        spy.thread.join()
    assert spy.looks > 100
    return spy


def test_cursors_are_never_ahead_of_the_journal(tmp_path: Path, ring_folder: Path) -> None:
    spy = watched(tmp_path, ring_folder, Record, Sync, 1)
    assert spy.wrong == []
    assert spy.journalled >= 1500 // 8 * 8


@pytest.mark.parametrize(
    ("record", "sync"),
    [(ShowsEarly, Sync), (Record, AcknowledgesEarly)],
    ids=["written before the journal", "durable before the sync"],
)
def test_a_mutant_that_moves_a_cursor_early_is_caught(
    tmp_path: Path, ring_folder: Path, record: type[Record], sync: type[Sync]
) -> None:
    assert watched(tmp_path, ring_folder, record, sync, 2).wrong
