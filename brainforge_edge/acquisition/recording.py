"""One recording of one device: its journal, the positions of its streams, and its three threads.

Runs in: acquire process. `record` (ring → journal → `written`), `sync` (fdatasync → `durable`) and
`archive` (rows → chunks → segments) each own one file; what they share is here. Lock rule: no
thread holds two locks.
"""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from brainforge_edge.acquisition.stream import AcquiredStream
from brainforge_edge.core.clock import Clock, take_anchor
from brainforge_edge.core.errors import BrainforgeError
from brainforge_edge.core.threads import Bell
from brainforge_edge.recorder.identity import Identity
from brainforge_edge.recorder.journal import Journal
from brainforge_edge.recorder.sealing import Sealing
from brainforge_edge.security.keystore import NO_KEYS, KeyStore
from brainforge_edge.security.seal import DataKey
from brainforge_edge.storage.files import Disk

OVERRUN = "storage.ring_overrun"  # code of the error of rows that left the ring
JOURNAL = "journal"  # where a fault struck; no stream has this name: an id begins with its device's
RETRY_S = 0.25  # after a write that failed


@dataclass(slots=True)
class Part:
    """A stream's place in the recording. Rows are ring rows."""

    stream: AcquiredStream
    first: int  # first row of the recording
    journaled: int  # next row to journal (record thread)
    archived: int  # rows before it lie in synced segments (archive thread); never moves back
    close_at: int | None = None  # set when the recording is to end there
    # Row ranges that left the ring before they could be journalled, oldest first: the record
    # thread appends them before it moves `journaled`, the archive thread drops what it has passed
    # and synced.
    skipped: deque[tuple[int, int]] = field(default_factory=deque)
    # Rows before it that are not durable in the journal lie in a file that failed, and no longer
    # in the ring: `durable` waits until the archive has passed them.
    hold_until: int = 0
    # (incarnation, seq) behind what the recording held before, where the ring knows nothing of it: a
    # power cut. What is missing from there to the first row is a gap.
    after: tuple[int, int] | None = None
    rewritten: int = 0  # rows before it were journalled once, some of them in a file that failed

    @property
    def end(self) -> int:
        """Where it ends if it ends now."""
        return self.stream.ring.head if self.close_at is None else self.close_at


@dataclass(slots=True)
class Environment:
    """What a recording needs from outside, so that faults can be simulated."""

    recordings: Path
    node: str
    log_id: bytes
    boot_id: str
    disk: Disk
    clock: Clock
    random: Callable[[int], bytes]
    sync_ms: int
    segment_bytes: int
    journal_s: float
    archived: Callable[[str, str, str, int], None]  # recording, stream_id, segment, end
    participant: str = ""  # pseudonym of who wears the device, where no session says it
    worn: dict[str, str] = field(default_factory=dict)  # recording of a session → pseudonym
    sealing: Sealing | None = None  # None: what is recorded is not sealed
    private: KeyStore = NO_KEYS  # the box's own, for recovery alone
    journal_bytes: int = 1024 * 1024  # … of entries in a file of the journal, at least

    def participant_of(self, recording: str) -> str:
        """Whose rows a recording holds; "" where nobody said it."""
        return self.worn.get(recording, self.participant)

    def data_key(self, recording: str) -> DataKey | None:
        """What the recording's files are sealed with; its wrapped form is on the disk. StorageError."""
        if self.sealing is None:
            return None
        return self.sealing.key_for(recording, self.participant_of(recording))

    def identity(self, recording: str, key: DataKey | None) -> Identity:
        """Who records, with both clocks as they stand now."""
        anchor = take_anchor(self.clock, self.boot_id)
        return Identity(
            recording=recording,
            node=self.node,
            log_id=self.log_id,
            anchors=(anchor,),
            participant=self.participant_of(recording),
            key_id=key.key_id.hex() if key is not None else "",
        )


@dataclass(slots=True, eq=False)
class Recording:
    """Shared by the three threads of one recording."""

    name: str
    device: str
    parts: dict[str, Part]
    journal: Journal
    env: Environment
    let_go: Callable[["Recording"], None]
    key: DataKey | None = None
    wake: Bell = field(default_factory=Bell)  # the record thread waits for it
    # (journal position after the entries, stream_id, row after them), in order of writing.
    # `marks` guards `undurable` and `durable` between record and sync.
    marks: threading.Lock = field(default_factory=threading.Lock)
    undurable: deque[tuple[int, str, int]] = field(default_factory=deque)
    unreleased: deque[tuple[int, str, int]] = field(default_factory=deque)
    is_closing: bool = False  # every part has its `close_at`
    rewrite: threading.Event = field(default_factory=threading.Event)  # a sync failed
    drained: threading.Event = field(default_factory=threading.Event)  # record reached close_at
    synced: threading.Event = field(default_factory=threading.Event)  # … and all of it is durable
    finished: threading.Event = field(default_factory=threading.Event)  # … and archived
    abort: threading.Event = field(default_factory=threading.Event)  # give up waiting for the disk
    # The last one by where it struck: JOURNAL or a stream's segments. It goes with the next sync there
    # alone: a journal that is written says nothing of segments that cannot be opened.
    faults: dict[str, BrainforgeError] = field(default_factory=dict)
    crashed: BaseException | None = None
    syncs: deque[float] = field(default_factory=lambda: deque(maxlen=1000))  # ms each

    @property
    def folder(self) -> Path:
        return self.env.recordings / self.name

    @property
    def fault(self) -> BrainforgeError | None:
        """What keeps the disk from taking something now; the journal's before a stream's."""
        faults = self.faults.copy()  # in one step: three threads change it
        return faults.get(JOURNAL) or next(iter(faults.values()), None)

    def poke(self) -> None:
        """Wake the record thread."""
        self.wake.ring()

    def close(self, until: dict[str, int]) -> None:
        """End at these rows (stream_id → row); the threads finish by themselves."""
        for stream_id, part in self.parts.items():
            part.close_at = until[stream_id]
        self.is_closing = True
        self.poke()

    def stats(self) -> dict[str, Any]:
        syncs = sorted(self.syncs)
        fault = self.fault
        return {
            "fault": fault.as_dict() if fault else None,
            "sync_p99_ms": round(syncs[int(len(syncs) * 0.99)], 2) if syncs else None,
        }
